// SPDX-License-Identifier: BSL-1.0
// The adaptive limiter in front of simulated services whose best limit is known.
#include "simulated_service.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <numeric>
#include <string>

using test::limiter;
using test::simulated_service;
using tidegate::adaptive_limiter_options;
using tidegate::concurrency_limit_options;
using tidegate::limit_algorithm;

namespace {

limiter make(limit_algorithm algorithm, double initial, std::uint32_t samples = 250) {
    auto const start = static_cast<std::uint32_t>(std::max(1.0, initial));
    return limiter(adaptive_limiter_options()
                       .limit(concurrency_limit_options().algorithm(algorithm).initial(start))
                       .window_samples(samples));
}

std::vector<std::uint32_t> last_five(std::vector<std::uint32_t> const& limits) {
    return {limits.end() - std::min<std::ptrdiff_t>(5, std::ssize(limits)), limits.end()};
}

// Whether each of the last limits is within a fifth of the best one.
bool all_near(std::vector<std::uint32_t> const& limits, int best) {
    auto const last = last_five(limits);
    return std::all_of(last.begin(), last.end(), [&](std::uint32_t limit) {
        return std::abs(static_cast<double>(limit) - best) <= 0.2 * best + 1e-9;
    });
}

double mean(std::vector<std::uint32_t> const& limits) {
    auto const last = last_five(limits);
    return std::accumulate(last.begin(), last.end(), 0.0) / static_cast<double>(last.size());
}

std::string shown(std::vector<std::uint32_t> const& limits) {
    std::string text;
    for (std::uint32_t const limit : limits) text += std::to_string(limit) + " ";
    return text;
}

constexpr auto both = {limit_algorithm::gradient, limit_algorithm::vegas};

} // namespace

TEST_CASE("with fixed service times the limit is within 20 % of the best after 20 windows, and "
          "again after each change") {
    for (auto const algorithm : both) {
        for (int const servers : {10, 50, 200}) {
            for (double const start : {0.25, 1.0, 4.0}) {
                for (std::uint64_t const seed : {1u, 2u, 3u}) {
                    INFO((algorithm == limit_algorithm::vegas ? "vegas" : "gradient")
                         << ", servers " << servers << ", start " << start << ", seed " << seed);
                    limiter l = make(algorithm, start * servers);
                    simulated_service service(l, seed);
                    service.servers = servers;
                    auto const settles = [&](char const* after) {
                        auto const limits = service.run(20);
                        INFO(after << ": " << shown(limits));
                        CHECK(all_near(limits, service.servers));
                    };
                    settles("start");
                    service.slowest = 0;
                    service.run(5);
                    CHECK(service.slowest <= 2 * service.service_time);
                    service.service_time *= 5;
                    settles("five times slower");
                    service.service_time /= 5;
                    settles("five times faster");
                    service.servers *= 2;
                    settles("twice the servers");
                    service.servers /= 2;
                    settles("half the servers");
                }
            }
        }
    }
}

TEST_CASE("with exponential service times the limit is within 20 % of the best on average") {
    for (auto const algorithm : both) {
        for (int const servers : {20, 50, 200}) {
            for (double const start : {0.25, 4.0}) {
                double after_start = 0, after_slower = 0, after_faster = 0;
                constexpr int runs = 8;
                for (std::uint64_t seed = 1; seed <= runs; ++seed) {
                    limiter l = make(algorithm, start * servers, 500);
                    simulated_service service(l, seed);
                    service.servers = servers;
                    service.exponential = true;
                    after_start += mean(service.run(20)) / runs;
                    service.service_time *= 5;
                    after_slower += mean(service.run(20)) / runs;
                    service.service_time /= 5;
                    after_faster += mean(service.run(20)) / runs;
                }
                INFO((algorithm == limit_algorithm::vegas ? "vegas" : "gradient")
                     << ", servers " << servers << ", start " << start << ": " << after_start << " "
                     << after_slower << " " << after_faster);
                CHECK(std::abs(after_start / servers - 1) <= 0.2);
                CHECK(std::abs(after_slower / servers - 1) <= 0.2);
                CHECK(std::abs(after_faster / servers - 1) <= 0.2);
            }
        }
    }
}

TEST_CASE("one call in a hundred that takes a hundred times as long does not count") {
    for (auto const algorithm : both) {
        limiter l = make(algorithm, 20);
        simulated_service service(l, 20261120);
        service.outliers = 0.01;
        auto const limits = service.run(40);
        INFO(shown(limits));
        CHECK(all_near(limits, service.servers));
        double const baseline = static_cast<double>(l.statistics().baseline.count());
        CHECK(std::abs(baseline / service.service_time - 1) < 0.1);
    }
}

TEST_CASE("a limit that is not used does not grow") {
    for (auto const algorithm :
         {limit_algorithm::gradient, limit_algorithm::vegas, limit_algorithm::aimd}) {
        limiter l = make(algorithm, 20);
        simulated_service service(l, 5);
        service.load = 0.05; // two or three at once
        service.run(100);
        CHECK(l.limit() <= static_cast<std::uint32_t>(std::max(20, 2 * service.max_in_flight)));
    }
}

TEST_CASE("below half load nobody is refused, and nothing is probed") {
    for (auto const algorithm : both) {
        for (bool const exponential : {false, true}) {
            for (std::uint64_t const seed : {1u, 2u, 3u}) {
                limiter l = make(algorithm, 20);
                simulated_service service(l, seed);
                service.exponential = exponential;
                service.load = 0.45;
                service.run(20); // up to what the load needs
                auto const before = l.statistics();
                service.run(200);
                CHECK(l.statistics().refused == before.refused);
                CHECK(l.statistics().probes == before.probes);
            }
        }
    }
}

TEST_CASE("aimd stays at its latency threshold, and grows to its largest value without one") {
    limiter l(
        adaptive_limiter_options().limit(concurrency_limit_options()
                                             .algorithm(limit_algorithm::aimd)
                                             .initial(100)
                                             .latency_threshold(std::chrono::milliseconds(12))));
    simulated_service service(l, 3);
    service.run(20);
    for (std::uint32_t const limit : service.run(100)) {
        CHECK(limit >= 50); // 0.9 of the 60 calls that take 12 ms, less the lag of a window
        CHECK(limit <= 63);
    }
    limiter free(adaptive_limiter_options().limit(
        concurrency_limit_options().algorithm(limit_algorithm::aimd).initial(50).largest(80)));
    simulated_service other(free, 3);
    CHECK(other.run(40).back() == 80);
}
