// SPDX-License-Identifier: BSL-1.0
// Aligned memory on loan, in a few sizes.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/object_pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// A block of memory that is not initialised, at a multiple of its alignment. Not copied, not
/// moved: it is lent.
class aligned_buffer {
public:
    /// `alignment` is a power of two. Throws std::bad_alloc.
    aligned_buffer(std::size_t size, std::size_t alignment)
        : bytes_(static_cast<std::byte*>(::operator new(size, std::align_val_t(alignment))),
                 deleter{std::align_val_t(alignment)}),
          size_(size) {}

    std::byte* data() const noexcept { return bytes_.get(); }
    std::size_t size() const noexcept { return size_; }
    /// All of it, and its first `n` bytes, at most `size`.
    std::span<std::byte> bytes() const noexcept { return {data(), size_}; }
    std::span<std::byte> first(std::size_t n) const noexcept { return bytes().first(n); }

private:
    struct deleter {
        std::align_val_t alignment;
        void operator()(std::byte* bytes) const noexcept { ::operator delete(bytes, alignment); }
    };

    std::unique_ptr<std::byte, deleter> bytes_;
    std::size_t size_;
};

/// Settings of a buffer_pool, with their defaults.
class buffer_pool_options {
    using nanoseconds = std::chrono::nanoseconds;

public:
    /// Up to `count` buffers, 1 to 2^24, of `bytes` each, 1 to 2^40. To be called for each size,
    /// once, in any order; at least once.
    buffer_pool_options& size_class(std::size_t bytes, std::size_t count) {
        detail::check_option<std::size_t>("buffer_pool size_class bytes", bytes, 1,
                                          std::size_t{1} << 40);
        detail::check_option<std::size_t>("buffer_pool size_class count", count, 1,
                                          std::size_t{1} << 24);
        auto const at = std::lower_bound(classes_.begin(), classes_.end(), bytes,
                                         [](one const& c, std::size_t b) { return c.bytes < b; });
        if (at != classes_.end() && at->bytes == bytes) {
            throw std::invalid_argument("tidegate: buffer_pool size_class is set twice for " +
                                        std::to_string(bytes) + " bytes");
        }
        classes_.insert(at, {bytes, count});
        return *this;
    }
    /// Buffers begin at a multiple of this many bytes: a power of two, 1 to 2^30. Default: 64, the
    /// line of a cache, which also suits vector instructions.
    buffer_pool_options& alignment(std::size_t bytes) {
        detail::check_option<std::size_t>("buffer_pool alignment", bytes, 1, std::size_t{1} << 30);
        if (!std::has_single_bit(bytes)) {
            throw std::invalid_argument("tidegate: buffer_pool alignment is " +
                                        std::to_string(bytes) + ", allowed are powers of two");
        }
        alignment_ = bytes;
        return *this;
    }
    /// As object_pool_options has it: how long a caller waits who says nothing else.
    buffer_pool_options& wait_timeout(nanoseconds time) {
        static_cast<void>(object_pool_options<aligned_buffer>{}.wait_timeout(time));
        wait_timeout_ = time;
        return *this;
    }
    /// Buffers that nobody has used for that long are given back to the system. The context has
    /// work while there are some. 1 ns to 10 years; default: never.
    buffer_pool_options& max_idle_time(nanoseconds time) {
        static_cast<void>(object_pool_options<aligned_buffer>{}.max_idle_time(time));
        max_idle_time_ = time;
        return *this;
    }
    /// Overwrites what comes back, so that whoever still uses it finds out. Costs a pass over the
    /// buffer. Default: in builds without NDEBUG.
    buffer_pool_options& poison(bool on) {
        poison_ = on;
        return *this;
    }

private:
    template <class Clock, class Executor, class Mutex>
    friend class basic_buffer_pool;

    struct one {
        std::size_t bytes;
        std::size_t count;
    };

    std::vector<one> classes_; // smallest first
    std::size_t alignment_ = 64;
    std::optional<nanoseconds> wait_timeout_;
    std::optional<nanoseconds> max_idle_time_;
#ifdef NDEBUG
    bool poison_ = false;
#else
    bool poison_ = true;
#endif
};

/// A pool of aligned buffers of a few sizes.
///
///     tidegate::buffer_pool buffers(context, tidegate::buffer_pool_options()
///         .size_class(4096, 256).size_class(1 << 20, 8));
///     auto const buffer = co_await buffers.acquire(n);
///     co_await async_read(socket, asio::buffer(buffer->data(), n), asio::deferred);
///
/// A request gets the smallest size that holds it, and waits for that: it does not take a larger
/// one, so that small requests never starve large ones. A size is a `basic_object_pool`, whose
/// guarantees, executors, cancellation, deadlines, destruction and thread safety hold here. Buffers
/// are made when they are first needed; steady state allocates nothing but the waiting operations.
/// What a buffer has in it is left from the one before. Finding the size is O(log sizes).
template <class Clock = std::chrono::steady_clock, class Executor = boost::asio::any_io_executor,
          class Mutex = std::mutex>
class basic_buffer_pool {
    using pool = basic_object_pool<aligned_buffer, Clock, Executor, Mutex>;
    using default_token = detail::default_token_t<Executor>;

public:
    using executor_type = Executor;
    using clock_type = Clock;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;
    using lease = typename pool::lease;
    using signature = typename pool::signature;

    /// What is in the bytes of a poisoned buffer.
    static constexpr unsigned char poison_byte = 0xDB;

    /// Throws std::invalid_argument if `options` has no size.
    basic_buffer_pool(executor_type executor, buffer_pool_options const& options) {
        if (options.classes_.empty())
            throw std::invalid_argument("tidegate: buffer_pool needs a size_class");
        classes_.reserve(options.classes_.size());
        for (auto const& each : options.classes_) {
            classes_.push_back({each.bytes, make_pool(executor, options, each)});
        }
    }
    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_buffer_pool(Context& context, buffer_pool_options const& options)
        : basic_buffer_pool(executor_type(context.get_executor()), options) {}

    executor_type get_executor() const noexcept { return classes_.front().buffers.get_executor(); }

    /// A buffer of at least `bytes`, if one is there or can be made, and nobody waits; otherwise an
    /// empty lease. Throws std::bad_alloc; and, as all that follow, std::invalid_argument if
    /// `bytes` is more than the largest size.
    lease try_acquire(std::size_t bytes) { return pool_for(bytes).try_acquire(); }

    /// Borrows a buffer, waiting in line for one. Completion signature: `void(error_code, lease)`;
    /// the errors are those of `basic_object_pool`.
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire(std::size_t bytes, Token&& token = Token()) {
        return pool_for(bytes).async_acquire(std::forward<Token>(token));
    }
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire_for(std::size_t bytes, duration limit, Token&& token = Token()) {
        return pool_for(bytes).async_acquire_for(limit, std::forward<Token>(token));
    }
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire_until(std::size_t bytes, time_point deadline, Token&& token = Token()) {
        return pool_for(bytes).async_acquire_until(deadline, std::forward<Token>(token));
    }

    /// For coroutines: tries first, and suspends only if it must. Throws
    /// boost::system::system_error with the errors of `async_acquire`.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<lease, CoroutineExecutor> acquire(std::size_t bytes) {
        return pool_for(bytes).template acquire<CoroutineExecutor>();
    }

    /// Tells `observer` what happens here, of each size under `name` and the size; see
    /// `basic_object_pool::observe`.
    void observe(std::shared_ptr<trace_observer> const& observer, std::string const& name) {
        for (auto& each : classes_)
            each.buffers.observe(observer, name + ' ' + std::to_string(each.bytes));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        std::size_t bytes = 0, idle = 0;
        for (auto const& each : classes_) {
            bytes += each.bytes * each.buffers.size();
            idle += each.bytes * each.buffers.idle();
        }
        to.gauge("tidegate_buffer_pool_bytes", "Memory of all buffers", static_cast<double>(bytes));
        to.gauge("tidegate_buffer_pool_idle_bytes", "Memory of those that nobody has",
                 static_cast<double>(idle));
        to.gauge("tidegate_buffer_pool_waiting", "Who wait for one",
                 static_cast<double>(waiting()));
    }

    /// The size that a request for `bytes` gets.
    std::size_t size_for(std::size_t bytes) const { return class_for(*this, bytes).bytes; }
    /// Buffers there are of that size, and those of them that are not lent.
    std::size_t size(std::size_t bytes) const { return class_for(*this, bytes).buffers.size(); }
    std::size_t idle(std::size_t bytes) const { return class_for(*this, bytes).buffers.idle(); }
    /// Who wait, for whatever size.
    std::size_t waiting() const noexcept {
        std::size_t sum = 0;
        for (auto const& each : classes_) sum += each.buffers.waiting();
        return sum;
    }

    /// Completes all waiting operations, and all later ones, with `error::closed`, and frees the
    /// buffers: the idle ones now, the others as they come back.
    void close() noexcept {
        for (auto& each : classes_) each.buffers.close();
    }

private:
    struct size_class {
        std::size_t bytes;
        pool buffers;
    };

    static pool make_pool(executor_type const& executor, buffer_pool_options const& options,
                          buffer_pool_options::one const& each) {
        object_pool_options<aligned_buffer> settings;
        settings.max_size(each.count);
        if (options.wait_timeout_) settings.wait_timeout(*options.wait_timeout_);
        if (options.max_idle_time_) settings.max_idle_time(*options.max_idle_time_);
        if (options.poison_) {
            settings.recycle([](aligned_buffer& back) {
                std::memset(back.data(), poison_byte, back.size());
                return true;
            });
        }
        return pool(executor, std::move(settings),
                    [bytes = each.bytes, alignment = options.alignment_] {
                        return std::make_unique<aligned_buffer>(bytes, alignment);
                    });
    }

    template <class Self>
    static auto& class_for(Self& self, std::size_t bytes) {
        detail::check_option<std::size_t>("buffer_pool acquire bytes", bytes, 0,
                                          self.classes_.back().bytes);
        return *std::lower_bound(
            self.classes_.begin(), self.classes_.end(), bytes,
            [](size_class const& c, std::size_t wanted) { return c.bytes < wanted; });
    }
    pool& pool_for(std::size_t bytes) { return class_for(*this, bytes).buffers; }

    std::vector<size_class> classes_; // smallest first
};

using buffer_pool = basic_buffer_pool<>;

TIDEGATE_END_NAMESPACE
