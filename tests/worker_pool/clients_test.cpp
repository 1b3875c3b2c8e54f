// SPDX-License-Identifier: BSL-1.0
// A pool that several threads use at once, and not from its own executor.
#include <tidegate/worker_pool.hpp>

#include "support/stress.hpp"
#include "worker_pool/support.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>

#include <algorithm>
#include <atomic>
#include <deque>
#include <exception>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using tidegate::when_full;
using tidegate::worker_pool;
using options = tidegate::worker_pool_options;

namespace {

/// Submits jobs from a strand of its own, where it cancels some of them and hears of all.
class client {
public:
    client(asio::io_context& io, std::uint64_t seed)
        : here_(asio::make_strand(io)), random_(seed) {}

    void start(worker_pool& pool, int jobs) {
        asio::post(here_, [this, &pool, jobs] { submit_next(pool, jobs); });
    }

    bool all_is_well() const {
        return std::ranges::all_of(calls_, [](call const& c) {
            bool const cancelled = c.why == asio::error::operation_aborted;
            return c.completions == 1 && c.was_here && c.ran == !cancelled && (cancelled || !c.why);
        });
    }
    std::size_t calls() const { return calls_.size(); }

private:
    struct call {
        asio::cancellation_signal signal;
        bool ran = false;
        int completions = 0;
        bool was_here = false;
        tidegate::error_code why;
    };

    void submit_next(worker_pool& pool, int left) {
        if (left == 0) return;
        call& mine = calls_.emplace_back();
        auto job = [&mine] { mine.ran = true; };
        auto ended = [this, &mine](std::exception_ptr e) {
            ++mine.completions;
            mine.was_here = here_.running_in_this_thread();
            mine.why = test::code_of(e);
        };
        pool.async_submit(
            job, asio::bind_executor(
                     here_, asio::bind_cancellation_slot(mine.signal.slot(), std::move(ended))));
        if (test::below(random_, 2) == 0) {
            std::size_t const back = test::below(random_, std::min<std::size_t>(8, calls_.size()));
            calls_[calls_.size() - 1 - back].signal.emit(asio::cancellation_type::total);
        }
        asio::post(here_, [this, &pool, left] { submit_next(pool, left - 1); });
    }

    asio::strand<asio::io_context::executor_type> here_;
    test::random random_;
    std::deque<call> calls_;
};

} // namespace

TEST_CASE("who awaits a job elsewhere than on the pool's executor hears there, once", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 2000);
        for (std::size_t round = 0; round < rounds; ++round) {
            constexpr int jobs = 200;
            asio::io_context pools, elsewhere;
            std::deque<client> clients; // whose strands must not outlive their context
            worker_pool pool(pools, options{}.threads(2).queue(1 + test::below(random, 4)));
            for (int i = 0; i < 4; ++i) {
                clients.emplace_back(elsewhere, random()).start(pool, jobs);
            }
            std::vector<std::thread> others;
            for (int i = 0; i < 2; ++i) others.emplace_back([&] { elsewhere.run(); });
            elsewhere.run();
            for (auto& other : others) other.join();
            for (client const& one : clients) {
                CHECK(one.calls() == jobs);
                CHECK(one.all_is_well());
            }
        }
    }
}

TEST_CASE("eight producers never find the queue beyond its bound", "[stress]") {
    auto const full = GENERATE(when_full::wait, when_full::reject, when_full::drop_oldest,
                               when_full::caller_runs);
    std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 2000);
    for (std::size_t round = 0; round < rounds; ++round) {
        constexpr std::size_t bound = 3, jobs = 100, producers = 8;
        std::atomic<std::size_t> ran = 0, heard = 0;
        std::atomic<bool> exceeded = false;
        asio::io_context io;
        worker_pool pool(io, options{}.threads(2).queue(bound).full(full));
        auto produce = [&] {
            for (std::size_t i = 0; i < jobs; ++i) {
                pool.async_submit([&] { ++ran; }, [&](std::exception_ptr const&) { ++heard; });
                if (pool.statistics().queued > bound) exceeded = true;
            }
        };
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < producers; ++i) threads.emplace_back(produce);
        for (auto& thread : threads) thread.join();
        io.run();
        CHECK_FALSE(exceeded);
        CHECK(heard == producers * jobs);
        auto const all = pool.statistics();
        CHECK(ran + all.rejected + all.dropped == producers * jobs);
        if (full == when_full::wait || full == when_full::caller_runs) {
            CHECK(ran == producers * jobs);
        }
    }
}
