// SPDX-License-Identifier: BSL-1.0
// What users hand over is not called any more when what they gave it to has gone, and what has to
// run on owns what it uses.
#include <tidegate/cache.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/metrics.hpp>
#include <tidegate/object_pool.hpp>
#include <tidegate/resource_budget.hpp>
#include <tidegate/tiered_cache.hpp>
#include <tidegate/timeout.hpp>

#include "policy/support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

// Where operations wait that hear of no cancellation.
class deaf_gate {
public:
    explicit deaf_gate(asio::io_context& io)
        : timer_(std::make_shared<asio::steady_timer>(io, asio::steady_timer::time_point::max())) {}

    asio::awaitable<void> pass() const {
        auto const timer = timer_; // it may outlive the gate
        co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        boost::system::error_code opened;
        co_await timer->async_wait(asio::redirect_error(asio::deferred, opened));
    }
    void open() const { timer_->cancel(); }

private:
    std::shared_ptr<asio::steady_timer> timer_;
};

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("an attempt of a hedge that a timeout leaves behind has an operation of its own") {
    using hedge = tidegate::basic_hedge<test::policy_clock>;
    using timeout = tidegate::basic_timeout<test::policy_clock>;
    asio::io_context io;
    deaf_gate const gate(io);
    std::optional<std::string> seen;
    test::guarded_call<int> call;
    auto const hedged = hedge(tidegate::hedge_options());
    auto const start = [&](auto const& guarded) {
        call.start(io, guarded, [&, text = std::string(100, 'x')]() -> asio::awaitable<int> {
            auto passing = gate.pass();
            co_await std::move(passing);
            seen = text;
            co_return 1;
        });
        test::pass(io, 20ms);
    };
    SECTION("inside the hedge") { start(tidegate::policy{hedged, timeout{10ms}.abandon(true)}); }
    SECTION("around it") { start(tidegate::policy{timeout{10ms}.abandon(true), hedged}); }
    REQUIRE(call.completions == 1);
    CHECK(call.why.code() == tidegate::error::deadline_exceeded);
    CHECK_FALSE(seen);
    gate.open();
    run(io);
    CHECK(seen == std::string(100, 'x'));
}

TEST_CASE("an object that comes back after its pool is destroyed without being asked about") {
    asio::io_context io;
    int asked = 0;
    auto const ask = [&](int&) { return ++asked > 0; };
    std::optional<tidegate::object_pool<int>> pool;
    pool.emplace(io, tidegate::object_pool_options<int>().max_size(2).recycle(ask),
                 [] { return std::make_unique<int>(1); });
    auto first = pool->try_acquire();
    auto second = pool->try_acquire();
    first.release();
    CHECK(asked == 1);
    pool.reset();
    second.release();
    CHECK(asked == 1);
}

TEST_CASE("what a load brings after its cache has gone is not weighed") {
    asio::io_context io;
    deaf_gate const gate(io);
    int weighed = 0;
    auto const weigh = [&](int, int) { return static_cast<std::uint64_t>(++weighed > 0); };
    std::optional<tidegate::cache<int, int>> cache;
    cache.emplace(io, tidegate::cache_options<int, int>().max_weight(100, weigh));
    auto load = [&gate](int) -> asio::awaitable<int> {
        auto passing = gate.pass();
        co_await std::move(passing);
        co_return 1;
    };
    bool told = false;
    asio::co_spawn(io, cache->get_or_load(1, load),
                   [&](std::exception_ptr e, auto const&...) { told = e != nullptr; });
    run(io);
    cache.reset();
    run(io);
    CHECK(told);
    gate.open();
    run(io);
    CHECK(weighed == 0);
}

TEST_CASE("a resource that is loaded after its budget has gone is not measured") {
    asio::io_context io;
    deaf_gate const gate(io);
    using budget_type = tidegate::resource_budget<std::string, int>;
    int measured = 0;
    auto const measure = [&](int) {
        ++measured;
        return budget_type::size{10};
    };
    auto load = [&gate]() -> asio::awaitable<std::shared_ptr<int>> {
        auto passing = gate.pass();
        co_await std::move(passing);
        co_return std::make_shared<int>(1);
    };
    std::optional<budget_type> budget;
    budget.emplace(io, budget_type::size{100});
    budget->add("thing", {10}, load, measure);
    bool told = false;
    budget->async_acquire("thing", [&](std::exception_ptr e, auto const&) { told = e != nullptr; });
    run(io);
    budget.reset();
    gate.open();
    run(io);
    CHECK(told);
    CHECK(measured == 0);
}

namespace {

/// A second level whose writes wait at a gate, and fail.
struct failing_tier final : tidegate::cache_tier {
    explicit failing_tier(deaf_gate g) : gate(std::move(g)) {}

    template <class T>
    using awaitable = asio::awaitable<T>;
    awaitable<std::vector<std::optional<tidegate::tier_value>>>
    get_many(std::vector<std::string> keys) override {
        co_return std::vector<std::optional<tidegate::tier_value>>(keys.size());
    }
    awaitable<void> put_many(std::vector<tidegate::tier_entry>) override {
        ++writes;
        auto passing = gate.pass();
        co_await std::move(passing);
        throw std::runtime_error("full");
    }
    awaitable<void> invalidate(std::vector<std::string>) override { co_return; }

    deaf_gate gate;
    int writes = 0;
};

} // namespace

TEST_CASE("a write that fails after its cache has gone is told to nobody") {
    asio::io_context io;
    deaf_gate const gate(io);
    auto const tier = std::make_shared<failing_tier>(gate);
    int told = 0;
    using options = tidegate::tiered_cache_options<int, std::string>;
    std::optional<tidegate::tiered_cache<int, std::string>> cache;
    cache.emplace(io.get_executor(), tidegate::cache_options<int, std::string>().max_entries(10),
                  tier, options().on_exception([&](std::exception_ptr) { ++told; }));
    cache->put(1, "a");
    run(io);
    REQUIRE(tier->writes == 1);
    SECTION("gone") {
        cache.reset();
        gate.open();
        run(io);
        CHECK(told == 0);
    }
    SECTION("not gone") {
        gate.open();
        run(io);
        CHECK(told == 1);
    }
}

TEST_CASE("what a load brings after its tiered cache has gone is not encoded") {
    asio::io_context io;
    deaf_gate const gate(io);
    int encoded = 0;
    tidegate::value_codec<std::string> codec{[&](std::string const& s) { return ++encoded, s; },
                                             [](std::string_view s) { return std::string(s); }};
    using options = tidegate::tiered_cache_options<int, std::string>;
    std::optional<tidegate::tiered_cache<int, std::string>> cache;
    cache.emplace(io.get_executor(), tidegate::cache_options<int, std::string>().max_entries(10),
                  std::make_shared<failing_tier>(gate), options().codec(codec));
    auto load = [&gate](int) -> asio::awaitable<std::string> {
        auto passing = gate.pass();
        co_await std::move(passing);
        co_return "x";
    };
    bool told = false;
    asio::co_spawn(io, cache->get_or_load(1, load),
                   [&](std::exception_ptr, auto const&...) { told = true; });
    run(io);
    cache.reset();
    gate.open();
    run(io);
    CHECK(told);
    CHECK(encoded == 0);
}

TEST_CASE("who lets go of a collector waits for a collection that calls it") {
    tidegate::metrics_registry registry;
    std::atomic<bool> inside = false, letting_go = false, gone = false, called_after = false;
    std::optional<tidegate::metrics_registration> registration;
    registration = registry.add_collector([&](tidegate::metric_writer&) {
        inside = true;
        while (!letting_go) std::this_thread::yield();
        for (int i = 0; i < 1000; ++i) std::this_thread::yield();
        called_after = gone.load();
    });
    {
        std::jthread const collecting([&] { static_cast<void>(registry.collect()); });
        while (!inside) std::this_thread::yield();
        letting_go = true;
        registration.reset();
        gone = true;
    }
    CHECK_FALSE(called_after);
    inside = false;
    static_cast<void>(registry.collect());
    CHECK_FALSE(inside);
}

TEST_CASE("what is collected may let go of its collector") {
    tidegate::metrics_registry registry;
    int calls = 0;
    std::optional<tidegate::metrics_registration> registration;
    registration = registry.add_collector([&](tidegate::metric_writer&) {
        ++calls;
        registration.reset();
    });
    static_cast<void>(registry.collect());
    static_cast<void>(registry.collect());
    CHECK(calls == 1);
}
