// SPDX-License-Identifier: BSL-1.0
// The buckets that durations are counted in.
#pragma once

#include <tidegate/config.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// Bucket i holds durations of more than 2^((i-1)/128) seconds, up to and including 2^(i/128): the
/// grid of Prometheus' native histograms with schema 7, and of OpenTelemetry's exponential ones
/// with scale 7. Merging pairs of neighbours gives schema 6, and so on down, exactly.
///
/// Durations are whole nanoseconds from 1 to `longest`, 9.77 hours. Slot 0 is the bucket of 1 ns;
/// the slot of a duration costs one look-up and one comparison, since bounds fall into the same
/// places of every power of two.
namespace duration_grid {

inline constexpr unsigned schema = 7;
inline constexpr std::size_t octave = std::size_t{1} << schema; ///< buckets a power of two
inline constexpr std::size_t octaves = 45;
inline constexpr std::uint64_t longest = (std::uint64_t{1} << octaves) - 1;
inline constexpr std::size_t slots = octaves * octave + 1;
/// The bucket number of slot 0.
inline constexpr int first_bucket = -3826;

namespace detail {

// A second is f * 2^29 ns, exactly, and ends the bucket that is this far up in its octave.
inline constexpr long double second = 1953125.0L / (1 << 20);
inline constexpr int second_at = 114;

consteval long double root(long double x) {
    long double r = x;
    for (int i = 0; i < 64; ++i) r = (r + x / r) / 2;
    return r;
}

// The end of each bucket of an octave whose end lies in it, as a fraction of 2^64 of 2.
consteval std::array<std::uint64_t, octave> make_ends() {
    long double step = 2;
    for (unsigned i = 0; i < schema; ++i) step = root(step);
    std::array<std::uint64_t, octave> ends{};
    long double up = second, down = second;
    auto const place = [&](int at, long double f) {
        ends[static_cast<std::size_t>(at)] =
            static_cast<std::uint64_t>(f * (std::uint64_t{1} << 63));
    };
    for (int i = second_at; i < static_cast<int>(octave); ++i, up *= step) place(i, up);
    for (int i = second_at; i >= 0; --i, down /= step) place(i, down);
    return ends;
}
inline constexpr auto ends = make_ends();

// For each 256th of an octave, the only end in it, and in its last 8 bits how many come before.
consteval std::array<std::uint64_t, 256> make_cells() {
    std::array<std::uint64_t, 256> cells{};
    for (std::uint64_t c = 0; c < 256; ++c) {
        std::uint64_t const begin = (256 + c) << 55;
        std::uint64_t before = 0;
        while (ends[before] < begin) ++before; // the last end lies in the last 256th
        cells[c] = (ends[before] & ~std::uint64_t{255}) | before;
    }
    return cells;
}
inline constexpr auto cells = make_cells();

} // namespace detail

/// The power of two of a duration from 1 to `longest`, and the slot within it; the 128th is the
/// first of the next.
struct position {
    std::size_t power;
    std::size_t within;

    constexpr std::size_t slot() const noexcept { return power * octave + within; }
};
constexpr position position_of(std::uint64_t ns) noexcept {
    auto const zeros = static_cast<unsigned>(std::countl_zero(ns));
    std::uint64_t const mantissa = ns << zeros;
    std::uint64_t const cell = detail::cells[(mantissa >> 55) & 255];
    return {63 - zeros, static_cast<std::size_t>(cell & 255) + (mantissa > cell)};
}
constexpr std::size_t slot_of(std::uint64_t ns) noexcept { return position_of(ns).slot(); }

/// The longest duration that belongs to a slot; slots of less than 1 ns may have none, and then
/// have the same as the slot before.
constexpr std::uint64_t last_of(std::size_t slot) noexcept {
    std::size_t const power = slot / octave;
    return power == octaves ? longest : detail::ends[slot % octave] >> (63 - power);
}

/// The bucket number of a slot at a coarser schema, 0 to 7.
constexpr int bucket_of(std::size_t slot, unsigned at_schema = schema) noexcept {
    int const bucket = static_cast<int>(slot) + first_bucket;
    int const merged = 1 << (schema - at_schema);
    return bucket > 0 ? (bucket + merged - 1) / merged : -(-bucket / merged);
}

} // namespace duration_grid
} // namespace core
TIDEGATE_END_NAMESPACE
