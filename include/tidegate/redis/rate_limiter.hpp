// SPDX-License-Identifier: BSL-1.0
// A rate limit that many processes share, kept in Redis. Needs Boost.Redis; not in tidegate.hpp.
#pragma once

#include <tidegate/circuit_breaker.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/rate_limiter.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/redis/connection.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace redis {

/// What a limiter says when Redis does not answer.
enum class when_redis_fails {
    /// Grants: better too much than nothing.
    admit,
    /// Refuses; `retry_after` is when Redis will be asked again.
    refuse,
    /// Asks a limiter in this process, which has a share of the rate; see `local_share`. It knows
    /// 100,000 keys, which take about 100 bytes each beside their text; those that find no room
    /// share one bucket.
    local,
};

/// Settings of a rate limiter in Redis, with their defaults. `rate` has none and must be set. All
/// processes have to agree on rate, burst and prefix.
class rate_limiter_options {
    using nanoseconds = std::chrono::nanoseconds;

public:
    /// As for `tidegate::rate_limiter`: `permits` every `per`.
    rate_limiter_options& rate(std::uint64_t permits, nanoseconds per) {
        quota_.rate(permits, per);
        return *this;
    }
    /// As for `tidegate::rate_limiter`: the most permits at once. To earn that many again must not
    /// take more than 100 years, which the constructor of the limiter checks.
    rate_limiter_options& burst(std::uint64_t permits) {
        quota_.burst(permits);
        return *this;
    }
    /// The longest time that `acquire` waits, zero or more; default: no limit.
    rate_limiter_options& max_wait(nanoseconds time) {
        quota_.max_wait(time);
        return *this;
    }
    /// Put before each key to name it in Redis; default `tidegate:rate:`. In a cluster, limits that
    /// are asked together need keys of one slot: `{...}` in the prefix.
    rate_limiter_options& prefix(std::string text) {
        prefix_ = std::move(text);
        return *this;
    }
    /// What one call of Redis may take, 1 ns to 10 years; default 100 ms.
    rate_limiter_options& time_limit(nanoseconds time) {
        tidegate::detail::check_option<std::int64_t>("redis::rate_limiter time_limit in ns",
                                                     time.count(), 1, 315'576'000'000'000'000);
        time_limit_ = time;
        return *this;
    }
    /// Default: `local`.
    rate_limiter_options& on_failure(when_redis_fails what) {
        on_failure_ = what;
        return *this;
    }
    /// How many processes share the rate, 1 to 1 million; default 1. For `when_redis_fails::local`:
    /// this one then takes one part of so many, in rate and burst (a permit at least). An ask for
    /// more than its part of the burst takes all of the part.
    rate_limiter_options& local_share(std::uint64_t processes) {
        tidegate::detail::check_option<std::uint64_t>("redis::rate_limiter local_share", processes,
                                                      1, 1'000'000);
        local_share_ = processes;
        return *this;
    }
    /// Refusals that are remembered, to refuse the same key without asking Redis, 0 to 10 million;
    /// default 4096. They take about 60 bytes each.
    rate_limiter_options& known_refusals(std::size_t n) {
        tidegate::detail::check_option<std::size_t>("redis::rate_limiter known_refusals", n, 0,
                                                    10'000'000);
        known_refusals_ = n;
        return *this;
    }
    /// When Redis is left alone because it fails; default: that of circuit_breaker, with 5 failures
    /// in a row enough, and open for 1 s.
    rate_limiter_options& breaker(circuit_breaker_options settings) {
        breaker_ = std::move(settings);
        return *this;
    }

    tidegate::rate_limiter_options const& quota() const noexcept { return quota_; }
    std::string const& prefix() const noexcept { return prefix_; }
    nanoseconds time_limit() const noexcept { return time_limit_; }
    when_redis_fails on_failure() const noexcept { return on_failure_; }
    std::uint64_t local_share() const noexcept { return local_share_; }
    std::size_t known_refusals() const noexcept { return known_refusals_; }
    circuit_breaker_options const& breaker() const noexcept { return breaker_; }

private:
    tidegate::rate_limiter_options quota_;
    std::string prefix_ = "tidegate:rate:";
    nanoseconds time_limit_ = std::chrono::milliseconds(100);
    when_redis_fails on_failure_ = when_redis_fails::local;
    std::uint64_t local_share_ = 1;
    std::size_t known_refusals_ = 4096;
    circuit_breaker_options breaker_ =
        circuit_breaker_options().consecutive_failures(5).open_duration(std::chrono::seconds(1));
};

/// What a limiter in Redis did so far. Asks, unless it says calls.
struct rate_limiter_statistics {
    std::uint64_t granted = 0;
    std::uint64_t refused = 0;         ///< with the two kinds that follow, if they were refused
    std::uint64_t refused_locally = 0; ///< a refusal of before was remembered
    std::uint64_t without_redis = 0;   ///< decided by `on_failure`
    std::uint64_t failed_calls = 0;    ///< of Redis, or too late
    std::uint64_t scripts_sent = 0;    ///< calls that found that Redis did not know the script
};

namespace detail {
class rate_limiter_state;
} // namespace detail

struct rate_request;

/// A rate limit by key that all processes share which use the same Redis.
///
///     auto redis = std::make_shared<boost::redis::connection>(context);
///     co_spawn(context, tidegate::redis::keep_connected(redis, server), handler);
///     tidegate::redis::rate_limiter limiter(
///         redis, tidegate::redis::rate_limiter_options().rate(100, 1s));
///     if (auto const allowed = co_await limiter.try_acquire(tenant)) ...
///
/// Guarantees, for a Redis that answers and keeps its memory: in any window of length `w` of its
/// clock, all processes together are granted at most `burst + rate * w` for a key, net of refunds.
/// The rate is exact where a permit takes a whole number of femtoseconds, and otherwise low by less
/// than one a permit (at 1 million a second, a billionth of the rate). If Redis' clock steps back,
/// a key is held up for the time that fills its bucket at most. A key is one string in Redis, which
/// expires when its bucket is full; settings travel with each call.
///
/// A call is one run of a script. Asks that overlap go in one write. A refused ask is remembered,
/// and until its time has come, or `refund` is called for its key, the same ask (or one for more)
/// of the same key is refused without Redis, in less than a microsecond; a refund by another
/// process, or another limiter, is noticed only then.
///
/// Failures never reach the caller: a call that fails, or takes longer than `time_limit`, counts
/// for the circuit breaker, and `on_failure` decides. Such a call may have taken its permits in
/// Redis all the same: rather too few are granted than too many.
///
/// Somebody has to run the connection: `keep_connected` does, and so does one's own `async_run`. It
/// is shared with whoever else uses it; blocking commands (BLPOP) would hold the limiter up. Its
/// executor must run one thing at a time. Needs Redis 6 or later, which may not forget the keys
/// (`maxmemory-policy noeviction` or `volatile-ttl`).
///
/// Executors: all coroutines run on their own, whatever the connection's is. Cancellation: total,
/// partial and terminal cancellation end a call at once with `operation_aborted`; whether permits
/// were taken is then unknown. Waiting is not first come, first served: whoever asks first when
/// there are permits gets them.
///
/// Thread safety: all members may be called from any thread, except construction, move and
/// destruction. The limiter may go while calls are out; it has to go before the execution context
/// of the connection. Memory: see `known_refusals`; a call takes its request and its reply.
class rate_limiter {
public:
    using duration = std::chrono::nanoseconds;
    using time_point = std::chrono::steady_clock::time_point;
    using options = rate_limiter_options;
    using decision = rate_decision<duration>;
    template <class T>
    using awaitable = boost::asio::awaitable<T>;

    /// Throws std::invalid_argument without a connection, without a rate, and if the burst takes
    /// too long to be earned.
    rate_limiter(std::shared_ptr<boost::redis::connection> connection, options settings);

    /// Takes `n` permits of `key` if they are there. As of `tidegate::rate_limiter`,
    /// `error::invalid_count` for none and for more than the burst.
    awaitable<decision> try_acquire(std::string key, std::uint64_t n = 1);

    /// What `try_acquire` would say, asking Redis in any case; takes nothing.
    awaitable<decision> peek(std::string key, std::uint64_t n = 1);

    /// Permits of `key` that are there; the burst if Redis cannot say.
    awaitable<std::uint64_t> available(std::string key);

    /// Gives back `n` permits that were taken for work that was not done; to be called once at most
    /// for each permit. The bucket never holds more than a burst. False if Redis could not be told.
    awaitable<bool> refund(std::string key, std::uint64_t n = 1);

    /// Takes `n` permits of `key`, waiting for them. Throws boost::system::system_error:
    /// `error::rate_limited`, at once, if it would take longer than `max_wait`, or past the
    /// deadline, as far as is known; `error::invalid_count`; `operation_aborted`.
    awaitable<void> acquire(std::string key, std::uint64_t n = 1);
    awaitable<void> acquire_for(duration limit, std::string key, std::uint64_t n = 1);
    awaitable<void> acquire_until(time_point deadline, std::string key, std::uint64_t n = 1);

    options const& settings() const noexcept;
    rate_limiter_statistics statistics() const noexcept;

    /// Round the calls of Redis; it may be told to open or to close.
    circuit_breaker& breaker() noexcept;

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        auto const all = statistics();
        to.counter("tidegate_redis_rate_limiter_granted", "Asks that were granted",
                   static_cast<double>(all.granted));
        to.counter("tidegate_redis_rate_limiter_refused", "Asks that were refused",
                   static_cast<double>(all.refused));
        to.counter("tidegate_redis_rate_limiter_refused_locally",
                   "Asks that were refused without Redis, which had refused before",
                   static_cast<double>(all.refused_locally));
        to.counter("tidegate_redis_rate_limiter_without_redis",
                   "Asks that were decided without Redis, which did not answer",
                   static_cast<double>(all.without_redis));
        to.counter("tidegate_redis_rate_limiter_failed_calls", "Calls of Redis that failed",
                   static_cast<double>(all.failed_calls));
    }

private:
    friend boost::asio::awaitable<decision> try_acquire_all(std::vector<rate_request> asked);

    std::shared_ptr<detail::rate_limiter_state> state_;
};

/// So many permits of a key.
struct rate_request {
    rate_limiter& limiter;
    std::string key;
    std::uint64_t permits = 1;
};

/// Takes all that is asked for (of a second's limit and a day's, a tenant's and everybody's), or
/// nothing, in one call. A refusal says how long the slowest takes. If Redis does not answer, each
/// limiter's `on_failure` is asked, in turn.
///
/// Throws std::invalid_argument unless all limiters share a connection, and all keys, with their
/// prefixes, are different; also without any.
boost::asio::awaitable<rate_limiter::decision> try_acquire_all(std::vector<rate_request> asked);

} // namespace redis
TIDEGATE_END_NAMESPACE

#include <tidegate/redis/impl/rate_limiter.hpp>
