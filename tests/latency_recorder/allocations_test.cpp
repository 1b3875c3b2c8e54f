// SPDX-License-Identifier: BSL-1.0
// Nothing recorded is lost for want of memory.
#include <tidegate/latency_recorder.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <thread>

using namespace std::chrono_literals;
using tidegate::latency_recorder;

TEST_CASE("wherever memory ends, a duration counts, in its bucket or as overflow") {
    bool failed = true;
    std::size_t overflows = 0;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        latency_recorder recorder;
        bool refused = false;
        std::thread([&] { // one that has recorded nothing yet
            test::fail_allocation(n);
            recorder.record(5ms);
            refused = test::until_failure() == 0;
            test::fail_allocation(0);
            recorder.record(5ms);
        })
            .join();
        failed = refused;
        auto const all = recorder.snapshot();
        CHECK(all.count() == 2);
        CHECK(all.sum() == 10'000'000);
        CHECK(all.overflows() <= (failed ? 1u : 0u));
        overflows += all.overflows();
    }
    CHECK(overflows > 0);
}

TEST_CASE("an invalid duration is counted without memory, too") {
    latency_recorder recorder;
    std::thread([&] {
        test::fail_allocation(1);
        recorder.record(-1ms);
    }).join();
    CHECK(test::until_failure() == 0);
    test::fail_allocation(0);
    CHECK(recorder.invalid() == 1);
    CHECK(recorder.snapshot().count() == 0);
}

TEST_CASE("what a thread recorded stays when there is no memory to take it over") {
    latency_recorder recorder;
    std::thread([&] {
        recorder.record(1ms);
        test::fail_allocation(1); // as it ends
    }).join();
    CHECK(test::until_failure() == 0);
    test::fail_allocation(0);
    std::thread([&] { recorder.record(2ms); }).join();
    auto const all = recorder.snapshot();
    CHECK(all.count() == 2);
    CHECK(all.sum() == 3'000'000);
}

TEST_CASE("a thread that has ended but for destructors counts an overflow without memory") {
    latency_recorder recorder;
    struct late {
        latency_recorder* to = nullptr;
        ~late() {
            if (!to) return;
            test::fail_allocation(1);
            to->record(5ms);
        }
    };
    std::thread([&] {
        static thread_local late first; // destroyed after what the recorder keeps
        first.to = &recorder;
        recorder.record(1ns);
    }).join();
    CHECK(test::until_failure() == 0);
    test::fail_allocation(0);
    auto const all = recorder.snapshot();
    CHECK(all.count() == 2);
    CHECK(all.overflows() == 1);
}
