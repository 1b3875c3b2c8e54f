// SPDX-License-Identifier: BSL-1.0
// A service with servers and a queue in simulated time, and clients that come through a limiter.
#pragma once

#include <tidegate/adaptive_limiter.hpp>
#include <tidegate/testing/manual_clock.hpp>

#include "support/stress.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <queue>
#include <random>
#include <utility>
#include <vector>

namespace test {

struct simulation_clock_tag;
using simulation_clock = tidegate::testing::basic_manual_clock<simulation_clock_tag>;
using limiter = tidegate::basic_adaptive_limiter<simulation_clock>;

/// Poisson arrivals, `servers` servers, one FIFO queue: M/D/c or M/M/c. With more calls offered
/// than the servers can do, the best limit is `servers`: fewer leave one idle, more only wait.
class simulated_service {
public:
    simulated_service(limiter& l, std::uint64_t seed) : limiter_(l), random_(seed) {}

    int servers = 50;
    double service_time = 10e6; // ns
    bool exponential = false;
    double load = 2;     // offered, in parts of what the servers can do
    double outliers = 0; // share of calls that report a hundred times their latency
    tidegate::priority priority = tidegate::priority::high;

    std::uint64_t refused = 0;
    int max_in_flight = 0;
    double slowest = 0; // latency in ns, reset by whoever looks

    /// Runs for `windows` windows of the limiter; returns the limit in each that is no probe.
    std::vector<std::uint32_t> run(std::uint64_t windows) {
        std::vector<std::uint32_t> limits;
        auto before = limiter_.statistics();
        std::uint64_t const last = before.windows + windows;
        while (before.windows < last) {
            step();
            auto const now = limiter_.statistics();
            if (now.windows == before.windows) continue;
            if (now.probes == before.probes) limits.push_back(limiter_.limit());
            before = now;
        }
        return limits;
    }

private:
    struct call {
        limiter::permit permit;
        double start;
    };
    struct running {
        double end;
        std::size_t slot;
        bool operator>(running const& other) const noexcept { return end > other.end; }
    };

    void step() {
        if (busy_.empty() || next_arrival_ < busy_.top().end) {
            now_ = next_arrival_;
            next_arrival_ += draw(service_time / (load * servers));
            arrive();
        } else {
            running const done = busy_.top();
            busy_.pop();
            now_ = done.end;
            leave(done.slot);
        }
    }

    void arrive() {
        auto permit = limiter_.try_acquire(priority, at(now_));
        if (!permit) {
            ++refused;
            return;
        }
        max_in_flight = std::max(max_in_flight, static_cast<int>(limiter_.in_flight()));
        queue_.push_back({std::move(permit), now_});
        serve();
    }

    void leave(std::size_t slot) {
        call& c = calls_[slot];
        double const latency = now_ - c.start;
        slowest = std::max(slowest, latency);
        bool const outlier = std::uniform_real_distribution<>()(random_) < outliers;
        c.permit.success(at(outlier ? c.start + 100 * latency : now_));
        free_.push_back(slot);
        serve();
    }

    void serve() {
        while (!queue_.empty() && static_cast<int>(busy_.size()) < servers) {
            if (free_.empty()) {
                free_.push_back(calls_.size());
                calls_.emplace_back();
            }
            std::size_t const slot = free_.back();
            free_.pop_back();
            calls_[slot] = std::move(queue_.front());
            queue_.pop_front();
            busy_.push({now_ + (exponential ? draw(service_time) : service_time), slot});
        }
    }

    double draw(double mean) { return std::exponential_distribution<>(1 / mean)(random_); }

    static simulation_clock::time_point at(double ns) {
        return simulation_clock::time_point(
            std::chrono::nanoseconds(static_cast<std::int64_t>(ns)));
    }

    limiter& limiter_;
    test::random random_;
    double now_ = 0;
    double next_arrival_ = 0;
    std::deque<call> queue_;
    std::vector<call> calls_;
    std::vector<std::size_t> free_;
    std::priority_queue<running, std::vector<running>, std::greater<>> busy_;
};

} // namespace test
