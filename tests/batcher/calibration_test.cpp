// SPDX-License-Identifier: BSL-1.0
// Which batch is chosen, for batches whose cost is known.
#include <tidegate/batch_calibration.hpp>
#include <tidegate/testing/manual_clock.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <atomic>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using tidegate::calibrate_batches;
using options = tidegate::batch_calibration_options;

namespace {

struct calibration_clock {};
using clock_type = tidegate::testing::basic_manual_clock<calibration_clock>;

/// A batch takes a fixed time, and more for each item.
auto costs(std::chrono::nanoseconds fixed, std::chrono::nanoseconds an_item) {
    return [=](std::size_t batch) {
        return [=] { clock_type::advance(fixed + static_cast<int>(batch) * an_item); };
    };
}

} // namespace

TEST_CASE("larger batches are chosen while they pay") {
    // 16 items bring 5.7 % more than 8, and 32 bring 2.9 % more than 16.
    auto const tuned =
        calibrate_batches<clock_type>(costs(100us, 100us), options().max_workers(1).batches(1, 64));
    CHECK(tuned.chosen.batch == 16);
    CHECK(tuned.measured.size() == 6); // 1 to 32: the last one brought too little
    CHECK(tuned.chosen.items_per_second > 9000);
    CHECK(tuned.chosen.items_per_second < 9500);
    CHECK(tuned.chosen.p95 >= 1690us);
    CHECK(tuned.chosen.p95 <= 1715us);
}

TEST_CASE("batches that bring nothing stay small") {
    auto const tuned = calibrate_batches<clock_type>(costs(0us, 100us), options().max_workers(1));
    CHECK(tuned.chosen.batch == 1);
    CHECK(tuned.measured.size() == 2);
}

TEST_CASE("a latency bound rules out large batches; if it rules out all, the quickest is taken") {
    auto const bounded = calibrate_batches<clock_type>(
        costs(1ms, 100us), options().max_workers(1).max_latency(1500us));
    CHECK(bounded.chosen.batch == 4);
    auto const none = calibrate_batches<clock_type>(costs(1ms, 100us),
                                                    options().max_workers(1).max_latency(10us));
    CHECK(none.chosen.batch == 1);
}

TEST_CASE("one size of batch can be asked for, and a largest that is no power of two") {
    auto const fixed =
        calibrate_batches<clock_type>(costs(1ms, 1us), options().max_workers(1).batches(8, 8));
    CHECK(fixed.chosen.batch == 8);
    CHECK(fixed.measured.size() == 1);
    auto const odd =
        calibrate_batches<clock_type>(costs(1ms, 1us), options().max_workers(1).batches(4, 10));
    CHECK(odd.measured.back().batch == 10);
}

TEST_CASE("the budget is kept, and those who watch are told") {
    auto const start = clock_type::now();
    std::size_t told = 0;
    auto const tuned = calibrate_batches<clock_type>(
        costs(10ms, 10us),
        options().max_workers(1).budget(1s).on_measured([&](auto const&) { ++told; }));
    CHECK(clock_type::now() - start <= 1200ms);
    CHECK(told == tuned.measured.size());
}

TEST_CASE("each worker has a thread, and a worker that throws ends it on all of them") {
    std::mutex mutex;
    std::set<std::thread::id> threads;
    auto note = [&](std::size_t) {
        std::lock_guard lock(mutex);
        threads.insert(std::this_thread::get_id());
        return [] { std::this_thread::yield(); };
    };
    auto const tuned = calibrate_batches(note, options().max_workers(4).batches(1, 1).budget(20ms));
    CHECK(threads.size() >= 4);
    CHECK(tuned.measured.front().workers == 4);

    std::atomic<int> running{0};
    auto fail = [&](std::size_t) {
        ++running;
        return [&, n = 0]() mutable {
            if (++n < 5) return;
            --running;
            throw std::runtime_error("no such model");
        };
    };
    CHECK_THROWS_WITH(calibrate_batches(fail, options().max_workers(3).budget(1s)),
                      "no such model");
    CHECK(running == 0);
}

TEST_CASE("bad calibration options are refused by name") {
    CHECK_THROWS_WITH(options().max_workers(0), ContainsSubstring("calibration max_workers is 0"));
    CHECK_THROWS_WITH(options().batches(8, 4),
                      ContainsSubstring("largest batch is 4, allowed is 8 to"));
    CHECK_THROWS_WITH(options().budget(0ms), ContainsSubstring("calibration budget in ns is 0"));
}
