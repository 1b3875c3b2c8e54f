// SPDX-License-Identifier: BSL-1.0
// The state of an adaptive limiter: who is in, what they showed, when the limit moves.
#pragma once

#include <tidegate/adaptive_limiter.hpp>
#include <tidegate/detail/fast_word.hpp>
#include <tidegate/detail/trace_source.hpp>

#include <boost/config.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <mutex>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Counts latencies from many threads without a lock: a log-linear table as core::histogram, with
/// 32 buckets for each power of two. A count that races with `take` is in this window or the next.
class latency_counts {
public:
    void record(std::uint64_t ns) noexcept {
        counts_[index(std::min(ns, largest))].fetch_add(1, std::memory_order_relaxed);
    }

    /// The mean of the fastest 95 %, 0 if there are none; starts anew.
    double take() noexcept {
        std::array<std::uint32_t, size> taken;
        std::uint64_t total = 0;
        for (std::size_t i = 0; i < size; ++i) {
            taken[i] = counts_[i].load(std::memory_order_relaxed);
            if (taken[i]) taken[i] = counts_[i].exchange(0, std::memory_order_relaxed);
            total += taken[i];
        }
        std::uint64_t const wanted = total - total / 20;
        std::uint64_t seen = 0;
        double sum = 0;
        for (std::size_t i = 0; seen < wanted; ++i) {
            std::uint64_t const n = std::min<std::uint64_t>(taken[i], wanted - seen);
            sum += static_cast<double>(n) * middle(i);
            seen += n;
        }
        return wanted ? sum / static_cast<double>(wanted) : 0;
    }

private:
    static constexpr unsigned sub_bits = 5;
    static constexpr std::uint64_t sub_count = 1 << sub_bits;
    static constexpr std::uint64_t largest = (std::uint64_t{1} << 40) - 1; // 18 minutes
    static constexpr std::size_t size = (40 - sub_bits + 1) * sub_count;

    static std::size_t index(std::uint64_t value) noexcept {
        auto const width = static_cast<unsigned>(std::bit_width(value));
        if (width <= sub_bits + 1) return static_cast<std::size_t>(value);
        unsigned const shift = width - (sub_bits + 1);
        return static_cast<std::size_t>(shift * sub_count + (value >> shift));
    }

    static double middle(std::size_t i) noexcept {
        if (i < 2 * sub_count) return static_cast<double>(i);
        std::uint64_t const shift = i / sub_count - 1;
        double const width = static_cast<double>(std::uint64_t{1} << shift);
        return (static_cast<double>(i - shift * sub_count) + 0.5) * width;
    }

    std::array<std::atomic<std::uint32_t>, size> counts_{};
};

/// The word says who may come in:
///
///     word = abandoned (1 bit) | epoch (15) | limit (24) | in flight (24)
///
/// A call comes in and leaves by one exchange of it, so nobody is ever let in above the limit. The
/// epoch counts the limits; a permit carries the one it was granted under. Whoever leaves counts
/// first and leaves last, so the state is there until then: once the limiter is gone (abandoned),
/// the last one out deletes it.
///
/// Whoever counts the last sample of a window takes the lock, unless it is taken, and moves the
/// limit; nobody waits for it.
template <class Clock>
class adaptive_limiter_state {
public:
    using permit = basic_adaptive_permit<Clock>;
    using time_point = typename Clock::time_point;

    explicit adaptive_limiter_state(adaptive_limiter_options const& options)
        : options_(options),
          rule_(options.limit()),
          word_(std::uint64_t{options.limit().initial()} << count_bits) {}

    template <class Now>
    permit try_acquire(priority p, Now now) noexcept {
        // Looked at first: after the exchange the load would have to wait for it.
        if (trace_.is_heard()) [[unlikely]]
            return try_and_tell(p, now);
        return take(p, now);
    }

    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        trace_.attach("adaptive_limiter", std::move(observer), std::move(name));
    }

    void success(std::uint32_t epoch, typename Clock::duration latency) noexcept {
        if (epoch == epoch_of(word_.load())) {
            auto const ns = std::chrono::duration_cast<std::chrono::nanoseconds>(latency).count();
            latencies_.record(static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 1)));
            count_sample();
        }
        leave();
    }

    void dropped(std::uint32_t epoch) noexcept {
        if (epoch == epoch_of(word_.load())) {
            drops_.fetch_add(1, std::memory_order_relaxed);
            count_sample();
        }
        leave();
    }

    void leave() noexcept {
        std::uint64_t const now = word_.update([](std::uint64_t seen) { return seen - 1; });
        if (is_last(now)) delete this;
    }

    /// The limiter goes.
    void abandon() noexcept {
        std::uint64_t const now = word_.update([](std::uint64_t seen) { return seen | abandoned; });
        if (is_last(now)) delete this;
    }

    std::uint32_t limit() const noexcept { return limit_of(word_.load()); }
    std::uint32_t in_flight() const noexcept { return in_flight_of(word_.load()); }

    adaptive_limiter_statistics statistics() const {
        std::lock_guard lock(mutex_);
        adaptive_limiter_statistics s = stats_;
        s.refused = refused_.load(std::memory_order_relaxed);
        s.baseline = std::chrono::nanoseconds(static_cast<std::int64_t>(rule_.baseline()));
        return s;
    }

private:
    static constexpr unsigned count_bits = 24;
    static constexpr std::uint64_t count_mask = (std::uint64_t{1} << count_bits) - 1;
    static constexpr std::uint32_t epoch_mask = (1u << 15) - 1;
    static constexpr std::uint64_t abandoned = std::uint64_t{1} << 63;
    static_assert(concurrency_limit_options::most < count_mask);

    template <class Now>
    BOOST_NOINLINE permit try_and_tell(priority p, Now now) noexcept {
        permit taken = take(p, now);
        trace_.emit(taken ? trace_event::acquired : trace_event::rejected, 1,
                    taken ? error_code() : error_code(error::overloaded));
        return taken;
    }

    template <class Now>
    permit take(priority p, Now now) noexcept {
        std::uint64_t seen = word_.load();
        while (in_flight_of(seen) < allowed(limit_of(seen), p)) {
            if (!word_.exchange(seen, seen + 1)) continue;
            note_in_flight(in_flight_of(seen) + 1);
            return permit(this, epoch_of(seen), now());
        }
        refused_.fetch_add(1, std::memory_order_relaxed);
        return {};
    }

    static std::uint32_t in_flight_of(std::uint64_t word) noexcept {
        return static_cast<std::uint32_t>(word & count_mask);
    }
    static std::uint32_t limit_of(std::uint64_t word) noexcept {
        return static_cast<std::uint32_t>(word >> count_bits & count_mask);
    }
    static std::uint32_t epoch_of(std::uint64_t word) noexcept {
        return static_cast<std::uint32_t>(word >> (2 * count_bits)) & epoch_mask;
    }
    static bool is_last(std::uint64_t word) noexcept {
        return (word & abandoned) && in_flight_of(word) == 0;
    }

    // Rounded up: a share of a small limit is never nothing.
    std::uint32_t allowed(std::uint32_t limit, priority p) const noexcept {
        std::uint64_t const share = options_.share_in_thousandths(p);
        return static_cast<std::uint32_t>((limit * share + 999) / 1000);
    }

    void note_in_flight(std::uint32_t n) noexcept {
        std::uint32_t seen = max_in_flight_.load(std::memory_order_relaxed);
        while (seen < n &&
               !max_in_flight_.compare_exchange_weak(seen, n, std::memory_order_relaxed)) {
        }
    }

    // Release and acquire: who ends the window sees the latencies of all that it counts.
    void count_sample() noexcept {
        std::uint32_t const n = samples_.fetch_add(1, std::memory_order_acq_rel) + 1;
        if (!is_full(n)) return;
        std::unique_lock lock(mutex_, std::try_to_lock);
        if (!lock || !is_full(samples_.load(std::memory_order_acquire))) return;
        std::uint32_t const before = limit();
        end_window();
        std::uint32_t const after = limit();
        auto const latency = stats_.latency;
        lock.unlock();
        if (after != before) trace_.emit(trace_event::limit_changed, after, {}, latency);
    }

    // A limit that went down does not wait for as many calls as were in before.
    bool is_full(std::uint32_t samples) const noexcept {
        if (samples < options_.window_samples()) return false;
        return samples / 4 >= std::min(limit(), max_in_flight_.load(std::memory_order_relaxed));
    }

    void end_window() noexcept {
        core::limit_window window;
        window.latency = latencies_.take();
        window.samples = samples_.load(std::memory_order_relaxed);
        window.drops = drops_.exchange(0, std::memory_order_relaxed);
        window.max_in_flight = max_in_flight_.load(std::memory_order_relaxed);
        std::uint64_t const refused = refused_.load(std::memory_order_relaxed);
        window.refused = refused - std::exchange(refused_before_, refused);

        auto const limit = static_cast<std::uint64_t>(rule_.update(window));
        ++stats_.windows;
        stats_.probes += rule_.probing();
        stats_.latency = std::chrono::nanoseconds(static_cast<std::int64_t>(window.latency));
        std::uint64_t const now =
            word_.update([&](std::uint64_t seen) { return with_limit(seen, limit); });
        max_in_flight_.store(in_flight_of(now), std::memory_order_relaxed);
        samples_.store(0, std::memory_order_release);
    }

    // A limit that stays is no new epoch: what began under it counts on.
    static std::uint64_t with_limit(std::uint64_t seen, std::uint64_t limit) noexcept {
        if (limit == limit_of(seen)) return seen;
        std::uint64_t const epoch = (epoch_of(seen) + 1) & epoch_mask;
        return (seen & abandoned) | epoch << (2 * count_bits) | limit << count_bits |
               in_flight_of(seen);
    }

    adaptive_limiter_options const options_;
    core::concurrency_limit rule_; // this and what follows to the word: under the lock
    adaptive_limiter_statistics stats_;
    std::uint64_t refused_before_ = 0;
    mutable std::mutex mutex_;
    [[no_unique_address]] trace_source trace_; // beside the word that is read with it
    fast_word<std::mutex> word_;
    std::atomic<std::uint32_t> samples_{0};
    std::atomic<std::uint32_t> drops_{0};
    std::atomic<std::uint32_t> max_in_flight_{0};
    std::atomic<std::uint64_t> refused_{0};
    latency_counts latencies_;
};

} // namespace detail

template <class Clock>
void basic_adaptive_permit<Clock>::success(time_point now) noexcept {
    if (state* const s = std::exchange(state_, nullptr)) s->success(epoch_, now - start_);
}

template <class Clock>
void basic_adaptive_permit<Clock>::dropped() noexcept {
    if (state* const s = std::exchange(state_, nullptr)) s->dropped(epoch_);
}

template <class Clock>
void basic_adaptive_permit<Clock>::ignore() noexcept {
    if (state* const s = std::exchange(state_, nullptr)) s->leave();
}

TIDEGATE_END_NAMESPACE
