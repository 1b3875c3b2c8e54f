// SPDX-License-Identifier: BSL-1.0
// Every layer in every other one.
#pragma once

#include "policy/chaos_support.hpp"

#include <boost/version.hpp>

#include <array>
#include <tuple>
#include <utility>
#include <vector>

namespace test {

inline constexpr std::size_t layer_count = 8;
inline constexpr std::size_t retry_layer = 2, hedge_layer = 3, rate_layer = 4, room_layer = 5;

/// One of each, with those of the household by name.
struct every_layer {
    explicit every_layer(household& h) : home(h), again(retries(h)) {}

    household& home;
    tidegate::fallback<int (*)(failure const&)> instead{&zero};
    timeout limit{8ms};
    retry again;
    hedge twice{hedges()};

    template <std::size_t Which>
    auto& get() {
        return std::get<Which>(
            std::tie(instead, limit, again, twice, home.rate, home.room, home.fuse, home.tide));
    }
};

template <std::size_t Outer, std::size_t Inner>
void exercise_pair(test::random& dice) {
    household home;
    every_layer layers(home);
    chaos const fire{storm(dice())};
    // A hedge inside runs several attempts on one permit.
    constexpr bool bounded = Inner == room_layer || (Outer == room_layer && Inner != hedge_layer);
    auto const owed = [&]() -> bill {
        constexpr bool once_a_call =
            Outer == rate_layer && (Inner == retry_layer || Inner == hedge_layer);
        constexpr std::uint64_t limiters = (Outer == rate_layer) + (Inner == rate_layer);
        constexpr bool once_a_pass = Outer == hedge_layer; // whose attempts retry on their own
        return {limiters * (once_a_call ? home.calls.size() : home.passes),
                once_a_pass ? home.passes_of_retries : home.retries()};
    };
    INFO("layer " << Outer << " outside layer " << Inner);
    exercise(home, policy{layers.get<Outer>(), layers.get<Inner>(), gate(home), fire}, dice,
             bounded, owed);
}

/// The schedules in turn through all pairs with one of `Outer` outside, but that of the bulkhead
/// with itself.
template <std::size_t... Outer>
void exercise_pairs() {
#if BOOST_VERSION < 108500
    SKIP("co_spawn loses a cancellation that comes before the start: tests/compilers");
#endif
    using pair = void (*)(test::random&);
    std::vector<pair> all;
    auto const add = [&]<std::size_t One, std::size_t... Inner>(
                         std::integral_constant<std::size_t, One>, std::index_sequence<Inner...>) {
        // Who holds a permit of a bulkhead and waits for another may wait for ever.
        ((One == room_layer && Inner == room_layer ? void()
                                                   : all.push_back(&exercise_pair<One, Inner>)),
         ...);
    };
    (add(std::integral_constant<std::size_t, Outer>(), std::make_index_sequence<layer_count>()),
     ...);
    for (std::uint64_t const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random dice(seed);
        for (std::size_t i = 0; i < test::schedules() / 2; ++i) {
            INFO("schedule " << i);
            all[i % all.size()](dice);
        }
    }
}

} // namespace test
