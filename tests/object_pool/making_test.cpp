// SPDX-License-Identifier: BSL-1.0
// Objects that are made when they are needed, recycled, and trimmed.
#include <tidegate/object_pool.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;
using clock_type = tidegate::testing::manual_clock;

namespace {

struct item {
    explicit item(int n, int& alive) : number(n), alive_(alive) { ++alive_; }
    ~item() { --alive_; }
    int number;
    bool broken = false;
    int& alive_;
};

using pool = tidegate::basic_object_pool<item, clock_type>;
using options = tidegate::object_pool_options<item>;
using lease = pool::lease;

struct factory {
    int& alive;
    int made = 0;
    int failures = 0;

    std::unique_ptr<item> operator()() {
        if (failures > 0) {
            --failures;
            throw std::domain_error("factory");
        }
        return std::make_unique<item>(++made, alive);
    }
};

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("objects are made when they are needed, up to the bound") {
    asio::io_context io;
    int alive = 0;
    factory make{alive};
    pool p(io, options{}.max_size(3).min_size(1), std::ref(make));
    CHECK(make.made == 1);
    auto a = p.try_acquire(), b = p.try_acquire(), c = p.try_acquire();
    CHECK(a->number == 1);
    CHECK(c->number == 3);
    CHECK_FALSE(p.try_acquire());
    CHECK(p.size() == 3);
    b.release();
    CHECK(p.try_acquire()->number == 2);
    CHECK(make.made == 3);
}

TEST_CASE("an object that cannot be made frees its place, for the next one in line") {
    asio::io_context io;
    int alive = 0;
    factory make{alive};
    std::vector<std::exception_ptr> reported;
    pool p(io,
           options{}
               .max_size(1)
               .recycle([](item& i) { return !i.broken; })
               .on_exception([&](std::exception_ptr e) { reported.push_back(e); }),
           std::ref(make));
    make.failures = 1;
    CHECK_THROWS_AS(p.try_acquire(), std::domain_error);
    CHECK(p.size() == 0);
    lease held = p.try_acquire();
    REQUIRE(held);
    error_code first_failed, second_failed;
    lease first, second;
    p.async_acquire([&](error_code ec, lease l) {
        first_failed = ec;
        first = std::move(l);
    });
    p.async_acquire([&](error_code ec, lease l) {
        second_failed = ec;
        second = std::move(l);
    });
    held->broken = true;
    make.failures = 1;
    held.release(); // is destroyed; making another fails for the first in line
    run(io);
    CHECK(first_failed == error::exception_thrown);
    CHECK_FALSE(second_failed);
    CHECK(second->number == 2);
    CHECK(alive == 1);
    CHECK(p.size() == 1);
    CHECK(reported.size() == 1);
}

TEST_CASE("a factory that returns nothing has failed") {
    asio::io_context io;
    int made = 0;
    tidegate::object_pool<int> p(io, tidegate::object_pool_options<int>().max_size(1),
                                 [&] { return ++made == 1 ? nullptr : std::make_unique<int>(1); });
    CHECK_THROWS_WITH(p.try_acquire(), Catch::Matchers::ContainsSubstring("returned null"));
    CHECK(p.size() == 0);
    CHECK(p.try_acquire());
}

TEST_CASE("recycling that says no, or throws, ends the object") {
    asio::io_context io;
    int alive = 0, recycled = 0, reported = 0;
    factory make{alive};
    bool throws = false;
    pool p(io,
           options{}
               .max_size(2)
               .recycle([&](item& i) {
                   ++recycled;
                   if (throws) throw std::domain_error("recycle");
                   return !i.broken;
               })
               .on_exception([&](std::exception_ptr) { ++reported; }),
           std::ref(make));
    p.try_acquire().release();
    CHECK(recycled == 1);
    CHECK(p.idle() == 1);
    lease a = p.try_acquire();
    a->broken = true;
    a.release();
    CHECK(alive == 0);
    CHECK(p.size() == 0);
    throws = true;
    p.try_acquire().release();
    CHECK(reported == 1);
    CHECK(alive == 0);
}

TEST_CASE("objects that nobody uses are destroyed after their time, but for the least number") {
    asio::io_context io;
    int alive = 0;
    factory make{alive};
    pool p(io, options{}.max_size(4).min_size(1).max_idle_time(10s), std::ref(make));
    {
        std::vector<lease> all;
        for (int i = 0; i < 4; ++i) all.push_back(p.try_acquire());
    }
    CHECK(p.idle() == 4);
    clock_type::advance(6s);
    p.try_acquire().release(); // the one that came back last
    clock_type::advance(4s);
    run(io);
    CHECK(alive == 1);
    CHECK(p.size() == 1);
    clock_type::advance(100s);
    run(io);
    CHECK(alive == 1);
    run(io);
    CHECK(io.stopped());
    auto a = p.try_acquire(), b = p.try_acquire();
    CHECK(make.made == 5);
}

TEST_CASE("who asks while an old object is destroyed gets the next one, and there never are two") {
    struct dying {
        dying(int& a, std::function<void()>& g) : alive(a), going(g) { CHECK(++alive == 1); }
        ~dying() {
            if (auto const ask = std::exchange(going, nullptr)) ask();
            --alive;
        }
        int& alive;
        std::function<void()>& going;
    };
    using dying_pool = tidegate::basic_object_pool<dying, clock_type>;
    asio::io_context io;
    int alive = 0;
    std::function<void()> going;
    auto const at_once = [&] { return std::make_unique<dying>(alive, going); };
    auto const later = [&]() -> asio::awaitable<std::unique_ptr<dying>> {
        co_return std::make_unique<dying>(alive, going);
    };
    auto const bounds = tidegate::object_pool_options<dying>{}.max_size(1).max_idle_time(10s);
    bool const by_coroutine = GENERATE(false, true);
    auto p = by_coroutine ? dying_pool(io, bounds, later) : dying_pool(io, bounds, at_once);
    dying_pool::lease first, second;
    p.async_acquire([&](error_code, dying_pool::lease got) { first = std::move(got); });
    run(io);
    first.release();
    bool refused = false;
    going = [&] {
        refused = !p.try_acquire();
        p.async_acquire([&](error_code, dying_pool::lease got) { second = std::move(got); });
    };
    clock_type::advance(10s);
    run(io);
    CHECK(refused);
    CHECK(second);
    CHECK(alive == 1);
    CHECK(p.size() == 1);
    second.release();
    clock_type::advance(10s);
    run(io);
    CHECK(alive == 0);
    CHECK(p.size() == 0);
}

TEST_CASE("threads never have more objects than the bound, whatever fails") {
    asio::io_context io;
    std::atomic<int> alive{0}, most{0}, made{0}, served{0};
    struct counted {
        explicit counted(std::atomic<int>& a) : alive(a) { ++alive; }
        ~counted() { --alive; }
        std::atomic<int>& alive;
    };
    using pool_type = tidegate::object_pool<counted>;
    std::atomic<unsigned> turn{0};
    pool_type p(io, tidegate::object_pool_options<counted>{}.max_size(3).recycle([&](counted&) {
        return ++turn % 4 != 0;
    }),
                [&] {
                    if (++made % 7 == 0) throw std::domain_error("factory");
                    auto fresh = std::make_unique<counted>(alive);
                    int const now = alive;
                    int seen = most;
                    while (now > seen && !most.compare_exchange_weak(seen, now)) {
                    }
                    return fresh;
                });
    auto use = [&]() -> asio::awaitable<void> {
        for (int i = 0; i < 500; ++i) {
            try {
                auto const held = co_await p.acquire();
                if (held) ++served;
            } catch (std::domain_error const&) {
                ++served;
            } catch (boost::system::system_error const&) {
                ++served;
            }
        }
    };
    for (int i = 0; i < 8; ++i) asio::co_spawn(asio::make_strand(io), use(), asio::detached);
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 4; ++i) threads.emplace_back([&] { io.run(); });
    }
    CHECK(served == 8 * 500);
    CHECK(most <= 3);
    CHECK(p.size() == p.idle());
    CHECK(alive == static_cast<int>(p.idle()));
}

TEST_CASE("options against each other are refused by name") {
    using Catch::Matchers::ContainsSubstring;
    asio::io_context io;
    int alive = 0;
    factory make{alive};
    CHECK_THROWS_WITH(pool(io, options{}, make), ContainsSubstring("object_pool needs max_size"));
    CHECK_THROWS_WITH(pool(io, options{}.max_size(1).min_size(2), make),
                      ContainsSubstring("object_pool min_size is 2, allowed is 0 to 1"));
    CHECK_THROWS_WITH(options{}.max_idle_time(0s),
                      ContainsSubstring("object_pool max_idle_time in ns"));
}
