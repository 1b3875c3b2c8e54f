// SPDX-License-Identifier: BSL-1.0
// What the tests of policies share: a clock that stands still and operations that do as they are
// told.
#pragma once

#include <tidegate/policy.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <deque>
#include <exception>
#include <functional>
#include <optional>

namespace test {

namespace asio = boost::asio;
using namespace std::chrono_literals;

struct policy_tag;
using policy_clock = tidegate::testing::basic_manual_clock<policy_tag>;
using context = tidegate::basic_call_context<policy_clock>;
using timer = tidegate::timer_for_t<policy_clock, asio::any_io_executor>;

inline tidegate::failure failure_of(std::exception_ptr thrown) { return tidegate::failure(thrown); }

inline asio::awaitable<void> idle(policy_clock::duration time) {
    timer t(co_await asio::this_coro::executor);
    t.expires_at(policy_clock::now() + time);
    co_await t.async_wait(asio::deferred);
}

/// A call started from outside, with what came of it.
template <class T>
struct guarded_call {
    std::optional<T> value;
    tidegate::failure why;
    int completions = 0;
    policy_clock::time_point at;
    asio::cancellation_signal signal;

    template <class Policy, class Op>
    void start(asio::io_context& io, Policy const& policy, Op op) {
        asio::co_spawn(
            io, policy(std::move(op)),
            asio::bind_cancellation_slot(signal.slot(), [this](std::exception_ptr e, T v) {
                ++completions;
                at = policy_clock::now();
                if (e) why = failure_of(e);
                else value = std::move(v);
            }));
    }
    bool running() const { return completions == 0; }
    bool failed_with(tidegate::error_code const& ec) const {
        return completions == 1 && !value && why.code() == ec;
    }
};

inline void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

/// Moves the clock to every expiry up to `time` from now, running handlers at each.
inline void pass(asio::io_context& io, policy_clock::duration time) {
    auto const end = policy_clock::now() + time;
    run(io);
    for (auto next = policy_clock::next_expiry(); next && *next <= end;
         next = policy_clock::next_expiry()) {
        policy_clock::advance_to(*next);
        run(io);
    }
    policy_clock::advance_to(end);
    run(io);
}

/// Lets everything happen that is going to.
inline void finish(asio::io_context& io) {
    do run(io);
    while (policy_clock::advance_to_next());
    run(io);
}

} // namespace test
