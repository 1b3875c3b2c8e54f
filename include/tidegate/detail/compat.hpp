// SPDX-License-Identifier: BSL-1.0
// Most of what depends on the version of Boost or of the compiler.
#pragma once

#include <tidegate/config.hpp>

#include <boost/version.hpp>

#if BOOST_VERSION < 108300
#error "tidegate needs Boost 1.83 or newer"
#endif

#include <boost/asio/async_result.hpp>
#include <boost/asio/deferred.hpp>

#include <type_traits>

// g++ 12.0 to 12.2 destroys some temporaries inside a co_await expression twice.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ == 12 && __GNUC_MINOR__ < 3
#define TIDEGATE_DOUBLE_DESTROYS_AWAIT_TEMPORARIES 1
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

namespace asio = boost::asio;

/// The executor's own default token; `deferred` where Boost names none (before 1.86).
template <class Executor>
using default_token_t =
    std::conditional_t<std::is_void_v<asio::default_completion_token_t<Executor>>, asio::deferred_t,
                       asio::default_completion_token_t<Executor>>;

/// A callable that is passed as a temporary into an awaited call is destroyed twice by g++ 12.2;
/// harmless only when destroying it does nothing.
template <class Callable>
inline constexpr bool survives_await_as_temporary =
#if defined(TIDEGATE_DOUBLE_DESTROYS_AWAIT_TEMPORARIES)
    std::is_lvalue_reference_v<Callable> || std::is_trivially_destructible_v<Callable>;
#else
    true;
#endif

} // namespace detail
TIDEGATE_END_NAMESPACE
