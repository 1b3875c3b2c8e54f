// SPDX-License-Identifier: BSL-1.0
// Gathers single requests of many coroutines into batches.
#pragma once

#include <tidegate/core/batch_rule.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/initiation.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

using core::batch_reason;

/// Settings of a batcher, with their defaults.
class batcher_options {
public:
    /// The most items in a batch, 1 to 65536; default 16.
    batcher_options& max_size(std::size_t n) {
        detail::check_option<std::size_t>("batcher max_size", n, 1, 65536);
        max_size_ = n;
        return *this;
    }
    /// How long an incomplete batch may wait, counted from its oldest item, 0 to 1 hour. Default 0:
    /// an idle worker takes what is there, and batches grow only while all are busy.
    batcher_options& max_delay(std::chrono::nanoseconds delay) {
        detail::check_option<std::int64_t>("batcher max_delay in ns", delay.count(), 0,
                                           std::chrono::nanoseconds(std::chrono::hours(1)).count());
        max_delay_ = delay;
        return *this;
    }
    /// Batches that may run at once, 1 to 4096; default: the threads of the pool.
    batcher_options& max_in_flight(std::size_t n) {
        detail::check_option<std::size_t>("batcher max_in_flight", n, 1, 4096);
        max_in_flight_ = n;
        return *this;
    }

    std::size_t max_size() const noexcept { return max_size_; }
    std::chrono::nanoseconds max_delay() const noexcept { return max_delay_; }
    std::size_t max_in_flight() const noexcept { return max_in_flight_; } ///< 0: as the pool

private:
    std::size_t max_size_ = 16;
    std::chrono::nanoseconds max_delay_{0};
    std::size_t max_in_flight_ = 0;
};

/// What a batcher has done so far. The mean batch is `items / batches`.
struct batcher_stats {
    std::uint64_t batches = 0;          ///< executed, failed ones too
    std::uint64_t items = 0;            ///< in those
    std::vector<std::uint64_t> by_size; ///< by_size[n]: batches of n items; n up to max_size
    std::array<std::uint64_t, core::batch_reasons> by_reason{}; ///< indexed by batch_reason

    std::uint64_t closed_for(batch_reason reason) const noexcept {
        return by_reason[static_cast<std::size_t>(reason)];
    }
};

namespace detail {
template <class In, class Out, class Clock, class Executor>
class batcher_state;
struct submit_item;
} // namespace detail

/// Runs a batch function over items that many callers submit one by one.
///
///     tidegate::batcher<image, boxes> detect(pool, options, run_model);
///     auto found = co_await detect.submit(std::move(img));
///
/// Guarantees: items are taken in the order in which they came. Every caller gets the result at its
/// own position. When the batch function throws, the callers in that batch get the exception, and
/// nobody else. A caller that is cancelled leaves at once: its item leaves the queue, or, if the
/// batch runs already, its result is thrown away. A batch grows until a worker really starts it.
///
/// The batch function is `std::vector<Out> run(std::span<In>)`, called on the pool, by up to
/// `max_in_flight` threads at once. It returns as many results as it was given items; anything else
/// fails them all with `error::result_count_mismatch`. `In` must be nothrow move constructible,
/// `Out` default constructible and nothrow move constructible.
///
/// Executors: handlers run on their associated executor, by default the pool's. Cancellation,
/// thread safety and destruction are those of `basic_semaphore`. When the pool is closed first,
/// what is queued fails with `error::closed`; when it drops a queued batch
/// (`when_full::drop_oldest`), the callers in that batch fail with `error::dropped`.
///
/// One allocation an item, from its handler's associated allocator, and two vectors a batch; at
/// most one timer for all batches.
template <class In, class Out, class Clock = std::chrono::steady_clock,
          class Executor = boost::asio::any_io_executor>
class basic_batcher {
    using state = detail::batcher_state<In, Out, Clock, Executor>;
    using default_token = detail::default_token_t<Executor>;

public:
    using executor_type = Executor;
    using options = batcher_options;
    using signature = void(std::exception_ptr, Out);

    template <class Run>
    basic_batcher(basic_worker_pool<Executor>& pool, options settings, Run run)
        : state_(state::make(pool, settings, std::move(run))) {}

    /// The moved-from batcher may only be destroyed.
    basic_batcher(basic_batcher&&) noexcept = default;
    basic_batcher& operator=(basic_batcher&&) = delete;
    ~basic_batcher() {
        if (state_) state_->close();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    /// Submits one item. Completion signature: `void(std::exception_ptr, Out)`. Failures: what the
    /// batch function threw, or a boost::system::system_error with `operation_aborted`,
    /// `error::closed`, `error::dropped` or `error::result_count_mismatch`.
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_submit(In item, Token&& token = Token()) {
        return boost::asio::async_initiate<Token, signature>(
            detail::initiation<state, detail::submit_item>(*state_), token, std::move(item));
    }

    /// For coroutines: `async_submit`, throwing what it reports.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<Out, CoroutineExecutor> submit(In item) {
        co_return co_await async_submit(std::move(item), boost::asio::deferred);
    }

    /// Starts incomplete batches now, for what is queued at this moment.
    void flush() { state_->flush(); }

    /// Items that wait for a batch to start.
    std::size_t queued() const noexcept { return state_->queued(); }
    batcher_stats stats() const { return state_->stats(); }

    /// Fails all waiting items, and all later ones, with `error::closed`. Batches that run end, and
    /// nobody gets their results.
    void close() noexcept { state_->close(); }

private:
    std::shared_ptr<state> state_;
};

template <class In, class Out>
using batcher = basic_batcher<In, Out>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/batcher.hpp>
