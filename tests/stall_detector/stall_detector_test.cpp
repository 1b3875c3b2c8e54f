// SPDX-License-Identifier: BSL-1.0
// Handlers that block until they are found: a stall that is not reported while it lasts hangs its
// test.
#include <tidegate/stall_detector.hpp>
#include <tidegate/watched_executor.hpp>

#include "support/captured_stderr.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include <atomic>
#include <condition_variable>
#include <fstream>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;
using tidegate::stall;
using tidegate::stall_cause;
using tidegate::stall_detector;
using tidegate::stall_detector_options;
using tidegate::watched;

namespace {

class pipe_ends {
public:
    pipe_ends() { REQUIRE(::pipe(ends_) == 0); }
    ~pipe_ends() {
        ::close(ends_[0]);
        ::close(ends_[1]);
    }
    void write() { CHECK(::write(ends_[1], "x", 1) == 1); }
    void read() {
        char byte;
        CHECK(::read(ends_[0], &byte, 1) == 1);
    }
    void splice_into(pipe_ends& other) {
        CHECK(::splice(ends_[0], nullptr, other.ends_[1], nullptr, 1, 0) == 1);
    }
    void poll() {
        ::pollfd one{ends_[0], POLLIN, 0};
        CHECK(::poll(&one, 1, -1) == 1);
    }

private:
    int ends_[2];
};

/// What is to be found: a call that blocks.
void block_in_nanosleep(std::chrono::nanoseconds time) {
    ::timespec const length{0, static_cast<long>(time.count())};
    ::nanosleep(&length, nullptr);
}

/// What a detector reported of one handler, which `release` lets go on the first report.
struct watch {
    std::mutex mutex;
    std::vector<stall> seen;
    std::function<void()> release = [] {};

    stall_detector_options options() {
        return stall_detector_options().threshold(20ms).max_reports_per_minute(1000).on_stall(
            [this](stall const& one) {
                std::lock_guard lock(mutex);
                seen.push_back(one);
                if (seen.size() == 1) release();
            });
    }
    std::vector<stall> reports() {
        std::lock_guard lock(mutex);
        return seen;
    }
};

/// What the host has taken of the processors' time. Who has lost it neither computes nor waits.
long stolen_ticks() {
    std::ifstream in("/proc/stat");
    std::string name;
    in >> name;
    long ticks = 0;
    for (int column = 1; column <= 8; ++column) in >> ticks;
    return in ? ticks : 0;
}

/// Runs `block` as a handler; what was reported first.
stall first_report(watch& w, std::function<void()> block, int signal = 0) {
    asio::io_context io{1};
    {
        stall_detector const detector(w.options().stack_signal(signal));
        asio::post(watched(io.get_executor(), "loop"), [&] { block(); });
        io.run();
        // Its end is seen at the next look.
        while (detector.statistics().count() == 0) std::this_thread::yield();
    }
    auto const all = w.reports();
    REQUIRE(all.size() >= 2);
    CHECK_FALSE(all.front().over);
    CHECK(all.back().over);
    CHECK(all.front().number == all.back().number);
    CHECK(all.back().duration >= all.front().duration);
    CHECK(all.front().duration >= 20ms);
    CHECK(all.front().loop == "loop");
    CHECK(all.front().thread_id == static_cast<long>(::gettid()));
    return all.front();
}

} // namespace

TEST_CASE("a handler in a blocking call is found while it blocks, with the call") {
    watch w;
    pipe_ends p;
    SECTION("read") {
        w.release = [&] { p.write(); };
        auto const s = first_report(w, [&] { p.read(); });
        CHECK(s.cause == stall_cause::blocked);
        CHECK_THAT(s.system_call, StartsWith("read("));
        CHECK_THAT(to_string(s), ContainsSubstring("a handler of loop"));
        CHECK_THAT(to_string(s), ContainsSubstring("blocked in read("));
    }
    SECTION("poll") {
        w.release = [&] { p.write(); };
        auto const s = first_report(w, [&] { p.poll(); });
        CHECK(s.cause == stall_cause::blocked);
        CHECK_THAT(s.system_call, ContainsSubstring("poll("));
    }
    SECTION("a future") {
        std::promise<void> promise;
        w.release = [&] { promise.set_value(); };
        auto const s = first_report(w, [&] { promise.get_future().get(); });
        CHECK(s.cause == stall_cause::blocked);
        CHECK_THAT(s.system_call, StartsWith("futex("));
    }
    SECTION("a mutex that somebody else has") {
        std::mutex mutex;
        std::atomic<bool> let_go{false}, has_it{false};
        std::thread other([&] {
            std::lock_guard lock(mutex);
            has_it = true;
            has_it.notify_all();
            let_go.wait(false);
        });
        has_it.wait(false);
        w.release = [&] {
            let_go = true;
            let_go.notify_all();
        };
        auto const s = first_report(w, [&] { std::lock_guard lock(mutex); });
        CHECK(s.cause == stall_cause::blocked);
        other.join();
    }
    SECTION("one that is not known by name") {
        pipe_ends other;
        w.release = [&] { p.write(); };
        auto const s = first_report(w, [&] { p.splice_into(other); });
        CHECK(s.cause == stall_cause::blocked);
        CHECK_THAT(s.system_call, StartsWith("system call " + std::to_string(SYS_splice) + "("));
    }
    SECTION("sleep") {
        std::atomic<bool> found{false};
        w.release = [&] { found = true; };
        auto const s = first_report(w, [&] {
            do block_in_nanosleep(60ms);
            while (!found); // which on a busy machine may take longer
        });
        CHECK(s.cause == stall_cause::blocked);
        CHECK_THAT(s.system_call, ContainsSubstring("nanosleep("));
    }
}

TEST_CASE("a handler that computes is busy, or starved when others compute more") {
    stall s;
    long stolen = 0;
    do { // until no host had a part in it
        watch w;
        std::atomic<bool> enough{false};
        w.release = [&] { enough = true; };
        stolen = stolen_ticks();
        s = first_report(w, [&] {
            while (!enough) {
            }
        });
    } while (s.cpu_share + s.starved_share <= 0.5 && stolen_ticks() != stolen);
    CHECK(s.cause != stall_cause::blocked);
    CHECK(s.cpu_share + s.starved_share > 0.5);
    CHECK(s.system_call.empty());
}

TEST_CASE("one stuck thread among others that go on is found") {
    watch w;
    pipe_ends p;
    asio::io_context io{4};
    auto const work = asio::make_work_guard(io);
    std::atomic<long> stuck{0};
    std::atomic<int> others{0};
    w.release = [&] {
        while (others < 2) std::this_thread::yield(); // they go on
        p.write();
    };
    // Longer than a busy machine holds up the others.
    stall_detector const detector(w.options().threshold(200ms));
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back([&] { io.run(); });
    auto const executor = watched(io.get_executor());
    std::function<void()> beat = [&] {
        if (++others < 1000) asio::post(executor, beat);
    };
    asio::post(executor, beat);
    asio::post(executor, [&] {
        stuck = ::gettid();
        p.read();
        io.stop();
    });
    threads.clear();
    REQUIRE(w.reports().size() >= 1);
    CHECK(w.reports().front().thread_id == stuck);
    CHECK(others > 1);
}

TEST_CASE("handlers of less than half the threshold are not stalls, however many") {
    bool all_short = false;
    while (!all_short) { // until the machine held none of them up
        watch w;
        asio::io_context io{1};
        stall_detector const detector(w.options().threshold(200ms));
        auto const executor = watched(io.get_executor());
        all_short = true;
        for (int i = 0; i < 50; ++i) {
            asio::post(executor, [&] {
                auto const begin = std::chrono::steady_clock::now();
                while (std::chrono::steady_clock::now() < begin + 5ms) {
                }
                all_short = all_short && std::chrono::steady_clock::now() < begin + 100ms;
            });
        }
        io.run();
        if (!all_short) continue;
        CHECK(detector.statistics().count() == 0);
        CHECK(w.reports().empty());
    }
}

TEST_CASE("a thread that waits for events, or runs what is not watched, is in no handler") {
    watch w;
    asio::io_context io{1};
    stall_detector const detector(w.options());
    asio::steady_timer timer(watched(io.get_executor()), 100ms);
    timer.async_wait([](boost::system::error_code) {});
    asio::post(io, [] { block_in_nanosleep(60ms); });
    io.run();
    CHECK(detector.statistics().count() == 0);
}

TEST_CASE("labels say what a handler does, and go back to what they were") {
    watch w;
    pipe_ends p;
    w.release = [&] { p.write(); };
    auto const s = first_report(w, [&] {
        tidegate::activity_label const outer("parse upload");
        {
            tidegate::activity_label const inner("header");
        }
        p.read();
    });
    CHECK(s.label == "parse upload");
}

TEST_CASE("a handler that runs others is one") {
    watch w;
    pipe_ends p;
    w.release = [&] { p.write(); };
    asio::io_context io{1};
    auto const executor = watched(io.get_executor(), "outer");
    {
        stall_detector const detector(w.options());
        asio::post(executor, [&] {
            for (int i = 0; i < 3; ++i) asio::dispatch(executor, [] {});
            p.read();
        });
        io.run();
    }
    CHECK(w.reports().front().loop == "outer");
}

TEST_CASE("coroutines on a watched executor are watched in every step") {
    watch w;
    pipe_ends p;
    w.release = [&] { p.write(); };
    asio::io_context io{1};
    stall_detector const detector(w.options());
    auto body = [&]() -> asio::awaitable<void> {
        asio::steady_timer timer(co_await asio::this_coro::executor, 1ms);
        co_await timer.async_wait(asio::deferred);
        p.read();
    };
    SECTION("through any_io_executor") {
        asio::co_spawn(asio::any_io_executor(watched(io.get_executor(), "any")), body(),
                       asio::detached);
    }
    SECTION("on a strand") {
        asio::co_spawn(asio::make_strand(asio::any_io_executor(watched(io.get_executor(), "any"))),
                       body(), asio::detached);
    }
    io.run();
    REQUIRE_FALSE(w.reports().empty());
    CHECK(w.reports().front().loop == "any");
}

TEST_CASE("more stalls than may be reported are counted, and so are reports that throw") {
    asio::io_context io{1};
    auto const executor = watched(io.get_executor());
    std::atomic<std::uint64_t> told{0};
    auto const stall_once = [&](stall_detector const& detector, std::uint64_t n) {
        // On a busy machine the detector may not look for longer than a stall takes.
        asio::post(executor, [&, n] {
            do block_in_nanosleep(10ms);
            while (told + detector.statistics().suppressed < n);
        });
        io.restart();
        io.run();
        while (detector.statistics().count() < n) std::this_thread::yield();
    };
    stall_detector const detector(
        stall_detector_options().threshold(2ms).max_reports_per_minute(2).on_stall(
            [&](stall const& one) {
                if (!one.over && one.number > told) told = one.number;
                throw std::domain_error("x");
            }));
    for (std::uint64_t n = 1; n <= 4; ++n) stall_once(detector, n);
    auto const all = detector.statistics();
    CHECK(all.suppressed == 2);
    CHECK(all.failed_reports >= 4);
    CHECK(all.longest >= 6ms);
    // Weighted by time: a stall of 10 ms counts for each 2 ms in it.
    CHECK(all.delays.count() > 4);
}

TEST_CASE("without a listener, stalls are said on stderr") {
    test::captured_stderr const said;
    pipe_ends pipe;
    asio::io_context io{1};
    stall_detector const detector(stall_detector_options().threshold(20ms));
    std::jthread const releasing([&] {
        while (said.text().empty()) std::this_thread::yield();
        pipe.write();
    });
    asio::post(watched(io.get_executor(), "loop"), [&] { pipe.read(); });
    io.run();
    CHECK_THAT(said.text(), ContainsSubstring("a handler of loop"));
    CHECK_THAT(said.text(), ContainsSubstring("blocked in read("));
}

TEST_CASE("a stack is taken when asked for, and only where a signal does no harm") {
    // None is had of a thread that gets no processor for a while.
    auto const frames_of = [](auto take) {
        std::size_t frames = 0;
        while (frames == 0) {
            watch w;
            frames = take(w).stack.size();
        }
        return frames;
    };
    SECTION("while it computes") {
        auto const take = [](watch& w) {
            std::atomic<bool> enough{false};
            w.release = [&] { enough = true; };
            auto const compute = [&] {
                while (!enough) {
                }
            };
            return first_report(w, compute, SIGURG);
        };
        CHECK(frames_of(take) > 3);
    }
    SECTION("not in poll, which would fail") {
        watch w;
        pipe_ends p;
        w.release = [&] { p.write(); };
        auto const s = first_report(w, [&] { p.poll(); }, SIGURG);
        CHECK(s.stack.empty());
    }
    SECTION("in read, which goes on") {
        pipe_ends p;
        auto const take = [&](watch& w) {
            w.release = [&] { p.write(); };
            return first_report(w, [&] { p.read(); }, SIGURG);
        };
        CHECK(frames_of(take) > 3);
    }
}

TEST_CASE("what is no function of the program has no name in a stack") {
    auto const names = tidegate::detail::name_functions(
        {reinterpret_cast<void*>(std::uintptr_t{16}), reinterpret_cast<void*>(&std::abort)});
    REQUIRE(names.size() == 2);
    CHECK(names[0] == "?");
    CHECK_THAT(names[1], ContainsSubstring("abort"));
}

TEST_CASE("stacks of a thread that throws all the time") {
    tidegate::detail::prepare_stacks(SIGURG);
    std::atomic<bool> done{false};
    std::atomic<tidegate::detail::activity_slot*> slot{nullptr};
    std::atomic<int> caught{0};
    std::thread thrower([&] {
        tidegate::detail::handler_scope const inside;
        slot = tidegate::detail::this_thread_activity;
        slot.notify_all();
        while (!done) {
            try {
                std::string const text(100, 'x'); // to be destroyed on the way
                throw std::domain_error(text);
            } catch (std::domain_error const&) { // and again
                ++caught;
            }
        }
    });
    slot.wait(nullptr);
    std::size_t stacks = 0;
    for (int i = 0; i < 3000; ++i)
        stacks += !tidegate::detail::take_stack(*slot.load(), SIGURG).empty();
    done = true;
    thrower.join();
    CHECK(caught > 0);
    INFO("stacks taken: " << stacks);
}

TEST_CASE("signals at 10 kHz to a thread that throws", "[stress]") {
    char const* const wanted = std::getenv("TIDEGATE_STRESS_SECONDS");
    auto const time = std::chrono::seconds(wanted ? std::atoi(wanted) : 1);
    tidegate::detail::prepare_stacks(SIGURG);
    std::atomic<bool> done{false};
    std::atomic<tidegate::detail::activity_slot*> slot{nullptr};
    std::uint64_t thrown = 0, caught = 0;
    std::thread thrower([&] {
        tidegate::detail::handler_scope const inside;
        slot = tidegate::detail::this_thread_activity;
        slot.notify_all();
        while (!done) {
            try {
                ++thrown;
                throw std::domain_error(std::string(100, 'x'));
            } catch (std::domain_error const&) {
                ++caught;
            }
        }
    });
    slot.wait(nullptr);
    std::size_t signals = 0, stacks = 0;
    auto const began = std::chrono::steady_clock::now();
    for (auto next = began; std::chrono::steady_clock::now() < began + time; next += 100us) {
        while (std::chrono::steady_clock::now() < next) {
        }
        ++signals;
        stacks += !tidegate::detail::take_stack(*slot.load(), SIGURG).empty();
    }
    auto const took = std::chrono::steady_clock::now() - began;
    done = true;
    thrower.join();
    CHECK(thrown == caught);
    CHECK(signals > 0);
    WARN(signals << " signals in " << took / 1ms << " ms, " << stacks << " stacks, " << caught
                 << " exceptions");
}

TEST_CASE("in the child of a fork() a detector is only a thing to be destroyed") {
    std::atomic<bool> found{false};
    auto detector = std::make_optional<stall_detector>(
        stall_detector_options().threshold(20ms).on_stall([&](stall const&) { found = true; }));
    ::pid_t const child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::alarm(30);      // should it hang
        detector.reset(); // whose thread is not here
        asio::io_context io{1};
        bool ran = false;
        asio::post(watched(io.get_executor(), "child"), [&] { ran = true; });
        io.run();
        ::_exit(ran ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    // The parent's goes on.
    asio::io_context io{1};
    asio::post(watched(io.get_executor(), "parent"), [&] {
        do block_in_nanosleep(100ms);
        while (!found);
    });
    io.run();
    while (detector->statistics().count() == 0) std::this_thread::yield();
}

TEST_CASE("options out of range are refused by name") {
    CHECK_THROWS_WITH(stall_detector_options().threshold(999us),
                      ContainsSubstring("stall_detector threshold"));
    CHECK_THROWS_AS(stall_detector_options().stack_signal(-1), std::invalid_argument);
    CHECK_THROWS_AS(stall_detector(stall_detector_options().stack_signal(SIGKILL)),
                    std::invalid_argument);
}

TEST_CASE("watched executors are the same if what they run on is, whatever it is called") {
    asio::io_context io{1}, other{1};
    auto const one = watched(io.get_executor(), "one");
    CHECK(one == watched(io.get_executor(), "two"));
    CHECK(one != watched(other.get_executor(), "one"));
    asio::any_io_executor const erased = one;
    CHECK(erased == asio::any_io_executor(watched(io.get_executor())));
    CHECK_FALSE(erased == asio::any_io_executor(io.get_executor()));
}

TEST_CASE("handlers of one thread are not taken for those of another whose place it has") {
    std::set<std::uint64_t> numbers;
    for (int i = 0; i < 3; ++i) {
        std::thread([&] { // its memory is that of the one before, as a rule
            asio::io_context io{1};
            for (int k = 0; k < 2; ++k) {
                asio::post(watched(io.get_executor(), "loop"), [&] {
                    numbers.insert(tidegate::detail::this_thread_activity->sequence.load());
                });
            }
            io.run();
        })
            .join();
    }
    CHECK(numbers.size() == 6);
    for (std::uint64_t const inside : numbers) CHECK(inside % 2 == 1);
}
