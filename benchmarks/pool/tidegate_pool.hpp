// SPDX-License-Identifier: BSL-1.0
// Our worker pool behind the interface of this scenario.
#pragma once

#include "coroutines.hpp"

#include <tidegate/worker_pool.hpp>

#include <cstddef>
#include <stdexcept>
#include <utility>

namespace bench {

class tidegate_pool {
public:
    tidegate_pool(asio::io_context& context, std::size_t threads)
        : pool_(context, settings(threads)) {}

    template <class Job>
    auto run(Job job) {
        return pool_.submit(std::move(job));
    }

    template <class Job>
    void post(Job job) {
        if (!pool_.post(std::move(job)))
            throw std::runtime_error("the queue was meant to be long enough");
    }

protected:
    tidegate::worker_pool pool_;

private:
    // Longer than a lap of detached jobs, so that the queue never fills: no peer has a bound.
    static tidegate::worker_pool::options settings(std::size_t threads) {
        tidegate::worker_pool::options chosen;
        chosen.threads(threads).queue(32'768);
        return chosen;
    }
};

// Without the child coroutine that submit() is.
class tidegate_pool_async : public tidegate_pool {
public:
    using tidegate_pool::tidegate_pool;

    template <class Job>
    auto run(Job job) {
        return pool_.async_submit(std::move(job), asio::deferred);
    }
};

} // namespace bench
