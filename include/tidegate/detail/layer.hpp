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

/// What a layer does, as far as its place in the chain matters.
enum class layer_kind { other, timeout, retry, hedge, breaker, limiter, bulkhead, fallback };

template <class Layer>
consteval layer_kind kind_of() {
    if constexpr (requires { Layer::kind; }) return Layer::kind;
    else return layer_kind::other;
}

/// An order of two layers that is seldom meant.
struct suspect_order {
    layer_kind outer;
    layer_kind inner;
    char const* why;
};
inline constexpr suspect_order suspect_orders[] = {
    {layer_kind::breaker, layer_kind::retry,
     "circuit_breaker outside retry: it hears only of what the retries could not mend; put it "
     "inside"},
    {layer_kind::retry, layer_kind::retry,
     "retry inside retry: attempts multiply; let both share a retry_budget"},
    {layer_kind::retry, layer_kind::fallback,
     "fallback inside retry: what it answers is not retried; put it outside"},
    {layer_kind::breaker, layer_kind::fallback,
     "fallback inside circuit_breaker: it hides the failures; put it outside"},
    {layer_kind::hedge, layer_kind::fallback,
     "fallback inside hedge: its answer wins the race; put it outside"},
    {layer_kind::bulkhead, layer_kind::retry,
     "bulkhead outside retry: a call holds its permit while it pauses; put it inside"},
    {layer_kind::bulkhead, layer_kind::limiter,
     "bulkhead outside rate_limiter: a call holds its permit while it waits for the rate; put it "
     "inside"},
    {layer_kind::hedge, layer_kind::limiter,
     "hedge outside rate_limiter: a call that waits in line looks late and is hedged; put the "
     "limiter outside"},
    {layer_kind::limiter, layer_kind::timeout,
     "rate_limiter outside timeout: its waiting is not bounded by the timeout"},
    {layer_kind::bulkhead, layer_kind::timeout,
     "bulkhead outside timeout: its waiting is not bounded by the timeout"},
};

/// The state of one call in one layer, with what most layers do. A layer's `call` is made from the
/// layer and
/// - `enter`s: no error to go on inward, `would_block` to be `wait`ed for, another to refuse;
/// - `leave`s with the result, which it may change.
/// It is destroyed with the call, whichever way that ends, and gives back what it holds then.
/// Neither function is called with a lock held; both run where the call's coroutine runs.
class layer_call {
public:
    /// False for a layer that stands for what is called: if nobody gets in, that has failed.
    static constexpr bool refuses = true;

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
