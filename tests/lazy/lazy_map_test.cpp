// SPDX-License-Identifier: BSL-1.0
// Named values with loaders of their own: reloading, forgetting, failures, loading all.
#include <tidegate/lazy.hpp>
#include <tidegate/lazy_map.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/worker_pool.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;
using tidegate::lazy_options;

namespace {

struct lazy_tag;
using test_clock = tidegate::testing::basic_manual_clock<lazy_tag>;
using lazy_int = tidegate::basic_lazy<int, test_clock>;
using lazy_ints = tidegate::basic_lazy_map<std::string, int, std::hash<std::string>,
                                           std::equal_to<std::string>, test_clock>;

// What became of one call.
struct result {
    asio::cancellation_signal signal;
    bool done = false;
    error_code failure;
    int value = 0;

    auto handler() {
        return asio::bind_cancellation_slot(signal.slot(),
                                            [this](std::exception_ptr e, std::shared_ptr<int> v) {
                                                done = true;
                                                value = v ? *v : 0;
                                                failure = {};
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

// A loader that counts, waits if it is told to, and fails if it is told to.
struct counting {
    tidegate::semaphore& gate;
    int loads = 0;
    int cancelled = 0;
    bool fails = false;

    asio::awaitable<int> operator()() {
        int const mine = ++loads;
        bool const bad = fails;
        error_code ec;
        auto const passed =
            co_await gate.async_acquire(1, asio::redirect_error(asio::deferred, ec));
        if (ec) ++cancelled;
        if (bad) throw std::domain_error("loader");
        co_return mine;
    }
};

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("a value is loaded by a coroutine, once, and is there without waiting then") {
    asio::io_context io;
    tidegate::semaphore gate(io, 1);
    auto shut = gate.try_acquire();
    counting load{gate};
    lazy_int value(io, [&] { return load(); });
    result a, b;
    value.async_get(a.handler());
    value.async_get(b.handler());
    run(io);
    CHECK_FALSE(value.get_if_ready());
    shut.release();
    run(io);
    CHECK(a.value == 1);
    CHECK(b.value == 1);
    CHECK(*value.get_if_ready() == 1);
    CHECK(load.loads == 1);
}

TEST_CASE("the last caller to leave cancels the load, unless it is to be kept") {
    for (bool const keep : {false, true}) {
        asio::io_context io;
        tidegate::semaphore gate(io, 1);
        auto shut = gate.try_acquire();
        counting load{gate};
        lazy_int value(io, [&] { return load(); }, lazy_options{}.keep_loading(keep));
        result a;
        value.async_get(a.handler());
        run(io);
        a.signal.emit(asio::cancellation_type::all);
        run(io);
        CHECK(a.failure == asio::error::operation_aborted);
        CHECK(load.cancelled == (keep ? 0 : 1));
        shut.release();
        run(io);
        CHECK(bool(value.get_if_ready()) == keep);
    }
}

TEST_CASE("a failure may be remembered for a while") {
    asio::io_context io;
    tidegate::semaphore gate(io, 1);
    counting load{gate};
    load.fails = true;
    lazy_int value(io, [&] { return load(); }, lazy_options{}.keep_failure(10s));
    result a, b, c;
    value.async_get(a.handler());
    run(io);
    load.fails = false;
    test_clock::advance(9999ms);
    value.async_get(b.handler());
    run(io);
    CHECK(a.failure == asio::error::fault);
    CHECK(b.failure == asio::error::fault);
    CHECK(load.loads == 1);
    SECTION("until the time is over") {
        test_clock::advance(1ms);
        value.async_get(c.handler());
        run(io);
        CHECK(c.value == 2);
    }
    SECTION("until it is reset") {
        value.reset();
        value.async_get(c.handler());
        run(io);
        CHECK(c.value == 2);
    }
    SECTION("until it is reloaded") {
        value.async_reload(c.handler());
        run(io);
        CHECK(c.value == 2);
    }
}

TEST_CASE("after a reset, who waited gets the old load, and who asks a new one") {
    asio::io_context io;
    tidegate::semaphore gate(io, 2);
    auto shut = gate.try_acquire(2);
    counting load{gate};
    lazy_int value(io, [&] { return load(); });
    result before, after;
    value.async_get(before.handler());
    run(io);
    value.reset();
    value.async_get(after.handler());
    run(io);
    shut.release();
    run(io);
    CHECK(before.value == 1);
    CHECK(after.value == 2);
    CHECK(*value.get_if_ready() == 2);
    value.reset();
    CHECK_FALSE(value.get_if_ready());
}

TEST_CASE("while it is reloaded, callers wait or get the old value") {
    for (bool const serve_old : {false, true}) {
        asio::io_context io;
        tidegate::semaphore gate(io, 1);
        counting load{gate};
        lazy_int value(
            io, [&] { return load(); }, lazy_options{}.serve_old_while_reloading(serve_old));
        result first, meanwhile, reloaded;
        value.async_get(first.handler());
        run(io);
        auto shut = gate.try_acquire();
        value.async_reload(reloaded.handler());
        value.async_get(meanwhile.handler());
        run(io);
        CHECK(meanwhile.done == serve_old);
        CHECK_FALSE(reloaded.done);
        shut.release();
        run(io);
        CHECK(meanwhile.value == (serve_old ? 1 : 2));
        CHECK(reloaded.value == 2);
        CHECK(*value.get_if_ready() == 2);
    }
}

TEST_CASE("after a reload that failed, all callers get the old value, or none") {
    for (bool const serve_old : {false, true}) {
        asio::io_context io;
        tidegate::semaphore gate(io, 1);
        counting load{gate};
        lazy_int value(
            io, [&] { return load(); },
            lazy_options{}.serve_old_while_reloading(serve_old).keep_failure(1h));
        result first, reloaded, after, later;
        value.async_get(first.handler());
        run(io);
        load.fails = true;
        value.async_reload(reloaded.handler());
        run(io);
        CHECK(reloaded.failure == asio::error::fault);
        value.async_get(after.handler());
        run(io);
        CHECK(after.done);
        CHECK(after.value == (serve_old ? 1 : 0));
        CHECK(after.failure == (serve_old ? error_code() : asio::error::fault));
        CHECK((value.get_if_ready() != nullptr) == serve_old);
        CHECK(load.loads == 2);
        load.fails = false;
        value.async_reload(later.handler());
        run(io);
        CHECK(later.value == 3);
        CHECK(*value.get_if_ready() == 3);
    }
}

TEST_CASE("what another loader loads is not kept, whenever a loader is registered") {
    asio::io_context io;
    lazy_ints values(io);
    int registered = 0;
    auto const register_next = [&] {
        values.register_loader("key",
                               [n = ++registered]() -> asio::awaitable<int> { co_return int(n); });
    };
    register_next();
    // Registers one wherever a call moves its handler.
    struct meddling {
        std::function<void()> const* meddle;
        meddling(std::function<void()> const& f) noexcept : meddle(&f) {}
        meddling(meddling const&) noexcept = default;
        meddling(meddling&& other) noexcept : meddle(other.meddle) {
            if (*meddle) (*meddle)();
        }
        void operator()(std::exception_ptr, std::shared_ptr<int>) const {}
    };
    std::function<void()> meddle = register_next;
    values.async_get("key", meddling(meddle));
    meddle = nullptr;
    REQUIRE(registered > 1);
    run(io);
    if (auto const kept = values.get_if_ready("key")) CHECK(*kept == registered);
    result last;
    values.async_get("key", last.handler());
    run(io);
    CHECK(last.value == registered);
}

TEST_CASE("who registers a loader gets its values from then on, whoever else asks", "[stress]") {
    asio::thread_pool threads(2);
    tidegate::lazy_map<int, int> values(threads);
    std::atomic<bool> over{false};
    auto ask = [&]() -> asio::awaitable<void> {
        while (!over) co_await values.get(1);
    };
    values.register_loader(1, []() -> asio::awaitable<int> { co_return 0; });
    auto asking = asio::co_spawn(threads, ask(), asio::use_future);
    int wrong = 0;
    int const rounds = static_cast<int>(std::min<std::size_t>(test::schedules(2000), 50'000));
    for (int n = 1; n <= rounds; ++n) {
        values.register_loader(1, [n]() -> asio::awaitable<int> { co_return int(n); });
        auto const ready = values.get_if_ready(1);
        wrong += ready && *ready != n;
        wrong += *values.async_get(1, asio::use_future).get() != n;
    }
    over = true;
    asking.get();
    threads.join();
    CHECK(wrong == 0);
}

TEST_CASE("a load that hangs fails at its time limit") {
    asio::io_context io;
    tidegate::semaphore gate(io, 1);
    auto shut = gate.try_acquire();
    counting load{gate};
    lazy_int value(io, [&] { return load(); }, lazy_options{}.load_timeout(3s));
    result a;
    value.async_get(a.handler());
    run(io);
    test_clock::advance(3s);
    run(io);
    CHECK(a.failure == error::deadline_exceeded);
    CHECK(load.cancelled == 1);
    run(io);
    CHECK(io.stopped());
}

TEST_CASE("each key has a loader, which may ask for other keys but not for its own") {
    asio::io_context io;
    lazy_ints values(io);
    values.register_loader("base", []() -> asio::awaitable<int> { co_return 20; });
    values.register_loader("twice", [&]() -> asio::awaitable<int> {
        auto const base = co_await values.get("base");
        co_return *base * 2;
    });
    values.register_loader("itself", [&]() -> asio::awaitable<std::shared_ptr<int>> {
        co_return co_await values.get("itself");
    });
    result twice, itself, unknown;
    values.async_get("twice", twice.handler());
    values.async_get("itself", itself.handler());
    values.async_get("unknown", unknown.handler());
    run(io);
    CHECK(twice.value == 40);
    CHECK(*values.get_if_ready("base") == 20);
    CHECK(itself.failure == error::recursive_load);
    CHECK(unknown.failure == error::not_found);
    values.register_loader("base", []() -> asio::awaitable<int> { co_return 21; });
    CHECK_FALSE(values.get_if_ready("base"));
    CHECK(values.keys().size() == 3);
}

TEST_CASE("all are loaded, some at a time, with progress") {
    asio::io_context io;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options{}.threads(2));
    tidegate::lazy_map<int, int> values(io);
    for (int i = 0; i < 20; ++i) values.register_loader(i, pool, [i] { return i * i; });
    std::vector<std::pair<std::size_t, std::size_t>> seen;
    auto load = [&]() -> asio::awaitable<void> {
        std::function<void(std::size_t, std::size_t)> const note =
            [&](std::size_t done, std::size_t of) { seen.emplace_back(done, of); };
        co_await values.load_all(note, 3);
    };
    asio::co_spawn(io, load(), asio::detached);
    io.run();
    CHECK(seen.size() == 20);
    CHECK(seen.front() == std::pair<std::size_t, std::size_t>(1, 20));
    CHECK(seen.back() == std::pair<std::size_t, std::size_t>(20, 20));
    for (int i = 0; i < 20; ++i) CHECK(*values.get_if_ready(i) == i * i);
}

TEST_CASE("on several threads, too, progress is told one call at a time", "[stress]") {
    asio::thread_pool threads(4);
    tidegate::lazy_map<int, int> values(threads);
    constexpr std::size_t many = 1000;
    for (int i = 0; i < int(many); ++i) {
        values.register_loader(i, [i]() -> asio::awaitable<int> {
            co_await asio::post(asio::deferred);
            co_return int(i);
        });
    }
    std::vector<std::size_t> seen; // by nobody else at the same time
    std::function<void(std::size_t, std::size_t)> const note =
        [&](std::size_t done, std::size_t of) { seen.push_back(of == many ? done : 0); };
    asio::co_spawn(threads, values.load_all(note, 8), asio::use_future).get();
    std::vector<std::size_t> expected(many);
    std::iota(expected.begin(), expected.end(), std::size_t{1});
    CHECK(seen == expected);
    threads.join();
}

TEST_CASE("one that fails ends loading them all") {
    asio::io_context io;
    tidegate::lazy_map<int, int> values(io);
    values.register_loader(1, []() -> asio::awaitable<int> { co_return 1; });
    values.register_loader(2, []() -> asio::awaitable<int> {
        throw std::domain_error("loader");
        co_return 2;
    });
    std::exception_ptr failure;
    asio::co_spawn(io, values.load_all(), [&](std::exception_ptr e) { failure = e; });
    io.run();
    CHECK_THROWS_AS(std::rethrow_exception(failure), std::domain_error);
}

TEST_CASE("settings out of range are refused by name") {
    using Catch::Matchers::ContainsSubstring;
    CHECK_THROWS_WITH(lazy_options{}.load_timeout(0s),
                      ContainsSubstring("lazy load_timeout in ns is 0"));
    CHECK_THROWS_WITH(lazy_options{}.keep_failure(-1ns),
                      ContainsSubstring("lazy keep_failure in ns is -1"));
}
