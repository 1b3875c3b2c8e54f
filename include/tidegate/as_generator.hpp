// SPDX-License-Identifier: BSL-1.0
// Reads a channel as a generator.
#pragma once

#include <tidegate/channel.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/coro.hpp>

#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

template <class T, class Clock, class Executor, class Mutex>
boost::asio::experimental::coro<T, void, Executor>
generate([[maybe_unused]] Executor executor,
         std::shared_ptr<channel_state<T, Clock, Executor, Mutex>> channel) {
    using state = channel_state<T, Clock, Executor, Mutex>;
    for (;;) {
        std::optional<T> next = channel->try_receive();
        if (!next) {
            auto token = boost::asio::as_tuple(boost::asio::deferred);
            auto receiving = boost::asio::async_initiate<decltype(token), void(error_code, T)>(
                initiation<state, receive_value>(*channel), token, state::no_deadline);
            auto received = co_await std::move(receiving);
            error_code const ec = std::get<0>(received);
            if (ec == error::closed) co_return;
            if (ec) throw boost::system::system_error(ec);
            next.emplace(std::move(std::get<1>(received)));
        }
        co_yield std::move(*next);
    }
}

} // namespace detail

/// The values of `channel` as a generator, which ends once the channel is closed and empty:
///
///     auto frames = tidegate::as_generator(executor, channel);
///     while (auto frame = co_await frames) use(*frame);                               // in a coro
///     while (auto frame = co_await frames.async_resume(asio::deferred)) use(*frame);  // elsewhere
///
/// It takes no value before it is asked for one. Cancelling a pending resumption makes it throw
/// boost::system::system_error with `operation_aborted`, takes no value, and ends the generator, as
/// any exception does. Several generators share the values of one channel. The channel's state
/// lives as long as the generator; destroying the channel closes it, which ends the generator once
/// the buffer is empty. One allocation, for the coroutine's frame.
///
/// Asio's coro has rules of its own. It runs on `executor`, which runs one thing at a time: that of
/// the caller, who resumes it there, and there alone cancels. Only terminal cancellation is heard.
/// Whoever waits for a value while the context is destroyed leaks, and with it all that it holds:
/// close the channel, and run the context until it has ended, before that.
template <class T, class Clock, class Executor, class Mutex>
boost::asio::experimental::coro<T, void, Executor>
as_generator(std::type_identity_t<Executor> executor,
             basic_channel<T, Clock, Executor, Mutex>& channel) {
    return detail::generate<T, Clock, Executor, Mutex>(std::move(executor),
                                                       detail::channel_access::state_of(channel));
}

/// As above, on the channel's executor.
template <class T, class Clock, class Executor, class Mutex>
boost::asio::experimental::coro<T, void, Executor>
as_generator(basic_channel<T, Clock, Executor, Mutex>& channel) {
    return as_generator(channel.get_executor(), channel);
}

TIDEGATE_END_NAMESPACE
