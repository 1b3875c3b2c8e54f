// SPDX-License-Identifier: BSL-1.0
// The workers behind parallel_map and parallel_for_each.
#pragma once

#include <tidegate/detail/side_task.hpp>
#include <tidegate/parallel.hpp>
#include <tidegate/semaphore.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <exception>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// A place for each result, made when its item is taken.
template <class T>
class parallel_results<on_error::stop, T> {
public:
    using result_type = std::vector<T>;

    void reserve(std::size_t n) { places_.reserve(n); }
    void expect_one() { places_.emplace_back(); }
    template <class Value>
    void succeed(std::size_t index, Value&& value) {
        places_[index].emplace(std::forward<Value>(value));
    }
    static constexpr bool keep_failure(std::size_t, std::exception_ptr const&) { return false; }

    result_type take() {
        result_type all;
        all.reserve(places_.size());
        for (auto& place : places_) all.push_back(std::move(*place));
        return all;
    }

private:
    std::vector<std::optional<T>> places_;
};

template <class T>
class parallel_results<on_error::collect, T> {
public:
    using result_type = std::vector<outcome<T>>;

    void reserve(std::size_t n) { places_.reserve(n); }
    void expect_one() { places_.emplace_back(); }
    template <class Value>
    void succeed(std::size_t index, Value&& value) {
        places_[index].succeed(std::forward<Value>(value));
    }
    bool keep_failure(std::size_t index, std::exception_ptr const& thrown) {
        places_[index].fail(failure(thrown));
        return true;
    }
    result_type take() { return std::move(places_); }

private:
    result_type places_;
};

template <>
class parallel_results<on_error::stop, void> {
public:
    using result_type = void;

    static void reserve(std::size_t) noexcept {}
    static void expect_one() noexcept {}
    static constexpr bool keep_failure(std::size_t, std::exception_ptr const&) { return false; }
    static void take() noexcept {}
};

template <>
class parallel_results<on_error::collect, void> {
public:
    using result_type = std::vector<parallel_failure>;

    static void reserve(std::size_t) noexcept {}
    static void expect_one() noexcept {}
    bool keep_failure(std::size_t index, std::exception_ptr const& thrown) {
        failures_.push_back({index, failure(thrown)});
        return true;
    }
    // A template, so that who includes this without using it does not pay for compiling `sort`.
    template <class Failure = parallel_failure>
    std::vector<Failure> take() {
        std::vector<Failure>& all = failures_;
        std::sort(all.begin(), all.end(),
                  [](Failure const& a, Failure const& b) { return a.index < b.index; });
        return std::move(all);
    }

private:
    result_type failures_;
};

/// What the workers share. Everything is guarded by `mutex_`, unless they run in turn.
template <on_error mode, class View, class Function>
class parallel_run : public std::enable_shared_from_this<parallel_run<mode, View, Function>> {
    using value = parallel_value<View, Function>;
    using executor_type = parallel_executor<View, Function>;
    using item_type = parallel_item<View>;

public:
    /// An item that one worker is to run.
    struct claim {
        std::size_t index;
        item_type item;
    };

    parallel_run(asio::any_io_executor const& executor, View items, std::size_t limit,
                 Function function)
        : executors_(executor),
          items_(std::move(items)),
          function_(std::move(function)),
          ended_(executor, limit) {}

    /// Starts workers while there are items for them.
    void start(std::size_t limit) {
        if constexpr (std::ranges::sized_range<View>) {
            results_.reserve(static_cast<std::size_t>(std::ranges::size(items_)));
        }
        next_.emplace(std::ranges::begin(items_));
        while (workers_.size() < limit) {
            auto first = next();
            if (!first) return;
            start_worker(std::move(*first));
        }
    }

    /// The next item, if there is one and it is to be run.
    std::optional<claim> next() {
        auto const lock = locked();
        if (stopping_ || *next_ == std::ranges::end(items_)) return std::nullopt;
        try {
            results_.expect_one();
            std::optional<claim> taken(claim{taken_++, **next_});
            ++*next_;
            return taken;
        } catch (...) {
            stop_under_lock(std::current_exception());
            return std::nullopt;
        }
    }

    asio::awaitable<void, executor_type> work(claim first) {
        co_await run(std::move(first));
        while (auto more = next()) co_await run(std::move(*more));
    }

    /// Starts no more items, and cancels those that run.
    void stop(std::exception_ptr why) {
        auto const lock = locked();
        stop_under_lock(std::move(why));
    }

    /// Completes when all workers have ended.
    auto async_wait(std::size_t limit) {
        return ended_.async_acquire(limit, asio::as_tuple(asio::deferred));
    }

    auto take() {
        if (first_failure_) std::rethrow_exception(std::exchange(first_failure_, nullptr));
        return results_.take();
    }

private:
    std::unique_lock<std::mutex> locked() {
        return executors_.in_turn() ? std::unique_lock<std::mutex>() : std::unique_lock(mutex_);
    }

    void start_worker(claim first) {
        auto const worker = std::make_shared<side_task>(executors_.next());
        {
            auto const lock = locked();
            if (stopping_) return; // since the item was taken: nobody would cancel this one
            workers_.push_back(worker);
        }
        auto ended = [self = this->shared_from_this(),
                      permit = ended_.try_acquire()](std::exception_ptr thrown) mutable {
            if (thrown) self->stop(thrown);
            permit.release();
        };
        worker->start(work(std::move(first)), std::move(ended));
    }

    asio::awaitable<void, executor_type> run(claim it) {
        std::exception_ptr thrown;
        try {
            auto awaiting = function_(std::forward<item_type>(it.item));
            if constexpr (std::is_void_v<value>) {
                co_await std::move(awaiting);
            } else {
                value result = co_await std::move(awaiting);
                auto const lock = locked();
                results_.succeed(it.index, std::move(result));
            }
        } catch (...) {
            thrown = std::current_exception();
        }
        if (thrown) fail(it.index, std::move(thrown));
    }

    void fail(std::size_t index, std::exception_ptr thrown) {
        auto const lock = locked();
        if (stopping_ || !results_.keep_failure(index, thrown)) stop_under_lock(std::move(thrown));
    }

    void stop_under_lock(std::exception_ptr why) {
        if (std::exchange(stopping_, true)) return;
        first_failure_ = std::move(why);
        for (auto const& worker : workers_) worker->cancel();
    }

    serial_executors const executors_;
    std::mutex mutex_;
    View items_;
    std::optional<std::ranges::iterator_t<View>> next_;
    std::size_t taken_ = 0;
    Function function_;
    parallel_results<mode, value> results_;
    bool stopping_ = false;
    std::exception_ptr first_failure_;
    std::vector<std::shared_ptr<side_task>> workers_;
    semaphore ended_; // each worker has a permit until it has ended
};

template <on_error mode, class View, class Function>
boost::asio::awaitable<parallel_result_t<mode, View, Function>, parallel_executor<View, Function>>
parallel(View items, parallel_limit limit, Function function) {
    using run_type = parallel_run<mode, View, Function>;
    auto const executor = co_await asio::this_coro::executor;
    auto const run = std::make_shared<run_type>(executor, std::move(items), limit.at_once(),
                                                std::move(function));
    std::exception_ptr not_started;
    try {
        run->start(limit.at_once());
    } catch (...) {
        not_started = std::current_exception();
    }
    if (not_started) run->stop(std::move(not_started));

    // The workers have to be waited for even when the caller has been cancelled.
    bool const throws = co_await asio::this_coro::throw_if_cancelled();
    co_await asio::this_coro::throw_if_cancelled(false);
    for (bool all_ended = false; !all_ended;) {
        auto waiting = run->async_wait(limit.at_once());
        auto completed = co_await std::move(waiting);
        error_code const ec = std::get<0>(completed);
        all_ended = !ec;
        if (ec) run->stop(std::make_exception_ptr(boost::system::system_error(ec)));
    }
    co_await asio::this_coro::throw_if_cancelled(throws);
    co_return run->take();
}

} // namespace detail
TIDEGATE_END_NAMESPACE
