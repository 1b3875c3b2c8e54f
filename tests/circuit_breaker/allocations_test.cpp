// SPDX-License-Identifier: BSL-1.0
// Transitions that find no memory.
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/testing/manual_clock.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <boost/system/errc.hpp>

#include <chrono>
#include <cstddef>
#include <new>
#include <string>
#include <tuple>
#include <utility>

namespace {

using namespace std::chrono_literals;
using tidegate::breaker_state;
using options = tidegate::circuit_breaker_options;

struct tag;
using test_clock = tidegate::testing::basic_manual_clock<tag>;
using breaker = tidegate::basic_circuit_breaker<test_clock>;

options small() {
    return options().count_window(4).minimum_calls(1).open_duration(1s).permitted_probes(2);
}

struct shape {
    std::string name;
    options settings;
};

shape any_shape() {
    return GENERATE(shape{"plain", small()}, shape{"ramp", small().ramp({0.5, 0.75}, 1s)},
                    shape{"time window", small().time_window(10s, 4)},
                    shape{"in a row", small().consecutive_failures(1).ramp({0.5}, 1s)});
}

void fail(breaker::permit call) { call.failure(make_error_code(boost::system::errc::timed_out)); }

// Whether what `step` did found no memory, and whether the allocation was reached.
template <class Step>
std::pair<bool, bool> without_memory(std::size_t n, Step step) {
    bool thrown = false;
    test::fail_allocation(n);
    try {
        step();
    } catch (std::bad_alloc const&) {
        thrown = true;
    }
    bool const reached = test::until_failure() == 0;
    test::fail_allocation(0);
    return {thrown, reached};
}

// A ramp may refuse the first few.
bool admits_soon(breaker& b) {
    test_clock::advance(1h);
    for (int i = 0; i < 4; ++i) {
        if (auto call = b.try_acquire()) {
            call.success();
            return true;
        }
    }
    return false;
}

// It works as ever: closes after good probes, and trips.
void check_that_it_works(breaker& b) {
    for (int i = 0; i < 8 && b.state() != breaker_state::closed; ++i) CHECK(admits_soon(b));
    CHECK(b.state() == breaker_state::closed);
    test_clock::advance(1h);
    fail(b.try_acquire());
    fail(b.try_acquire());
    CHECK(b.state() == breaker_state::open);
}

} // namespace

TEST_CASE("a breaker that finds no memory to become half open stays open, and tries again") {
    auto const [name, settings] = any_shape();
    bool reached = true;
    for (std::size_t n = 1; reached; ++n) {
        INFO(name << ", allocation " << n);
        breaker b(settings);
        fail(b.try_acquire());
        REQUIRE(b.state() == breaker_state::open);
        test_clock::advance(2s);
        bool thrown = false;
        std::tie(thrown, reached) = without_memory(n, [&] { b.try_acquire().success(); });
        CHECK(thrown == reached);
        if (thrown) CHECK(b.state() == breaker_state::open);
        CHECK(admits_soon(b));
        check_that_it_works(b);
    }
}

TEST_CASE("a breaker that finds no memory to close after its probes does with the next call") {
    auto const [name, settings] = any_shape();
    std::string heard;
    bool reached = true;
    for (std::size_t n = 1; reached; ++n) {
        INFO(name << ", allocation " << n);
        heard.clear();
        options told = settings;
        told.on_transition(
            [&](breaker_state, breaker_state to) { heard += to_string(to).front(); });
        breaker b(told);
        fail(b.try_acquire());
        test_clock::advance(2s);
        b.try_acquire().success();
        auto last = b.try_acquire();
        bool thrown = false;
        std::tie(thrown, reached) = without_memory(n, [&] { last.success(); });
        CHECK(thrown == reached);
        if (thrown) CHECK(b.state() == breaker_state::half_open);
        CHECK(admits_soon(b));
        CHECK(b.state() == breaker_state::closed);
        CHECK(heard == "ohc");
        check_that_it_works(b);
    }
}

TEST_CASE("a breaker that finds no memory to open does with the next call, for no longer") {
    // Every transition takes a place in a queue, which allocates for some of them only: so many
    // that each number of earlier ones is met.
    std::size_t failed = 0;
    for (int earlier = 0; earlier < 40; ++earlier) {
        INFO("earlier transitions " << earlier);
        breaker b(small().open_growth(2, 1h).jitter(0));
        fail(b.try_acquire());
        for (int i = 0; i < earlier; ++i) {
            if (i % 2 == 0) b.disable();
            else b.metrics_only();
        }
        b.trip(); // the second in a row
        CHECK(b.retry_after() == 2s);
        test_clock::advance(2s);
        auto first = b.try_acquire();
        auto second = b.try_acquire();
        REQUIRE(second.is_probe());
        bool const thrown = without_memory(1, [&] { fail(std::move(first)); }).first;
        failed += thrown;
        if (thrown) {
            CHECK(b.state() == breaker_state::half_open);
            CHECK_FALSE(b.try_acquire());
        }
        CHECK(b.state() == breaker_state::open);
        CHECK(b.retry_after() == 4s);
    }
    CHECK(failed > 0);
}

TEST_CASE("settings for which there is no memory leave a breaker as it was") {
    bool reached = true;
    for (std::size_t n = 1; reached; ++n) {
        INFO("allocation " << n);
        breaker b(small());
        fail(b.try_acquire());
        test_clock::advance(2s);
        auto probe = b.try_acquire();
        bool thrown = false;
        options const more = small().permitted_probes(8).time_window(10s, 4);
        std::tie(thrown, reached) = without_memory(n, [&] { b.reconfigure(more); });
        CHECK(thrown == reached);
        CHECK(b.was_reconfigured() == !thrown);
        probe.ignore();
        int admitted = 0;
        breaker::permit out[8];
        for (auto& one : out) admitted += static_cast<bool>(one = b.try_acquire());
        CHECK(admitted == (thrown ? 2 : 8));
        for (auto& one : out) one.success();
        check_that_it_works(b);
    }
}
