// SPDX-License-Identifier: BSL-1.0
// Where services start from, and where they get with this library: blocking code on an event loop
// against the same work awaited. Real sockets, real time.
#include "bench.hpp"
#include "coroutines.hpp"
#include "slow_server.hpp"

#include <tidegate/core/histogram.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/poll.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/timeout.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace bench;
using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

// Waiting for jobs of a remote service, which can only be asked whether they are done. The blocking
// way: a task asks, sleeps, asks again, and all others on its event loop wait for it.

constexpr auto job_takes = 30ms;
constexpr auto ask_every = 5ms;

std::string job_name() {
    static std::uint64_t number = 0;
    return "/jobs/" + std::to_string(++number);
}

asio::awaitable<void> wait_blocking(connection& to) {
    std::string const job = job_name();
    while (to.get(job) != "done") std::this_thread::sleep_for(ask_every);
    co_return;
}

asio::awaitable<void> wait_polling(connection& to) {
    auto check = [&to, job = job_name()]() -> asio::awaitable<bool> {
        co_return co_await to.async_get(job) == "done";
    };
    auto const interval = tidegate::poll_interval(ask_every).multiplier(1);
    co_await tidegate::poll_until(check, interval, 10s);
}

template <int jobs, asio::awaitable<void> (*wait)(connection&)>
void poll_jobs(run& r) {
    r.skip_warm_up();
    slow_server server(job_takes);
    asio::io_context context{1};
    std::deque<connection> connections;
    for (int i = 0; i < jobs; ++i) connections.emplace_back(context, server.endpoint());
    while (r.more()) {
        for (connection& each : connections) start(context, wait(each));
        context.restart();
        context.run();
    }
}

group const polling{[] {
    row("poll_10/blocking", wall_time, poll_jobs<10, wait_blocking>)->Iterations(1)->Repetitions(5);
    row("poll_10/tidegate", wall_time, poll_jobs<10, wait_polling>)->Iterations(1)->Repetitions(5);
    row("poll_100/blocking", wall_time, poll_jobs<100, wait_blocking>)
        ->Iterations(1)
        ->Repetitions(3);
    row("poll_100/tidegate", wall_time, poll_jobs<100, wait_polling>)
        ->Iterations(1)
        ->Repetitions(3);
    claim("poll_10_times_faster", ratio_of("poll_10/blocking", "poll_10/tidegate"), at_least(9));
    claim("poll_100_times_faster", ratio_of("poll_100/blocking", "poll_100/tidegate"),
          at_least(30));
}};

// 100 requests at once to a service that takes 5 ms for each.

constexpr int requests = 100;

/// Sums up from when all requests were there to each answer.
class latencies {
public:
    void begin() { begun_ = clock_type::now(); }
    void note() {
        auto const took = clock_type::now() - begun_;
        all_.record(static_cast<std::uint64_t>(took / 1ns));
    }
    double p95_ms() const { return all_.percentile(0.95) / 1e6; }

private:
    clock_type::time_point begun_;
    tidegate::core::histogram all_;
};

void requests_blocking(run& r) {
    r.skip_warm_up();
    slow_server server(5ms);
    asio::io_context context{1};
    connection one(context, server.endpoint());
    latencies seen;
    while (r.more(requests)) {
        seen.begin();
        for (int i = 0; i < requests; ++i) {
            one.get("/slow");
            seen.note();
        }
    }
    r.report("p95_ms", seen.p95_ms());
}

/// Connections that are not in use.
using idle_connections = std::vector<std::unique_ptr<connection>>;

template <class Policy>
asio::awaitable<void> request_guarded(Policy const& guard, idle_connections& idle,
                                      latencies& seen) {
    auto get = [&idle]() -> asio::awaitable<std::string> {
        auto mine = std::move(idle.back());
        idle.pop_back();
        auto answer = co_await mine->async_get("/slow");
        idle.push_back(std::move(mine));
        co_return answer;
    };
    co_await guard(get);
    seen.note();
}

void requests_guarded(run& r) {
    r.skip_warm_up();
    constexpr std::size_t at_once = 20;
    slow_server server(5ms);
    asio::io_context context{1};
    idle_connections idle;
    for (std::size_t i = 0; i < at_once; ++i) {
        idle.push_back(std::make_unique<connection>(context, server.endpoint()));
    }
    tidegate::semaphore bulkhead(context, at_once);
    tidegate::policy const guard{tidegate::retry(tidegate::retry_options().max_attempts(3)),
                                 tidegate::timeout(2s), bulkhead};
    latencies seen;
    while (r.more(requests)) {
        seen.begin();
        for (int i = 0; i < requests; ++i) start(context, request_guarded(guard, idle, seen));
        context.restart();
        context.run();
    }
    r.report("p95_ms", seen.p95_ms());
}

group const slow_service{[] {
    row("requests_100/blocking", wall_time, requests_blocking)
        ->Iterations(requests)
        ->Repetitions(5);
    row("requests_100/tidegate", wall_time, requests_guarded)->Iterations(requests)->Repetitions(5);
    claim("requests_a_second", ratio_of("requests_100/blocking", "requests_100/tidegate"),
          at_least(5));
    claim("p95",
          ratio_of(counter_of("requests_100/tidegate", "p95_ms"),
                   counter_of("requests_100/blocking", "p95_ms")),
          at_most(0.4));
}};

// 100 tasks that want more than the rate: what they get is the rate. The burst makes up for
// wake-ups that come late; without one, the rate could only be missed from below.

void limited_tasks(run& r) {
    r.skip_warm_up();
    constexpr int tasks = 100, grants = 2000, burst = 10;
    double worst = 0;
    while (r.more()) {
        asio::io_context context{1};
        tidegate::rate_limiter limiter(
            context,
            tidegate::rate_limiter_options().rate(2000, std::chrono::seconds(1)).burst(burst));
        int granted = 0;
        clock_type::time_point first, last;
        auto want = [&]() -> asio::awaitable<void> {
            while (granted < grants) {
                co_await limiter.acquire();
                last = clock_type::now();
                if (++granted == burst) first = last;
            }
        };
        for (int i = 0; i < tasks; ++i) start(context, want());
        context.run();
        double const seconds = std::chrono::duration<double>(last - first).count();
        worst = std::max(worst, std::abs((granted - burst) / seconds / 2000 - 1));
    }
    r.report("deviation", worst);
}

group const limiting{[] {
    row("rate_under_100_tasks/tidegate", wall_time, limited_tasks)->Iterations(1)->Repetitions(3);
    claim("rate_deviation", most_of("rate_under_100_tasks/tidegate", "deviation"), at_most(0.01));
}};

} // namespace
