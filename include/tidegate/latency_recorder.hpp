// SPDX-License-Identifier: BSL-1.0
// Records durations from many threads without making any of them wait.
#pragma once

#include <tidegate/core/histogram.hpp>
#include <tidegate/detail/latency_shard.hpp>
#include <tidegate/detail/per_thread.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <new>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// Durations, in a histogram for each thread that records.
///
///     tidegate::latency_recorder latencies;
///     latencies.record(took);                                    // from any thread
///     auto const p99 = latencies.snapshot().percentile(0.99);    // in ns
///
/// Guarantees. A percentile is off by at most 0.28 % from 1 ns to 9.77 h; count, sum, minimum and
/// maximum are exact; nothing recorded is lost, whatever threads end meanwhile. Negative durations
/// and those that are not finite are counted apart. In a snapshot, count is the sum of all buckets,
/// and each of them is at least what it was in an earlier one; the sum may be ahead or behind by
/// the durations that are being recorded at that moment, one a thread.
///
/// `record` is wait-free: no lock, no atomic read-modify-write, one cache line of its own thread's
/// for each bucket. It allocates 1 KiB when a thread first records within a power of two (12 KiB
/// for usual latencies, 46 KiB at most a thread), and never throws: without memory, a duration
/// counts as overflow. A thread's memory is given back when it ends.
///
/// Thread-safe, apart from construction and destruction. Not for use in signal handlers. A child
/// after fork() has what the parent had.
class latency_recorder {
public:
    latency_recorder() = default;
    latency_recorder(latency_recorder const&) = delete;
    latency_recorder& operator=(latency_recorder const&) = delete;

    /// Rounded to nanoseconds.
    template <class Rep, class Period>
    void record(std::chrono::duration<Rep, Period> took) noexcept {
        auto* const mine = shards_.mine();
        if constexpr (std::chrono::treat_as_floating_point_v<Rep>) {
            if (!std::isfinite(took.count()) || took.count() < 0) return refuse(mine);
            double const ns = std::chrono::duration<double, std::nano>(took).count();
            put(mine, ns < 9e18 ? std::llround(ns) : std::chrono::nanoseconds::max().count());
        } else {
            put(mine, std::chrono::duration_cast<std::chrono::nanoseconds>(took).count());
        }
    }

    /// Everything up to now. Less than 1 us a thread; recording goes on.
    core::histogram snapshot() const {
        return shards_.with_all([this](auto const& shards) {
            core::histogram sum = ended_;
            for (auto const& one : shards) one->add_to(sum);
            return sum;
        });
    }

    /// How many durations were negative or not finite.
    std::uint64_t invalid() const noexcept {
        return shards_.with_all([this](auto const& shards) {
            std::uint64_t sum = ended_invalid_;
            for (auto const& one : shards) sum += one->invalid();
            return sum;
        });
    }

    /// Allocates this thread's part for durations from `from` to `to`, both 1 ns to 9.77 h, so that
    /// recording them does not. Throws std::bad_alloc.
    void prefault(std::chrono::nanoseconds from, std::chrono::nanoseconds to) {
        auto const in_grid = [](std::chrono::nanoseconds ns) {
            return static_cast<std::uint64_t>(std::clamp<std::int64_t>(
                ns.count(), 1, static_cast<std::int64_t>(core::duration_grid::longest)));
        };
        auto* const mine = shards_.mine();
        if (!mine) throw std::bad_alloc();
        mine->prefault(in_grid(from), in_grid(to));
    }

private:
    friend class detail::per_thread<latency_recorder, detail::latency_shard>;

    void put(detail::latency_shard* mine, std::int64_t ns) noexcept {
        if (mine) [[likely]]
            return mine->record(ns);
        if (ns < 0) return refuse(mine);
        shards_.with_all([&](auto const&) {
            try {
                ended_.record(static_cast<std::uint64_t>(ns));
            } catch (...) { // no memory
                ended_.add_overflows(1);
            }
        });
    }

    void refuse(detail::latency_shard* mine) noexcept {
        if (mine) return mine->record_invalid();
        shards_.with_all([&](auto const&) { ++ended_invalid_; });
    }

    void fold(detail::latency_shard const& gone) {
        core::histogram sum = ended_;
        gone.add_to(sum);
        ended_ = std::move(sum);
        ended_invalid_ += gone.invalid();
    }

    // Of threads that have ended, under the shards' lock.
    core::histogram ended_;
    std::uint64_t ended_invalid_ = 0;
    detail::per_thread<latency_recorder, detail::latency_shard> shards_{*this};
};

TIDEGATE_END_NAMESPACE
