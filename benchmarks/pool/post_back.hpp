// SPDX-License-Identifier: BSL-1.0
// Any pool, for coroutines: the worker posts the awaiting coroutine back to its executor.
#pragma once

#include "coroutines.hpp"

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/executor_work_guard.hpp>

#include <cstddef>
#include <utility>

namespace bench {

/// `Pool<Function>` runs the functions posted to it.
template <template <class> class Pool>
class post_back {
public:
    post_back(asio::io_context& context, std::size_t threads) : pool_(context, threads) {}

    template <class Job>
    auto run(Job job) {
        return asio::async_initiate<asio::deferred_t const&, void()>(
            [this](auto handler, Job own_job) {
                auto work = asio::make_work_guard(asio::get_associated_executor(handler));
                pool_.post([handler = std::move(handler), work = std::move(work),
                            own_job = std::move(own_job)]() mutable {
                    own_job();
                    asio::post(work.get_executor(), std::move(handler));
                });
            },
            asio::deferred, std::move(job));
    }

private:
    // std::function cannot hold a handler, which cannot be copied.
    Pool<asio::any_completion_handler<void()>> pool_;
};

} // namespace bench
