// SPDX-License-Identifier: BSL-1.0
// What docs/boost-versions.md says of single versions is so.
#include <tidegate/semaphore.hpp>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/system_executor.hpp>

#include <catch2/catch_test_macros.hpp>

#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/lsan_interface.h>
#define TIDEGATE_TEST_MAY_LEAK() __lsan::ScopedDisabler const leaks_are_expected
#endif
#endif
#ifndef TIDEGATE_TEST_MAY_LEAK
#define TIDEGATE_TEST_MAY_LEAK() static_cast<void>(0)
#endif

namespace asio = boost::asio;
using tidegate::error_code;
using tidegate::semaphore;

namespace {

[[maybe_unused]] auto const do_nothing = [](error_code, semaphore::permit) {};
using bound = asio::cancellation_slot_binder<std::remove_const_t<decltype(do_nothing)>,
                                             asio::cancellation_slot>;

template <class Token>
concept acquires =
    requires(semaphore& s, Token&& token) { s.async_acquire(static_cast<Token&&>(token)); };

asio::awaitable<void> ends_at_once() { co_return; }
asio::awaitable<void> keeps(std::shared_ptr<int>) { co_return; }

} // namespace

TEST_CASE("a token defaults to deferred, whatever this Boost names as default") {
    using token = tidegate::detail::default_token_t<asio::any_io_executor>;
    CHECK(std::is_same_v<token, asio::deferred_t>);
}

TEST_CASE(
    "handlers with a bound property are taken as temporaries, as variables and as constants") {
    CHECK(acquires<bound>);
    CHECK(acquires<bound&>);
#if BOOST_VERSION < 108400
    CHECK_FALSE(acquires<bound const&>); // Asio's adapters have no such overload
#elif BOOST_VERSION >= 108800
    CHECK(acquires<bound const&>);
#endif
}

TEST_CASE("a coroutine that is cancelled before it starts tells its handler, from Boost 1.88 on") {
    asio::io_context io;
    asio::cancellation_signal cancel;
    std::exception_ptr told;
    auto const handler = [&](std::exception_ptr e) { told = e; };
    asio::co_spawn(io, ends_at_once(), asio::bind_cancellation_slot(cancel.slot(), handler));
    cancel.emit(asio::cancellation_type::terminal);
#if BOOST_VERSION < 108400
    CHECK_THROWS_AS(io.run(), boost::system::system_error); // Asio's co_spawn loses it
    CHECK_FALSE(told);
#elif BOOST_VERSION >= 108800
    io.run();
    CHECK(told);
#endif
}

TEST_CASE("assigning to an awaitable leaks the coroutine that it had, up to Boost 1.88") {
    auto const held = std::make_shared<int>(1);
    {
        TIDEGATE_TEST_MAY_LEAK();
        auto first = keeps(held), second = keeps(held);
        first = std::move(second);
    }
#if BOOST_VERSION <= 108800
    CHECK(held.use_count() == 2);
#elif BOOST_VERSION >= 109200
    CHECK(held.use_count() == 1);
#endif
}

TEST_CASE(
    "a handler without an executor is for other threads up to Boost 1.88, and in place later") {
    using ours = asio::associated_executor_t<decltype(do_nothing)>;
#if BOOST_VERSION <= 108800
    CHECK(std::is_same_v<ours, asio::system_executor>);
#elif BOOST_VERSION >= 109200
    CHECK_FALSE(std::is_same_v<ours, asio::system_executor>);
#endif
}
