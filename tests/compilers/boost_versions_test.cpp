// SPDX-License-Identifier: BSL-1.0
// What docs/boost-versions.md says of single versions is so.
#include <tidegate/semaphore.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>

#include <catch2/catch_test_macros.hpp>

#include <type_traits>

namespace asio = boost::asio;
using tidegate::error_code;
using tidegate::semaphore;

namespace {

auto const do_nothing = [](error_code, semaphore::permit) {};
using bound = asio::cancellation_slot_binder<std::remove_const_t<decltype(do_nothing)>,
                                             asio::cancellation_slot>;

template <class Token>
concept acquires =
    requires(semaphore& s, Token&& token) { s.async_acquire(static_cast<Token&&>(token)); };

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
