// SPDX-License-Identifier: BSL-1.0
// Asio's channels behind the interface of this scenario.
#pragma once

#include "coroutines.hpp"

#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/experimental/concurrent_channel.hpp>

#include <cstddef>

namespace bench {

// send(v) and receive() return what a coroutine awaits.
template <class Channel>
class asio_channel_of {
public:
    asio_channel_of(asio::any_io_executor executor, std::size_t capacity)
        : channel_(executor, capacity) {}

    auto send(int value) {
        return channel_.async_send(boost::system::error_code(), value, asio::deferred);
    }
    auto receive() { return channel_.async_receive(asio::deferred); }

private:
    Channel channel_;
};

using message = void(boost::system::error_code, int);
using asio_channel = asio_channel_of<asio::experimental::channel<message>>;
using asio_concurrent_channel = asio_channel_of<asio::experimental::concurrent_channel<message>>;

} // namespace bench
