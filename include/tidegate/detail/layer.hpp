// SPDX-License-Identifier: BSL-1.0
// How a layer of a policy and the call that goes through it talk to each other.
#pragma once

#include <tidegate/call.hpp>

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <string>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// What a layer wants when a result comes out through it.
struct step {
    enum class what { pass, again, settle };
    /// `pass` the result on; do all inside this layer `again`, after a pause; or `settle` the
    /// result with an operation of the layer's own.
    what next = what::pass;
    std::chrono::nanoseconds pause{0};
};

/// The state of one call in one layer, with what most layers do. A layer's `call` is made from the
/// layer and
/// - `enter`s: no error to go on inward, `would_block` to be `wait`ed for, another to refuse;
/// - `leave`s with the result, which it may change.
/// It is destroyed with the call, whichever way that ends, and gives back what it holds then.
/// Neither function is called with a lock held; both run where the call's coroutine runs.
class layer_call {
public:
    template <class Executor, class Context>
    boost::asio::awaitable<error_code, Executor> wait(Context&) {
        co_return error_code();
    }

    template <class Executor, class Context, class T>
    boost::asio::awaitable<void, Executor> settle(Context&, outcome<T>&) {
        co_return;
    }
};

/// "250 ms", "1.5 s", as short as it is exact.
inline std::string to_text(std::chrono::nanoseconds time) {
    struct unit {
        char const* name;
        std::int64_t nanoseconds;
    };
    constexpr unit units[] = {{"s", 1'000'000'000}, {"ms", 1'000'000}, {"us", 1000}, {"ns", 1}};
    for (unit const& u : units) {
        if (time.count() % (u.nanoseconds >= 1000 ? u.nanoseconds / 1000 : 1) != 0) continue;
        if (time.count() < u.nanoseconds) continue;
        std::string text = std::to_string(time.count() / u.nanoseconds);
        if (std::int64_t const rest = time.count() % u.nanoseconds) {
            std::string digits = std::to_string(1000 + rest / (u.nanoseconds / 1000)).substr(1);
            digits.erase(digits.find_last_not_of('0') + 1);
            text += "." + digits;
        }
        return text + " " + u.name;
    }
    return std::to_string(time.count()) + " ns";
}

} // namespace detail
TIDEGATE_END_NAMESPACE
