// SPDX-License-Identifier: BSL-1.0
// Never more than the budget, never unloaded under its user, first come first served.
#include <tidegate/resource_budget.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/worker_pool.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;
using tidegate::resource_budget_options;

namespace {

struct budget_tag;
using test_clock = tidegate::testing::basic_manual_clock<budget_tag>;

// Counts what exists.
struct memory {
    std::array<std::uint64_t, 2> used{};
    int made = 0;
};
struct thing {
    thing(memory& m, std::string n, std::array<std::uint64_t, 2> s)
        : of(m), name(std::move(n)), size(s) {
        for (std::size_t k = 0; k < 2; ++k) of.used[k] += size[k];
        ++of.made;
    }
    thing(thing const&) = delete;
    thing& operator=(thing const&) = delete;
    ~thing() {
        for (std::size_t k = 0; k < 2; ++k) of.used[k] -= size[k];
    }
    memory& of;
    std::string name;
    std::array<std::uint64_t, 2> size;
};

using budget = tidegate::basic_resource_budget<std::string, thing, 2, std::hash<std::string>,
                                               std::equal_to<std::string>, test_clock>;
using lease = budget::lease;

struct asking {
    asio::cancellation_signal signal;
    bool done = false;
    error_code failure;
    lease held;

    auto handler() {
        return asio::bind_cancellation_slot(signal.slot(), [this](std::exception_ptr e, lease l) {
            done = true;
            held = std::move(l);
            try {
                if (e) std::rethrow_exception(e);
            } catch (boost::system::system_error const& s) {
                failure = s.code();
            } catch (...) {
                failure = asio::error::fault;
            }
        });
    }
};

struct fixture {
    memory host;
    asio::io_context io;
    budget things;

    explicit fixture(budget::size limit = {100, 100}, resource_budget_options options = {})
        : things(io, limit, options) {}

    void know(std::string name, budget::size estimate, budget::size actual) {
        auto load = [this, name, actual]() -> asio::awaitable<std::shared_ptr<thing>> {
            co_return std::make_shared<thing>(host, name, actual);
        };
        things.add(name, estimate, load, [](thing const& t) { return t.size; });
    }
    void know(std::string name, std::uint64_t size) { know(name, {size, 1}, {size, 1}); }

    void run() {
        io.restart();
        io.poll();
        CHECK(host.used[0] <= 100);
        CHECK(host.used[1] <= 100);
    }
    lease get(std::string const& name) {
        asking a;
        things.async_acquire(name, a.handler());
        run();
        REQUIRE(a.done);
        REQUIRE_FALSE(a.failure);
        return a.held;
    }
};

} // namespace

TEST_CASE("what fits is loaded once and stays; what is idle longest makes room") {
    fixture f;
    for (auto const* name : {"a", "b", "c"}) f.know(name, 50);
    auto const a = f.get("a");
    CHECK(a->name == "a");
    CHECK(f.get("a") == a);
    CHECK(f.things.try_acquire("a") == a);
    CHECK_FALSE(f.things.try_acquire("b"));
    f.get("b");
    CHECK(f.host.made == 2);
    f.get("c"); // b is idle, a is not
    CHECK(f.things.try_acquire("a"));
    CHECK_FALSE(f.things.try_acquire("b"));
    auto const counted = f.things.statistics();
    CHECK(counted.resident == 2);
    CHECK(counted.leased == 1);
    CHECK(counted.used == budget::size{100, 2});
    CHECK(counted.loads == 3);
    CHECK(counted.unloads == 1);
}

TEST_CASE("with room for exactly so many, so many stay for ever") {
    fixture f;
    for (int i = 0; i < 5; ++i) f.know(std::to_string(i), 20);
    for (int round = 0; round < 20; ++round) {
        for (int i = 0; i < 5; ++i) f.get(std::to_string(i * 3 % 5));
    }
    CHECK(f.host.made == 5);
}

TEST_CASE("what is larger than the budget fails at once and nothing is given up for it") {
    fixture f;
    f.know("small", 50);
    f.know("wide", {101, 1}, {101, 1});
    f.know("deep", {1, 101}, {1, 101});
    f.get("small");
    for (auto const* name : {"wide", "deep"}) {
        asking a;
        f.things.async_acquire(name, a.handler());
        f.run();
        CHECK(a.failure == error::over_budget);
    }
    CHECK(f.things.try_acquire("small"));
    asking unknown;
    f.things.async_acquire("unknown", unknown.handler());
    f.run();
    CHECK(unknown.failure == error::not_found);
}

TEST_CASE("while all is leased, loads wait in order, fail at once, or until their time is over") {
    fixture f({100, 100}, resource_budget_options{}.max_waiting_loads(2).max_wait(5s));
    for (auto const* name : {"a", "b", "c", "d"}) f.know(name, 60);
    auto held = f.get("a");
    asking b, c, d;
    f.things.async_acquire("b", b.handler());
    f.run();
    f.things.async_acquire("c", c.handler());
    f.run();
    f.things.async_acquire("d", d.handler());
    f.run();
    CHECK(d.failure == error::queue_full);
    CHECK(f.things.statistics().waiting == 2);
    SECTION("in order") {
        held.reset();
        f.run();
        CHECK(b.done);
        CHECK_FALSE(c.done);
        b.held.reset();
        f.run();
        CHECK(c.held->name == "c");
    }
    SECTION("for a while") {
        test_clock::advance(5s);
        f.run();
        CHECK(b.failure == error::deadline_exceeded);
        CHECK(c.failure == error::deadline_exceeded);
        CHECK(f.things.statistics().used == budget::size{60, 1});
        f.run();
        CHECK(f.io.stopped());
    }
    SECTION("until they are cancelled") {
        b.signal.emit(asio::cancellation_type::all);
        f.run();
        CHECK(b.failure == asio::error::operation_aborted);
        held.reset();
        f.run();
        CHECK(c.held->name == "c");
    }
}

TEST_CASE("a size is corrected once a thing is loaded") {
    fixture f;
    SECTION("smaller") {
        f.know("a", {90, 1}, {30, 1});
        f.know("b", 70);
        auto const a = f.get("a");
        auto const b = f.get("b");
        CHECK(f.things.statistics().used == budget::size{100, 2});
    }
    SECTION("larger, for which there is room once something idle is gone") {
        f.know("idle", 50);
        f.know("a", {10, 1}, {80, 1});
        f.get("idle");
        // For a moment both exist: the estimate was wrong.
        asking a;
        f.things.async_acquire("a", a.handler());
        f.io.restart();
        f.io.poll();
        CHECK(a.held->name == "a");
        CHECK(f.host.used[0] == 80);
        CHECK(f.things.statistics().used == budget::size{80, 1});
    }
    SECTION("larger than the budget") {
        f.know("a", {10, 1}, {101, 1});
        asking a;
        f.things.async_acquire("a", a.handler());
        f.io.poll();
        CHECK(a.failure == error::over_budget);
        CHECK(f.things.statistics().used == budget::size{});
    }
    SECTION("larger, while the rest is leased: it waits with the right size") {
        f.know("leased", 50);
        f.know("a", {10, 1}, {80, 1});
        auto held = f.get("leased");
        asking a;
        f.things.async_acquire("a", a.handler());
        f.io.restart();
        f.io.poll();
        CHECK_FALSE(a.done);
        CHECK(f.host.used[0] == 50);
        held.reset();
        f.run();
        CHECK(a.held->name == "a");
        CHECK(f.host.made == 3);
    }
}

TEST_CASE("a removed thing counts until its last lease has gone") {
    fixture f;
    f.know("a", 60);
    auto old = f.get("a");
    CHECK(f.things.unload("a"));
    CHECK_FALSE(f.things.unload("a"));
    CHECK_FALSE(f.things.try_acquire("a"));
    asking again;
    f.things.async_acquire("a", again.handler());
    f.run();
    CHECK_FALSE(again.done);
    old.reset();
    f.run();
    CHECK(again.done);
    CHECK(f.host.made == 2);
}

TEST_CASE("idle things go after their time, pinned ones stay") {
    fixture f({100, 100}, resource_budget_options{}.time_to_idle(10s));
    f.know("a", 30);
    f.know("b", 30);
    f.know("c", 30);
    CHECK(f.things.pin("b"));
    CHECK_FALSE(f.things.pin("unknown"));
    f.get("a");
    f.get("b");
    auto const c = f.get("c");
    test_clock::advance(9s);
    f.get("a");
    test_clock::advance(9s);
    f.run();
    CHECK(f.things.try_acquire("a"));
    test_clock::advance(10s);
    f.run();
    CHECK_FALSE(f.things.try_acquire("a"));
    CHECK(f.things.try_acquire("b"));
    CHECK(f.things.try_acquire("c"));
    CHECK(f.host.used[0] == 60);
}

TEST_CASE("who waits for room gets that of an idle thing as soon as it is no longer pinned") {
    fixture f;
    f.know("a", 100);
    f.know("b", 100);
    f.get("a").reset();
    f.things.pin("a", true);
    asking b;
    f.things.async_acquire("b", b.handler());
    f.run();
    CHECK_FALSE(b.done);
    f.things.pin("a", false);
    f.run();
    CHECK(b.held);
    CHECK(f.host.made == 2);
}

namespace {

// Loads that heed no cancellation, and end when they are told.
struct deaf_loads {
    fixture& f;
    std::deque<asio::steady_timer> ends;

    explicit deaf_loads(fixture& of) : f(of) {
        auto load = [this]() -> asio::awaitable<std::shared_ptr<thing>> {
            co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
            auto& end = ends.emplace_back(f.io, asio::steady_timer::time_point::max());
            auto const number = std::to_string(ends.size());
            co_await end.async_wait(asio::as_tuple(asio::deferred));
            co_return std::make_shared<thing>(f.host, number, budget::size{10, 1});
        };
        f.things.add("a", {10, 1}, load);
    }
    void end(std::size_t number) {
        ends[number - 1].cancel();
        f.run();
    }
};

} // namespace

TEST_CASE("what was unloaded while it was loaded does not stay, also when nobody waits for it") {
    fixture f;
    deaf_loads loads(f);
    asking first;
    f.things.async_acquire("a", first.handler());
    f.run();
    f.things.unload("a");
    first.signal.emit(asio::cancellation_type::terminal);
    f.run();
    CHECK(first.failure == asio::error::operation_aborted);
    loads.end(1);
    CHECK_FALSE(f.things.try_acquire("a"));
    CHECK(f.host.used[0] == 0);
}

TEST_CASE("a load that comes later than a later one takes nothing's place") {
    fixture f;
    deaf_loads loads(f);
    asking first, second;
    f.things.async_acquire("a", first.handler());
    f.run();
    first.signal.emit(asio::cancellation_type::terminal);
    f.run();
    f.things.async_acquire("a", second.handler());
    f.run();
    REQUIRE(loads.ends.size() == 2);
    loads.end(2);
    REQUIRE(second.held);
    CHECK(second.held->name == "2");
    loads.end(1);
    CHECK(f.things.try_acquire("a")->name == "2");
    CHECK(f.host.used[0] == 10);
}

TEST_CASE("a loader that throws gives its room back") {
    fixture f;
    f.things.add("bad", {100, 1}, []() -> asio::awaitable<std::shared_ptr<thing>> {
        throw std::domain_error("loader");
        co_return nullptr;
    });
    f.know("good", 100);
    asking bad;
    f.things.async_acquire("bad", bad.handler());
    f.run();
    CHECK(bad.failure == asio::error::fault);
    CHECK(f.get("good"));
}

TEST_CASE("things are unloaded where they are to be, with no lock held") {
    asio::io_context io, elsewhere;
    std::vector<std::string> log;
    struct nosy {
        std::function<void()> at_end;
        ~nosy() { at_end(); }
    };
    tidegate::resource_budget<int, nosy> things(
        io, {10}, resource_budget_options{}.unload_on(elsewhere.get_executor()));
    for (int const k : {1, 2}) {
        things.add(k, {10}, [&, k]() -> asio::awaitable<std::shared_ptr<nosy>> {
            co_return std::make_shared<nosy>([&, k] {
                things.try_acquire(3 - k);
                log.push_back(std::to_string(k) + (elsewhere.get_executor().running_in_this_thread()
                                                       ? " elsewhere"
                                                       : " here"));
            });
        });
    }
    std::shared_ptr<nosy> got;
    things.async_acquire(1, [](std::exception_ptr, std::shared_ptr<nosy>) {});
    io.run();
    things.async_acquire(2, [&](std::exception_ptr, std::shared_ptr<nosy> l) { got = l; });
    io.restart();
    io.poll();
    CHECK_FALSE(got);
    elsewhere.run();
    io.run();
    CHECK(got);
    CHECK(log == std::vector<std::string>{"1 elsewhere"});
    got.reset();
    things.close();
    elsewhere.restart();
    elsewhere.run();
    CHECK(log.size() == 2);
}

TEST_CASE("things are loaded where they are to be") {
    asio::io_context io, elsewhere;
    bool there = false;
    tidegate::resource_budget<int, int> things(
        io, {10}, resource_budget_options{}.load_on(elsewhere.get_executor()));
    things.add(1, {10}, [&]() -> asio::awaitable<std::shared_ptr<int>> {
        there = elsewhere.get_executor().running_in_this_thread();
        co_return std::make_shared<int>(7);
    });
    std::shared_ptr<int> got;
    things.async_acquire(1, [&](std::exception_ptr, std::shared_ptr<int> l) { got = l; });
    io.poll();
    CHECK_FALSE(got);
    elsewhere.run();
    CHECK(there);
    io.restart();
    io.poll();
    REQUIRE(got);
    CHECK(*got == 7);
}

TEST_CASE("a load that takes too long fails, and its room is free when it ends") {
    fixture f({100, 100}, resource_budget_options().max_wait(1s).load_timeout(10s));
    bool hangs = true;
    auto load = [&]() -> asio::awaitable<std::shared_ptr<thing>> {
        if (std::exchange(hangs, false)) {
            tidegate::timer_for_t<test_clock, asio::any_io_executor> never(
                co_await asio::this_coro::executor);
            never.expires_after(24h);
            co_await never.async_wait(asio::deferred);
        }
        co_return std::make_shared<thing>(f.host, "slow", std::array<std::uint64_t, 2>{100, 1});
    };
    f.things.add("slow", {100, 1}, load, [](thing const& t) { return t.size; });
    asking slow;
    f.things.async_acquire("slow", slow.handler());
    f.run();
    test_clock::advance(11s - 1ns);
    f.run();
    CHECK_FALSE(slow.done);
    test_clock::advance(1ns);
    f.run();
    CHECK(slow.failure == error::deadline_exceeded);
    CHECK(f.get("slow"));
}

TEST_CASE("a budget that is closed before a load begins fails it") {
    fixture f;
    f.know("a", 10);
    asking a;
    f.things.async_acquire("a", a.handler());
    f.things.close();
    f.run();
    CHECK(a.failure == error::closed);
    CHECK(f.host.made == 0);
}

TEST_CASE("leases may outlive the budget and its context") {
    memory host;
    lease held;
    {
        asio::io_context io;
        budget things(io, {100, 100});
        things.add("a", {10, 1}, [&]() -> asio::awaitable<std::shared_ptr<thing>> {
            co_return std::make_shared<thing>(host, "a", budget::size{10, 1});
        });
        things.async_acquire("a", [&](std::exception_ptr, lease l) { held = std::move(l); });
        io.run();
    }
    CHECK(held->name == "a");
    CHECK(host.used[0] == 10);
    held.reset();
    CHECK(host.used[0] == 0);
}

TEST_CASE("whatever happens in whatever order, the budget holds and nothing leased goes",
          "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t round = 0; round < test::schedules(2000) / 10; ++round) {
            memory host;
            {
                asio::io_context io;
                budget things(io, {100, 60}, resource_budget_options{}.max_wait(1s));
                for (int k = 0; k < 6; ++k) {
                    budget::size const takes{10 + test::below(random, 80),
                                             1 + test::below(random, 50)};
                    auto load = [&host, takes, k]() -> asio::awaitable<std::shared_ptr<thing>> {
                        auto const here = co_await asio::this_coro::executor;
                        co_await asio::post(here, asio::deferred);
                        co_return std::make_shared<thing>(host, std::to_string(k), takes);
                    };
                    things.add(std::to_string(k), takes, load);
                }
                std::deque<asking> asks;
                for (int step = 0; step < 60; ++step) {
                    auto const name = std::to_string(test::below(random, 6));
                    std::size_t const choice = test::below(random, 100);
                    if (choice < 40) {
                        things.async_acquire(name, asks.emplace_back().handler());
                    } else if (choice < 65 && !asks.empty()) {
                        asks[test::below(random, asks.size())].held.reset();
                    } else if (choice < 75 && !asks.empty()) {
                        asks[test::below(random, asks.size())].signal.emit(
                            asio::cancellation_type::all);
                    } else if (choice < 82) {
                        things.unload(name);
                    } else if (choice < 88) {
                        test_clock::advance(std::chrono::milliseconds(test::below(random, 700)));
                    } else {
                        io.restart();
                        for (std::size_t n = test::below(random, 5); n > 0; --n) io.poll_one();
                    }
                    REQUIRE(host.used[0] <= 100);
                    REQUIRE(host.used[1] <= 60);
                    auto const counted = things.statistics();
                    REQUIRE(counted.used[0] >= host.used[0]);
                    REQUIRE(counted.used[0] <= 100);
                    for (auto const& a : asks) {
                        if (a.held) REQUIRE_FALSE(a.held->name.empty());
                    }
                }
                for (auto& a : asks) a.held.reset();
                for (int i = 0; i < 50; ++i) {
                    io.restart();
                    io.poll();
                    for (auto& a : asks) a.held.reset();
                    test_clock::advance(100ms);
                }
                for (auto const& a : asks) REQUIRE(a.done);
            }
            REQUIRE(host.used[0] == 0);
        }
    }
}

TEST_CASE("threads that lease and let go never exceed the budget") {
    std::atomic<std::int64_t> used{0};
    std::atomic<bool> exceeded{false};
    struct counted {
        counted(std::atomic<std::int64_t>& u, std::atomic<bool>& e) : of(u) {
            if (of.fetch_add(30) + 30 > 100) e = true;
        }
        ~counted() { of -= 30; }
        std::atomic<std::int64_t>& of;
    };
    asio::io_context io;
    tidegate::resource_budget<int, counted> things(io, {100});
    for (int k = 0; k < 6; ++k) {
        things.add(k, {30}, [&]() -> asio::awaitable<std::shared_ptr<counted>> {
            co_return std::make_shared<counted>(used, exceeded);
        });
    }
    std::atomic<int> got{0};
    auto use = [&](unsigned n) -> asio::awaitable<void> {
        auto const here = co_await asio::this_coro::executor;
        for (int i = 0; i < 200; ++i) {
            n = n * 1664525 + 1013904223;
            auto const held = co_await things.acquire(static_cast<int>(n >> 20) % 6);
            ++got;
            if (n & 4096) co_await asio::post(here, asio::deferred);
        }
    };
    for (unsigned i = 0; i < 16; ++i) asio::co_spawn(asio::make_strand(io), use(i), asio::detached);
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 4; ++i) threads.emplace_back([&] { io.run(); });
    }
    CHECK(got == 16 * 200);
    CHECK_FALSE(exceeded);
    things.close();
    CHECK(used == 0);
}

namespace {

// Many things of different sizes, some of which take long to load, asked for as in Zipf's law.
std::chrono::nanoseconds time_spent_loading(tidegate::unload_order order, std::uint64_t seed) {
    constexpr std::size_t things = 60;
    test::random random(seed);
    fixture f({100, 100}, resource_budget_options{}.unload_first(order));
    std::chrono::nanoseconds spent{0};
    for (std::size_t i = 0; i < things; ++i) {
        std::uint64_t const size = std::uint64_t{1} << test::below(random, 6);
        auto const takes = 1ms * static_cast<int>(1 + test::below(random, 200));
        auto load = [&f, &spent, size, takes]() -> asio::awaitable<std::shared_ptr<thing>> {
            test_clock::advance(takes);
            spent += takes;
            co_return std::make_shared<thing>(f.host, "", budget::size{size, 1});
        };
        f.things.add(std::to_string(i), {size, 1}, load);
    }
    std::vector<double> weights;
    for (std::size_t i = 1; i <= things; ++i) weights.push_back(1.0 / static_cast<double>(i));
    std::discrete_distribution<std::size_t> zipf(weights.begin(), weights.end());
    for (int i = 0; i < 3000; ++i) f.get(std::to_string(zipf(random)));
    return spent;
}

} // namespace

TEST_CASE("what is least missed makes room for what takes long to load") {
    for (auto const seed : test::seeds()) {
        INFO("seed " << seed);
        std::chrono::nanoseconds idle_longest{0}, least_missed{0};
        for (std::uint64_t n = 0; n < 4; ++n) { // in one of 200 it is 19 %; on average, 42 %
            idle_longest += time_spent_loading(tidegate::unload_order::idle_longest, seed + n);
            least_missed += time_spent_loading(tidegate::unload_order::least_missed, seed + n);
        }
        INFO(idle_longest / 1ms << " ms, " << least_missed / 1ms << " ms");
        CHECK(least_missed < idle_longest * 8 / 10);
    }
}

TEST_CASE("what was missed most once does not stay for ever") {
    fixture f({100, 100},
              resource_budget_options{}.unload_first(tidegate::unload_order::least_missed));
    auto know = [&f](std::string name, std::chrono::nanoseconds takes) {
        auto load = [&f, name, takes]() -> asio::awaitable<std::shared_ptr<thing>> {
            test_clock::advance(takes);
            co_return std::make_shared<thing>(f.host, name, budget::size{50, 1});
        };
        f.things.add(name, {50, 1}, load);
    };
    know("slow", 10s);
    for (auto const* name : {"a", "b", "c"}) know(name, 1s);
    f.get("slow");
    f.get("a");
    f.get("b"); // instead of a
    CHECK(f.things.try_acquire("slow"));
    for (int i = 0; i < 40; ++i) f.get(i % 2 ? "b" : "c");
    CHECK_FALSE(f.things.try_acquire("slow"));
}

TEST_CASE("limits out of range are refused by name") {
    asio::io_context io;
    using Catch::Matchers::ContainsSubstring;
    CHECK_THROWS_WITH(budget(io, {0, 1}), ContainsSubstring("resource_budget limit is 0"));
    CHECK_THROWS_WITH(resource_budget_options{}.max_wait(0s),
                      ContainsSubstring("resource_budget max_wait in ns is 0"));
}

TEST_CASE("a budget that is closed does not wait for what would have been idle for too long") {
    asio::io_context io{1};
    tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1));
    tidegate::resource_budget<std::string, int> things(io, {100},
                                                       resource_budget_options{}.time_to_idle(1h));
    things.add("a", {1}, pool, [] { return std::make_shared<int>(1); });
    bool loaded = false;
    things.async_acquire("a", [&](std::exception_ptr, std::shared_ptr<int> const& lease) {
        loaded = lease != nullptr;
    });
    while (!loaded) io.run_one();
    io.poll();
    CHECK_FALSE(io.stopped()); // it is to be unloaded in an hour
    things.close();
    io.run_for(1min); // the pool's thread may not have let go of its job yet
    CHECK(io.stopped());
}
