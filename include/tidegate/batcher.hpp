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
#include <stdexcept>
#include <string>
#include <type_traits>
#include <variant>
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
    /// Items that may be queued, beside those in batches that run, 1 to 2^32; default 65536.
    batcher_options& queue(std::size_t n) {
        detail::check_option<std::size_t>("batcher queue", n, 1, std::size_t{1} << 32);
        queue_ = n;
        return *this;
    }
    /// What happens to an item when the queue is full: it waits in line (default), is rejected, or
    /// the oldest of the least urgent items, the new one included, is dropped. Throws
    /// std::invalid_argument for `caller_runs`: there is no batch for a caller to run.
    batcher_options& full(when_full policy) {
        if (policy == when_full::caller_runs) {
            throw std::invalid_argument("tidegate: batcher full is caller_runs, allowed is wait, "
                                        "reject or drop_oldest");
        }
        full_ = policy;
        return *this;
    }
    /// Ageing, where items have priorities: after this many in a row of more urgent ones, an item
    /// of the less urgent ones is taken, 1 to 2^20; default 16. So of the items that are taken of
    /// one key, one in `patience + 2` at least is from any priority that has some queued.
    batcher_options& patience(std::uint32_t items) {
        detail::check_option<std::uint32_t>("batcher patience", items, 1, 1u << 20);
        patience_ = items;
        return *this;
    }
    /// Batches that may run at once, 1 to 4096; default: as many as the pool has threads when the
    /// batcher is made, however it is resized later.
    batcher_options& max_in_flight(std::size_t n) {
        detail::check_option<std::size_t>("batcher max_in_flight", n, 1, 4096);
        max_in_flight_ = n;
        return *this;
    }

    std::size_t max_size() const noexcept { return max_size_; }
    std::chrono::nanoseconds max_delay() const noexcept { return max_delay_; }
    std::size_t queue() const noexcept { return queue_; }
    when_full full() const noexcept { return full_; }
    std::uint32_t patience() const noexcept { return patience_; }
    std::size_t max_in_flight() const noexcept { return max_in_flight_; } ///< 0: the default

private:
    std::size_t max_size_ = 16;
    std::chrono::nanoseconds max_delay_{0};
    std::size_t queue_ = 65536;
    when_full full_ = when_full::wait;
    std::uint32_t patience_ = 16;
    std::size_t max_in_flight_ = 0;
};

/// What a batcher has done so far.
struct batcher_statistics {
    std::uint64_t batches = 0;          ///< executed, failed ones too
    std::uint64_t items = 0;            ///< in those
    std::vector<std::uint64_t> by_size; ///< by_size[n]: batches of n items; n up to max_size
    std::array<std::uint64_t, core::batch_reasons> by_reason{}; ///< indexed by batch_reason
    std::uint64_t rejected = 0;                                 ///< `error::queue_full`
    std::uint64_t dropped = 0;                                  ///< to make room for newer ones
    std::uint64_t cancelled = 0;                                ///< before or while their batch ran

    /// Items a batch; 0 before the first.
    double mean_size() const noexcept {
        return batches ? static_cast<double>(items) / static_cast<double>(batches) : 0;
    }

    std::uint64_t closed_for(batch_reason reason) const noexcept {
        return by_reason[static_cast<std::size_t>(reason)];
    }
};

namespace detail {
template <class In, class Out, class Clock, class Executor>
class batcher_state;
struct submit_item;

template <class Function, class In>
concept function_of_item =
    std::is_same_v<Function, std::monostate> || std::is_invocable_v<Function&, In const&>;

template <class Function, class In>
concept priority_of_item = std::is_same_v<Function, std::monostate> ||
                           std::is_invocable_r_v<job_priority, Function&, In const&>;
} // namespace detail

/// Runs a batch function over items that many callers submit one by one.
///
///     tidegate::batcher<image, boxes> detect(pool, options, run_model);
///     auto found = co_await detect.submit(std::move(img));
///
/// Guarantees: items of one key, priority and source are taken in the order in which they came;
/// without such functions that is all of them. Every caller gets the result at its
/// own position. When the batch function throws, the callers in that batch get the exception, and
/// nobody else. A caller that is cancelled leaves at once: its item leaves the queue, or, if the
/// batch runs already, its result is thrown away. A batch grows until a worker really starts it.
///
/// The batch function is `std::vector<Out> run(std::span<In>)`, called on the pool, by up to
/// `max_in_flight` threads at once. It returns as many results as it was given items; anything else
/// fails them all with `error::result_count_mismatch`. It may return std::vector<outcome<Out>>
/// instead, where single items can fail. When all callers of a batch have left, it may run on after
/// the batcher has gone, until the pool is joined: the function owns what it uses, or that outlives
/// the pool. `In` must be nothrow move constructible, `Out` default constructible and nothrow move
/// constructible.
///
/// Keys: with a function `key(In const&)`, whose result can be hashed and compared, a batch has
/// items of one key only, such as tensors of one shape. Size, delay and flush count for each key on
/// its own; keys that have a batch ready take turns. Keys are hashed (std::hash), compared and
/// destroyed with the batcher's lock held, none of which may throw. Keys without items take no
/// memory but three list nodes for each of the most keys that ever had some at once.
///
/// Sources: with a function `source(In const&)`, whose result can be hashed, a batch takes the
/// items of several sources (tenants, connections) in turns, each in its order, so that no source
/// starves the others by flooding. Sources of equal hash count as one.
///
/// Priorities: with a function `priority(In const&)` that returns a job_priority, a batch takes the
/// more urgent items first, and sources take turns among those that are equally urgent. Ageing lets
/// no item starve; see `batcher_options::patience`. Of the keys with a batch ready, those with more
/// urgent items go first, with the same ageing, batch by batch. Who waits for room in the queue is
/// let in by the same rule. What closes a batch does not depend on priorities.
///
/// What these functions throw fails the submission; they are called on the submitting thread, by
/// several at once if several submit.
///
/// Executors: handlers run on their associated executor, by default the pool's, and there one after
/// the other for a whole batch, as those of the pool do. Cancellation, thread safety and
/// destruction are those of `basic_semaphore`. When the pool is closed or drains first, what is
/// queued, and all that comes later, fails with `error::closed`, except what a draining pool has
/// been asked to run; batches that run give their results. When the pool drops a queued batch
/// (`when_full::drop_oldest`), the callers in that batch fail with `error::dropped`, and with
/// std::bad_alloc when there is no memory to ask the pool for its execution or to put it together.
///
/// One allocation an item, from its handler's associated allocator, and the batch function's own
/// vector for a batch; at most one timer for all batches. Submitting is O(1), with sources O(1) for
/// each that has items of the same key in the queue. To find whom to drop, a full queue looks at
/// each key and source; and a batch that leaves an old item of its key behind at each key.
template <class In, class Out, class Clock = std::chrono::steady_clock,
          class Executor = boost::asio::any_io_executor>
class basic_batcher {
    using state = detail::batcher_state<In, Out, Clock, Executor>;
    using default_token = detail::default_token_t<Executor>;

public:
    using executor_type = Executor;
    using options = batcher_options;
    using signature = void(std::exception_ptr, Out);

    /// `key`, `source` and `priority` are functions of an item; std::monostate() stands for none.
    template <class Run, class Key = std::monostate, class Source = std::monostate,
              class Priority = std::monostate>
        requires detail::function_of_item<Key, In> && detail::function_of_item<Source, In> &&
                 detail::priority_of_item<Priority, In>
    basic_batcher(basic_worker_pool<Executor>& pool, options settings, Run run, Key key = {},
                  Source source = {}, Priority priority = {})
        : state_(state::make(pool, settings, std::move(run), std::move(key), std::move(source),
                             std::move(priority))) {}

    /// The moved-from batcher may only be destroyed.
    basic_batcher(basic_batcher&&) noexcept = default;
    basic_batcher& operator=(basic_batcher&&) = delete;
    ~basic_batcher() {
        if (state_) state_->close();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    /// Submits one item. Completion signature: `void(std::exception_ptr, Out)`. Failures: what the
    /// batch function threw, std::bad_alloc, or a boost::system::system_error with
    /// `operation_aborted`, `error::closed`, `error::queue_full`, `error::dropped` or
    /// `error::result_count_mismatch`.
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

    /// Starts incomplete batches now: nothing that was submitted before waits for more to come.
    void flush() { state_->flush(); }

    /// Items that wait for a batch to start.
    std::size_t queued() const noexcept { return state_->queued(); }
    /// Items that wait for room in the queue.
    std::size_t waiting() const noexcept { return state_->waiting(); }
    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: rejected, dropped, cancelled, of items; batch_started and batch_finished, on the
    /// thread that runs the batch.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe("batcher", std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        auto const all = statistics();
        to.counter("tidegate_batcher_batches", "Batches executed",
                   static_cast<double>(all.batches));
        to.counter("tidegate_batcher_items", "Items in those", static_cast<double>(all.items));
        to.counter("tidegate_batcher_rejected", "Items refused by a full queue",
                   static_cast<double>(all.rejected));
        to.counter("tidegate_batcher_dropped", "Items that made room for newer ones",
                   static_cast<double>(all.dropped));
        to.counter("tidegate_batcher_cancelled", "Items whose caller left",
                   static_cast<double>(all.cancelled));
    }

    batcher_statistics statistics() const { return state_->statistics(); }

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
