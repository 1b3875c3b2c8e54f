// SPDX-License-Identifier: BSL-1.0
// What a semaphore gets done when twice as much is asked of it as it can do, in simulated time.
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>

#include <functional>
#include <map>
#include <memory>
#include <random>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;
using tidegate::queue_order;
using clock_type = tidegate::testing::manual_clock;
using semaphore = tidegate::basic_semaphore<clock_type>;
using permit = semaphore::permit;

namespace {

constexpr auto service_time = 10ms;
constexpr auto patience = 5 * service_time; // from arrival to the end of the service

// Callers that arrive at random, hold a permit for the service time and go.
class service {
public:
    service(tidegate::semaphore_options const& options, double load, std::uint64_t seed)
        : slots_(io_, options), random_(seed), capacity_(static_cast<double>(options.capacity())) {
        this->load(load);
        arrive();
    }

    /// Arrivals from now on, as a part of what the permits can do.
    void load(double part) {
        gap_ = std::exponential_distribution<double>(part * capacity_ / seconds(service_time));
    }

    /// Served in time, as a part of what the permits can do.
    double goodput(clock_type::duration warm_up, clock_type::duration time) {
        run_until(clock_type::now() + warm_up);
        in_time_ = 0;
        run_until(clock_type::now() + time);
        return static_cast<double>(in_time_) * seconds(service_time) / (capacity_ * seconds(time));
    }

    semaphore::statistics_type statistics() const { return slots_.statistics(); }
    bool is_overloaded() const { return slots_.is_overloaded(); }

private:
    static double seconds(clock_type::duration d) {
        return std::chrono::duration<double>(d).count();
    }

    void schedule(clock_type::time_point at, std::function<void()> what) {
        events_.emplace(at, std::move(what));
    }

    void run_until(clock_type::time_point end) {
        while (!events_.empty() && events_.begin()->first <= end) {
            auto const event = events_.extract(events_.begin());
            clock_type::advance_to(event.key());
            poll();
            event.mapped()();
            poll();
        }
        clock_type::advance_to(end);
    }

    void poll() {
        io_.restart();
        io_.poll();
    }

    void arrive() {
        auto const now = clock_type::now();
        auto const gap = std::chrono::duration<double>(gap_(random_));
        schedule(now + std::chrono::duration_cast<clock_type::duration>(gap), [this] { arrive(); });
        slots_.async_acquire_until(now + patience, [this, now](error_code ec, permit p) {
            if (ec) return;
            auto const held = std::make_shared<permit>(std::move(p));
            schedule(clock_type::now() + service_time, [this, now, held] {
                held->release();
                if (clock_type::now() <= now + patience) ++in_time_;
            });
        });
    }

    asio::io_context io_;
    semaphore slots_;
    test::random random_;
    double capacity_;
    std::exponential_distribution<double> gap_;
    std::multimap<clock_type::time_point, std::function<void()>> events_;
    std::size_t in_time_ = 0;
};

double goodput(tidegate::semaphore_options const& options, double load, std::uint64_t seed) {
    return service(options, load, seed).goodput(1s, 20s);
}

} // namespace

TEST_CASE("at twice the capacity newest first gets at least nine tenths of it done in time") {
    for (std::size_t const permits : {1u, 4u, 20u}) {
        for (std::uint64_t const seed : test::seeds()) {
            INFO("TIDEGATE_STRESS_SEED=" << seed << ", permits " << permits);
            tidegate::semaphore_options in_order, adaptive, no_queue;
            in_order.capacity(permits);
            adaptive.capacity(permits).order(queue_order::newest_first_under_overload);
            no_queue.capacity(permits).max_waiters(0);
            double const fifo = goodput(in_order, 2, seed);
            double const newest_first = goodput(adaptive, 2, seed);
            double const fail_fast = goodput(no_queue, 2, seed);
            INFO("fifo " << fifo << ", newest first " << newest_first << ", no queue "
                         << fail_fast);
            CHECK(newest_first >= 0.9);
            CHECK(fifo < 0.5);
            CHECK(newest_first > fail_fast);
        }
    }
}

TEST_CASE("below its capacity newest first costs next to nothing") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        tidegate::semaphore_options in_order, adaptive;
        in_order.capacity(10);
        adaptive.capacity(10).order(queue_order::newest_first_under_overload);
        CHECK(goodput(adaptive, 0.8, seed) >= 0.98 * goodput(in_order, 0.8, seed));
    }
}

TEST_CASE("the order is turned back when the load goes") {
    tidegate::semaphore_options options;
    options.capacity(4).order(queue_order::newest_first_under_overload);
    service overloaded(options, 2, 7);
    overloaded.goodput(1s, 1s);
    CHECK(overloaded.is_overloaded());
    CHECK(overloaded.statistics().refused_overloaded > 100);
    overloaded.load(0.5);
    overloaded.goodput(1s, 1s);
    CHECK_FALSE(overloaded.is_overloaded());
    auto const before = overloaded.statistics().refused_overloaded;
    overloaded.goodput(0s, 2s);
    CHECK(overloaded.statistics().refused_overloaded == before);
}
