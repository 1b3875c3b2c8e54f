// SPDX-License-Identifier: BSL-1.0
// Many threads record, others read: nothing is lost, nobody waits.
#include "support/stress.hpp"

#include <tidegate/latency_recorder.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <atomic>
#include <cmath>
#include <fstream>
#include <latch>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

using namespace std::chrono_literals;
using tidegate::latency_recorder;
using tidegate::core::histogram;

namespace {

bool same(histogram const& a, histogram const& b) {
    bool all = a.count() == b.count() && a.sum() == b.sum() && a.min() == b.min() &&
               a.max() == b.max() && a.zeros() == b.zeros() && a.overflows() == b.overflows();
    std::vector<std::uint64_t> left, right;
    a.for_each([&](std::size_t s, std::uint64_t n) { left.insert(left.end(), {s, n}); });
    b.for_each([&](std::size_t s, std::uint64_t n) { right.insert(right.end(), {s, n}); });
    return all && left == right;
}

std::size_t resident_kilobytes() {
    std::ifstream in("/proc/self/statm");
    std::size_t total = 0, resident = 0;
    in >> total >> resident;
    return resident * 4;
}

} // namespace

TEST_CASE("what threads recorded is what one would have, also after they ended") {
    latency_recorder recorder;
    histogram whole;
    std::vector<std::jthread> threads;
    for (std::uint64_t t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            test::random random(t);
            for (int i = 0; i < 20000; ++i)
                recorder.record(
                    std::chrono::nanoseconds(random() >> (20 + test::below(random, 44))));
        });
        test::random random(t);
        for (int i = 0; i < 20000; ++i) whole.record(random() >> (20 + test::below(random, 44)));
    }
    threads.clear();
    CHECK(same(recorder.snapshot(), whole));
    recorder.record(5ns);
    whole.record(5);
    CHECK(same(recorder.snapshot(), whole));
}

TEST_CASE("a snapshot beside writers is never less than the one before, and fits itself") {
    latency_recorder recorder;
    std::atomic<bool> done{false};
    std::vector<std::jthread> threads;
    constexpr int each = 50000;
    for (std::uint64_t t = 0; t < 3; ++t) {
        threads.emplace_back([&, t] {
            test::random random(t);
            for (int i = 0; i < each; ++i) recorder.record(1ns * (1 + test::below(random, 100000)));
        });
    }
    std::jthread reader([&] {
        histogram last;
        int wrong = 0;
        while (!done) {
            auto now = recorder.snapshot();
            std::uint64_t in_buckets = 0;
            now.for_each([&](std::size_t, std::uint64_t n) { in_buckets += n; });
            wrong += in_buckets != now.count() || now.count() < last.count();
            auto since = now;
            since.subtract(last);
            since.for_each([&](std::size_t, std::uint64_t n) { wrong += n > 1u << 30; });
            last = std::move(now);
        }
        CHECK(wrong == 0);
    });
    threads.clear();
    done = true;
    reader.join();
    CHECK(recorder.snapshot().count() == 3 * each);
}

TEST_CASE("what a snapshot counts is in its extremes and its sum, the very first, too") {
    constexpr std::uint64_t duration = 1'000;
    std::vector<tidegate::detail::latency_shard> shards(5'000);
    bool const prefaulted = GENERATE(false, true);
    if (prefaulted) {
        for (auto& shard : shards) shard.prefault(duration, duration);
    }
    std::atomic<std::size_t> turn{0};
    std::jthread const writer([&] {
        for (std::size_t i = 0; i < shards.size(); ++i) {
            while (turn <= i) std::this_thread::yield();
            shards[i].record(duration);
        }
    });
    int wrong = 0;
    for (auto const& shard : shards) {
        ++turn;
        histogram seen;
        while (seen.count() == 0) {
            seen = {};
            shard.add_to(seen);
        }
        wrong += seen.min() != duration || seen.max() != duration || seen.sum() != duration;
    }
    CHECK(wrong == 0);
}

TEST_CASE("invalid durations are counted apart and change nothing else") {
    latency_recorder recorder;
    recorder.record(-1ns);
    recorder.record(std::chrono::duration<double>(std::nan("")));
    recorder.record(std::chrono::duration<double>(INFINITY));
    recorder.record(std::chrono::duration<double>(-0.5));
    CHECK(recorder.invalid() == 4);
    CHECK(recorder.snapshot().count() == 0);
    recorder.record(std::chrono::duration<double>(1.5e-9));
    recorder.record(std::chrono::duration<double>(1e300));
    recorder.record(std::chrono::nanoseconds::max());
    recorder.record(0ns);
    auto const all = recorder.snapshot();
    CHECK(all.count() == 4);
    CHECK(all.overflows() == 2);
    CHECK(all.zeros() == 1);
    CHECK(all.max() >= 9'000'000'000'000'000'000u);
}

TEST_CASE("ten thousand short threads leave their counts and not their memory") {
    latency_recorder recorder;
    auto const some = [&](int threads) {
        for (int i = 0; i < threads; ++i) {
            std::thread([&] {
                for (int k = 0; k < 20; ++k) recorder.record(std::chrono::nanoseconds(1 << k));
            }).join();
        }
    };
    some(1000);
    auto const before = resident_kilobytes();
    some(9000);
    CHECK(recorder.snapshot().count() == 200'000);
    // Sanitizers keep what was freed.
    CHECK(resident_kilobytes() < before + (test::sanitized ? 1 << 20 : 1024));
}

TEST_CASE("recorders come and go while threads stay, and numbers are used again") {
    std::atomic<int> round{0};
    std::optional<latency_recorder> recorder;
    constexpr int rounds = 200, threads = 3;
    std::atomic<int> recorded{0};
    std::vector<std::jthread> all;
    for (int t = 0; t < threads; ++t) {
        all.emplace_back([&] {
            for (int r = 1; r <= rounds; ++r) {
                round.wait(r - 1);
                recorder->record(1us);
                recorded.fetch_add(1);
                recorded.notify_all();
            }
        });
    }
    bool lost = false;
    for (int r = 1; r <= rounds; ++r) {
        recorder.emplace();
        recorded = 0;
        round = r;
        round.notify_all();
        for (int n = recorded; n < threads; n = recorded) recorded.wait(n);
        lost = lost || recorder->snapshot().count() != threads;
    }
    CHECK_FALSE(lost);
}

TEST_CASE("a thread may record while its thread_local objects go, and outlive recorders") {
    latency_recorder recorder;
    auto gone = std::make_unique<latency_recorder>();
    struct late {
        latency_recorder* to = nullptr;
        ~late() {
            if (to) to->record(3ns);
        }
    };
    std::latch may_end(1), has_begun(1);
    std::thread thread([&] {
        static thread_local late first; // destroyed after what the recorder keeps
        first.to = &recorder;
        recorder.record(1ns);
        gone->record(1ns);
        has_begun.count_down();
        may_end.wait();
    });
    has_begun.wait();
    CHECK(gone->snapshot().count() == 1);
    gone.reset();
    may_end.count_down();
    thread.join();
    CHECK(recorder.snapshot().count() == 2);
    CHECK(recorder.snapshot().sum() == 4);
}

TEST_CASE("prefault allocates what recording needs") {
    latency_recorder recorder;
    recorder.prefault(1us, 1s);
    recorder.record(1ms);
    CHECK(recorder.snapshot().count() == 1);
}

TEST_CASE("the child of a fork() has what the parent had, and records for itself") {
    latency_recorder recorder;
    std::thread([&] { recorder.record(2ms); }).join();
    recorder.record(1ms);
    std::atomic<bool> done{false};
    std::atomic<bool> recorded{false};
    std::thread other([&] { // lives on in the parent only
        recorder.record(3ms);
        recorded = true;
        done.wait(false);
    });
    while (!recorded) std::this_thread::yield();
    ::pid_t const child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::alarm(30); // should it hang
        bool good = recorder.snapshot().count() == 3;
        recorder.record(5ms);
        auto const all = recorder.snapshot();
        good = good && all.count() == 4 && all.max() >= 5'000'000 && all.sum() >= 11'000'000;
        ::_exit(good ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(recorder.snapshot().count() == 3);
    done = true;
    done.notify_all();
    other.join();
    CHECK(recorder.snapshot().count() == 3);
}
