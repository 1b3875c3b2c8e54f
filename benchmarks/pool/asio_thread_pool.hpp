// SPDX-License-Identifier: BSL-1.0
// asio::thread_pool behind the interface of this scenario, in two idioms.
#pragma once

#include "coroutines.hpp"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <cstddef>
#include <utility>

namespace bench {

// The coroutine itself hops to the pool, does the job there, and hops back.
class asio_hop {
public:
    asio_hop(asio::io_context&, std::size_t threads) : pool_(threads) {}

    auto there() { return asio::post(asio::bind_executor(pool_, asio::deferred)); }
    auto back() { return asio::post(asio::deferred); }

    template <class Job>
    void post(Job job) {
        asio::post(pool_, std::move(job));
    }

private:
    asio::thread_pool pool_;
};

// The same as a child coroutine, which is how one would share it. With many in flight it measures
// even faster on two cores, one frame more or not.
class asio_hop_child : public asio_hop {
public:
    using asio_hop::asio_hop;

    template <class Job>
    asio::awaitable<void> run(Job job) {
        co_await there();
        job();
        co_await back();
    }
};

// A child coroutine on the pool; co_spawn brings its result back.
class asio_co_spawn {
public:
    asio_co_spawn(asio::io_context&, std::size_t threads) : pool_(threads) {}

    template <class Job>
    auto run(Job job) {
        return asio::co_spawn(pool_, on_the_pool(job), asio::use_awaitable);
    }

private:
    template <class Job>
    static asio::awaitable<void> on_the_pool(Job job) {
        job();
        co_return;
    }

    asio::thread_pool pool_;
};

} // namespace bench
