// SPDX-License-Identifier: BSL-1.0
// A second level in Redis, which tells the first of what others change. Needs Boost.Redis; not in
// tidegate.hpp.
#pragma once

#include <tidegate/cache_tier.hpp>
#include <tidegate/core/check_option.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/redis/config.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace redis {

/// How values are kept in Redis, with the defaults.
class cache_tier_options {
public:
    /// Put before each key to name it in Redis; default `tidegate:cache:`. All that begins so
    /// belongs to caches of this kind.
    cache_tier_options& prefix(std::string text) {
        prefix_ = std::move(text);
        return *this;
    }
    /// The largest value that is written, or read, 1 byte to 256 MiB; default 16 MiB.
    cache_tier_options& max_value_bytes(std::size_t bytes) {
        tidegate::detail::check_option<std::size_t>("redis::cache_tier max_value_bytes", bytes, 1,
                                                    std::size_t{256} << 20);
        max_value_bytes_ = bytes;
        return *this;
    }
    /// The longest load that an invalidation by another process is remembered for, 1 ms to 1 h;
    /// default 10 s. What such a load brings is not written in place of what was invalidated.
    cache_tier_options& longest_load(std::chrono::milliseconds time) {
        tidegate::detail::check_option<std::int64_t>("redis::cache_tier longest_load in ms",
                                                     time.count(), 1, 3'600'000);
        longest_load_ = time;
        return *this;
    }
    /// How long after a connection was lost, or could not be made, the next one is tried, 1 ms to 1
    /// h; default 250 ms.
    cache_tier_options& reconnect_pause(std::chrono::nanoseconds time) {
        tidegate::detail::check_option<std::int64_t>("redis::cache_tier reconnect_pause in ns",
                                                     time.count(), 1'000'000, 3'600'000'000'000);
        reconnect_pause_ = time;
        return *this;
    }

    std::string const& prefix() const noexcept { return prefix_; }
    std::size_t max_value_bytes() const noexcept { return max_value_bytes_; }
    std::chrono::milliseconds longest_load() const noexcept { return longest_load_; }
    std::chrono::nanoseconds reconnect_pause() const noexcept { return reconnect_pause_; }

private:
    std::string prefix_ = "tidegate:cache:";
    std::size_t max_value_bytes_ = std::size_t{16} << 20;
    std::chrono::milliseconds longest_load_ = std::chrono::seconds(10);
    std::chrono::nanoseconds reconnect_pause_ = std::chrono::milliseconds(250);
};

/// What a second level in Redis met with so far.
struct cache_tier_statistics {
    bool connected = false;            ///< now, and told of changes
    std::uint64_t connections = 0;     ///< that were made, and told of changes
    std::uint64_t lost = 0;            ///< of those
    std::uint64_t failed_to_start = 0; ///< connections that were not made, or not told of changes
    std::uint64_t changes = 0;         ///< keys that others changed
    std::uint64_t flushes = 0;         ///< times that all keys did, or may have
    std::uint64_t overtaken = 0;       ///< loaded values that others' changes came before
    std::uint64_t too_large = 0;       ///< values that were not written, or not read
};

namespace detail {
class cache_tier_state;
} // namespace detail

/// A second level that processes on many machines share, and that keeps their first levels in step:
///
///     auto shared = std::make_shared<tidegate::redis::cache_tier>(context, server);
///     co_spawn(context, shared->run(), handler);
///     tidegate::tiered_cache<std::string, std::string> pages(context, first_level, shared);
///
/// Guarantees. Before anything is read on a connection, Redis was told to report whatever others
/// change below the prefix (CLIENT TRACKING in broadcast mode), and the first levels were emptied.
/// From then on, a key that another process writes or invalidates leaves the first level of this
/// one within a push from Redis. When the connection is lost, all first levels are emptied at once;
/// until there is a new one, nothing is read from Redis or written to it, and operations throw: the
/// values come from the loader, and as long as that lasts, nobody hears of the others' changes. A
/// FLUSHALL empties the first levels.
///
/// A change whose outcome a lost connection left open cannot come late, after those that follow:
/// its connection is closed at the server first (CLIENT KILL, as far as CLIENT INFO is known there
/// and both are allowed).
///
/// A value that was loaded is written only if nobody changed its key since Redis said that it is
/// not there: so a slow load cannot bring back what another process replaced or invalidated. (After
/// the leases of Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013, with WATCH.) What
/// `refresh_after` loads is written in any case; another process' change that is on its way at that
/// moment is then replaced.
///
/// It has one connection of its own, made and kept by `run`, with RESP3: Redis 6 or later. Several
/// caches may share this object if their prefixes differ; for the same keys, each needs its own,
/// since nobody is told of changes made through the same object.
///
/// A value is a string in Redis, after a letter `v`; an invalidated key holds a `t` and a token for
/// `longest_load`. Both stay for one second longer than they count: so they are replaced before
/// Redis removes them, which it would report as a change. The time that is left of a value is
/// Redis' own account, to a millisecond. A value with less than that to live, or one that is too
/// large, is not kept, nor what was there before.
///
/// Cancellation: `get_many` is left at once. `put_many` and `invalidate` end when Redis has
/// answered or the connection is lost: at most after three times `health_check_interval` of the
/// configuration, since a change that is given up might still come.
///
/// Thread-safe, and runs on a strand of its own. It has to go before its execution context.
/// Operations throw boost::system::system_error. Memory: the values that are on their way.
class cache_tier final : public tidegate::cache_tier {
public:
    using options = cache_tier_options;
    template <class T>
    using awaitable = boost::asio::awaitable<T>;

    cache_tier(boost::asio::any_io_executor const& executor, boost::redis::config server,
               options settings = {});
    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    explicit cache_tier(Context& context, boost::redis::config server = {}, options settings = {})
        : cache_tier(boost::asio::any_io_executor(context.get_executor()), std::move(server),
                     std::move(settings)) {}
    cache_tier(cache_tier const&) = delete;
    cache_tier& operator=(cache_tier const&) = delete;
    ~cache_tier() override;

    /// Keeps the connection until it is cancelled, or this object is destroyed; to be called once.
    awaitable<void> run();

    awaitable<std::vector<std::optional<tier_value>>>
    get_many(std::vector<std::string> keys) override;
    awaitable<void> put_many(std::vector<tier_entry> entries) override;
    awaitable<void> invalidate(std::vector<std::string> keys) override;
    void add_listener(std::weak_ptr<tier_listener> who) override;

    cache_tier_statistics statistics() const noexcept;

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        auto const all = statistics();
        to.gauge("tidegate_redis_cache_tier_connected", "1 while it is connected",
                 all.connected ? 1 : 0);
        to.counter("tidegate_redis_cache_tier_lost", "Connections that were lost",
                   static_cast<double>(all.lost));
        to.counter("tidegate_redis_cache_tier_changes", "Keys that others changed",
                   static_cast<double>(all.changes));
        to.counter("tidegate_redis_cache_tier_flushes", "Times that all keys may have changed",
                   static_cast<double>(all.flushes));
        to.counter("tidegate_redis_cache_tier_overtaken",
                   "Loaded values that others' changes came before",
                   static_cast<double>(all.overtaken));
        to.counter("tidegate_redis_cache_tier_too_large", "Values that were too large",
                   static_cast<double>(all.too_large));
    }

private:
    std::shared_ptr<detail::cache_tier_state> state_;
};

} // namespace redis
TIDEGATE_END_NAMESPACE

#include <tidegate/redis/impl/cache_tier.hpp>
