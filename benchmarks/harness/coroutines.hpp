// SPDX-License-Identifier: BSL-1.0
// Runs coroutines for the benchmarks, and lets them rest where nothing is measured.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <cstddef>
#include <exception>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace bench {

namespace asio = boost::asio;

// Starts a coroutine on the context; what it throws leaves context.run().
template <class Executor>
void start(asio::io_context& context, asio::awaitable<void, Executor> body) {
    asio::co_spawn(Executor(context.get_executor()), std::move(body), [](std::exception_ptr error) {
        if (error) std::rethrow_exception(error);
    });
}

// Runs the context until this coroutine is done, whatever else still waits there.
template <class Executor>
void drive(asio::io_context& context, asio::awaitable<void, Executor> body) {
    asio::co_spawn(Executor(context.get_executor()), std::move(body),
                   [&context](std::exception_ptr error) {
                       context.stop();
                       if (error) std::rethrow_exception(error);
                   });
    context.run();
}

// Where woken coroutines rest until the next lap. Resting costs a few nanoseconds and no
// allocation, so that a lap that ends here measures the waking alone.
class lay_by {
public:
    lay_by(asio::any_io_executor executor, std::size_t seats)
        : executor_(std::move(executor)), seats_(seats) {
        resting_.reserve(seats);
    }
    lay_by(lay_by const&) = delete;
    lay_by& operator=(lay_by const&) = delete;
    ~lay_by() {
        for (auto& each : resting_) each.leave(each.handler, false);
        if (driver_.leave) driver_.leave(driver_.handler, false);
    }

    // Completes when somebody calls resume_all().
    template <class Token>
    auto async_rest(Token&& token) {
        return asio::async_initiate<Token, void()>(
            [this](auto handler) {
                resting_.emplace_back().take(std::move(handler));
                // By now the woken have given back their memory, so posting allocates nothing.
                if (resting_.size() == seats_) asio::post(executor_, [this] { driver_.resume(); });
            },
            token);
    }

    // For who drives the laps: completes when all seats are taken.
    template <class Token>
    auto async_until_full(Token&& token) {
        return asio::async_initiate<Token, void()>(
            [this](auto handler) { driver_.take(std::move(handler)); }, token);
    }

    // Runs the coroutines on, inside this call. They must not come back before it returns.
    void resume_all() {
        for (auto& each : resting_) each.resume();
        resting_.clear();
    }

private:
    // Holds any handler in place. Moved only while empty: the vector has its capacity from the
    // start.
    struct seat {
        template <class Handler>
        void take(Handler&& arriving) {
            static_assert(sizeof(Handler) <= sizeof(handler));
            new (handler) Handler(std::move(arriving));
            leave = [](void* from, bool run) {
                auto& seated = *static_cast<Handler*>(from);
                Handler leaving(std::move(seated));
                seated.~Handler();
                if (run) std::move(leaving)();
            };
        }

        void resume() { std::exchange(leave, nullptr)(handler, true); }

        alignas(std::max_align_t) std::byte handler[48];
        void (*leave)(void* handler, bool run) = nullptr;
    };

    asio::any_io_executor executor_;
    std::size_t seats_;
    std::vector<seat> resting_;
    seat driver_;
};

} // namespace bench
