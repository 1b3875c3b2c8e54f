// SPDX-License-Identifier: BSL-1.0
// What the tests of the cache share.
#pragma once

#include <tidegate/cache.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>

#include <exception>
#include <optional>
#include <string>
#include <utility>

namespace test {

namespace asio = boost::asio;

struct cache_tag;
using cache_clock = tidegate::testing::basic_manual_clock<cache_tag>;

template <class Key, class V, class Policy = tidegate::eviction::adaptive>
using timed_cache =
    tidegate::basic_cache<Key, V, Policy, tidegate::cache_hash<Key>, std::equal_to<>, cache_clock>;

inline tidegate::error_code code_of(std::exception_ptr e) {
    if (!e) return {};
    try {
        std::rethrow_exception(e);
    } catch (boost::system::system_error const& s) {
        return s.code();
    } catch (...) {
        return asio::error::fault;
    }
}

/// Runs `load` through the cache; what became of it.
template <class V>
struct asking {
    asio::cancellation_signal signal;
    bool done = false;
    tidegate::error_code failure;
    tidegate::shared_value<V> value{};

    template <class Cache, class Key, class Load>
    void ask(asio::io_context& io, Cache& cache, Key key, Load& load) {
        auto get = [](Cache& c, Key k, Load& l) -> asio::awaitable<tidegate::shared_value<V>> {
            co_return co_await c.get_or_load(k, l);
        };
        asio::co_spawn(
            io, get(cache, std::move(key), load),
            asio::bind_cancellation_slot(signal.slot(),
                                         [this](std::exception_ptr e, tidegate::shared_value<V> v) {
                                             done = true;
                                             failure = code_of(e);
                                             value = std::move(v);
                                         }));
    }
    void cancel() { signal.emit(asio::cancellation_type::all); }
};

/// Loads go on when it is opened.
class gate {
public:
    explicit gate(asio::io_context& io) : permits_(io, 1000), shut_(permits_.try_acquire(1000)) {}

    asio::awaitable<void> pass() {
        ++entered;
        tidegate::error_code ec;
        auto const passed =
            co_await permits_.async_acquire(1, asio::redirect_error(asio::deferred, ec));
        if (ec) ++cancelled;
    }
    void open() { shut_.release(); }

    int entered = 0;
    int cancelled = 0;

private:
    tidegate::semaphore permits_;
    tidegate::semaphore::permit shut_;
};

} // namespace test
