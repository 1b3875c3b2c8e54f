// SPDX-License-Identifier: BSL-1.0
// A gate made of Asio's channel: waiters receive, waking is sending.
#pragma once

#include "coroutines.hpp"

#include <boost/asio/cancel_after.hpp>
#include <boost/asio/experimental/channel.hpp>

#include <chrono>
#include <cstddef>
#include <utility>

namespace bench {

template <class Executor>
class asio_channel_gate {
public:
    using executor_type = Executor;

    asio_channel_gate(Executor executor, std::size_t waiters)
        : waiters_(waiters), channel_(executor) {}

    template <class Token>
    auto async_wait(Token&& token) {
        return channel_.async_receive(std::forward<Token>(token));
    }

    // One by one: try_send_n does not compile for this signature in Boost 1.88.
    void wake_all() {
        for (std::size_t i = 0; i < waiters_; ++i) channel_.try_send(boost::system::error_code());
    }

    void rearm() {}

private:
    std::size_t waiters_;
    asio::experimental::channel<Executor, void(boost::system::error_code)> channel_;
};

// Any gate, with Asio's own deadline around each wait.
template <class Gate>
class cancel_after_gate : public Gate {
public:
    using Gate::Gate;

    template <class Token>
    auto async_wait(Token&& token) {
        return Gate::async_wait(
            asio::cancel_after(std::chrono::seconds(1), std::forward<Token>(token)));
    }
};

} // namespace bench
