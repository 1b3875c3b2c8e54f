// SPDX-License-Identifier: BSL-1.0
// Other ways to record latencies, behind one interface: record(ns), percentile(fraction) in ns.
#pragma once

#include <prometheus/histogram.h>
#include <prometheus/summary.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <mutex>
#include <vector>

namespace bench {

/// What people write first: the last samples in order, and a mutex.
class sorted_vector {
public:
    void record(std::uint64_t ns) {
        std::lock_guard lock(mutex_);
        if (in_time_.size() == kept) {
            sorted_.erase(std::lower_bound(sorted_.begin(), sorted_.end(), in_time_.front()));
            in_time_.pop_front();
        }
        in_time_.push_back(ns);
        sorted_.insert(std::lower_bound(sorted_.begin(), sorted_.end(), ns), ns);
    }
    double percentile(double fraction) const {
        std::lock_guard lock(mutex_);
        if (sorted_.empty()) return 0;
        auto const rank = std::ceil(fraction * static_cast<double>(sorted_.size()));
        return static_cast<double>(sorted_[static_cast<std::size_t>(std::max(1.0, rank)) - 1]);
    }

private:
    static constexpr std::size_t kept = 10'000;

    mutable std::mutex mutex_;
    std::deque<std::uint64_t> in_time_;
    std::vector<std::uint64_t> sorted_;
};

/// As HdrHistogram's atomic form: 128 linear buckets a power of two, shared by all threads.
class atomic_log_linear {
public:
    void record(std::uint64_t ns) noexcept {
        counts_[index(ns)].fetch_add(1, std::memory_order_relaxed);
        sum_.fetch_add(ns, std::memory_order_relaxed);
        std::uint64_t most = max_.load(std::memory_order_relaxed);
        while (ns > most && !max_.compare_exchange_weak(most, ns, std::memory_order_relaxed)) {
        }
    }
    double percentile(double fraction) const {
        std::uint64_t count = 0;
        for (auto const& one : counts_) count += one.load(std::memory_order_relaxed);
        auto const rank = static_cast<std::uint64_t>(
            std::max(1.0, std::ceil(fraction * static_cast<double>(count))));
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            seen += counts_[i].load(std::memory_order_relaxed);
            if (seen >= rank) return middle(i);
        }
        return 0;
    }

private:
    static constexpr unsigned bits = 7;

    static std::size_t index(std::uint64_t ns) noexcept {
        auto const width = static_cast<unsigned>(std::bit_width(ns));
        if (width <= bits + 1) return static_cast<std::size_t>(ns);
        unsigned const shift = width - (bits + 1);
        return (std::size_t{shift} << bits) + static_cast<std::size_t>(ns >> shift);
    }
    static double middle(std::size_t i) noexcept {
        std::size_t const shift = i < (2u << bits) ? 0 : (i >> bits) - 1;
        double const low =
            std::ldexp(static_cast<double>(i - (shift << bits)), static_cast<int>(shift));
        return low + (shift ? std::ldexp(0.5, static_cast<int>(shift)) : 0);
    }

    std::array<std::atomic<std::uint64_t>, (64 - bits + 1) << bits> counts_{};
    std::atomic<std::uint64_t> sum_{0};
    std::atomic<std::uint64_t> max_{0};
};

/// prometheus-cpp's, in seconds, with OpenTelemetry's default bounds.
class prometheus_histogram {
public:
    void record(std::uint64_t ns) { histogram_.Observe(static_cast<double>(ns) * 1e-9); }
    double percentile(double fraction) const {
        auto const all = histogram_.Collect().histogram;
        double const rank = fraction * static_cast<double>(all.sample_count);
        double below = 0, seen = 0;
        for (auto const& bucket : all.bucket) {
            auto const upto = static_cast<double>(bucket.cumulative_count);
            if (upto >= rank) {
                // As PromQL does.
                if (std::isinf(bucket.upper_bound)) return below * 1e9;
                double const share = upto > seen ? (rank - seen) / (upto - seen) : 1;
                return (below + (bucket.upper_bound - below) * share) * 1e9;
            }
            below = bucket.upper_bound;
            seen = upto;
        }
        return below * 1e9;
    }

private:
    prometheus::Histogram histogram_{prometheus::Histogram::BucketBoundaries{
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}};
};

/// prometheus-cpp's, with the quantiles asked for and its default of five age buckets.
class prometheus_summary {
public:
    void record(std::uint64_t ns) { summary_.Observe(static_cast<double>(ns) * 1e-9); }
    double percentile(double fraction) const {
        for (auto const& one : summary_.Collect().summary.quantile) {
            if (one.quantile == fraction) return one.value * 1e9;
        }
        return std::numeric_limits<double>::quiet_NaN();
    }

private:
    prometheus::Summary mutable summary_{prometheus::Summary::Quantiles{
        {0.5, 0.05}, {0.9, 0.01}, {0.99, 0.001}, {0.999, 0.0001}, {0.9999, 0.00001}}};
};

} // namespace bench
