// SPDX-License-Identifier: BSL-1.0
// Who waits for the second level does not wait for what others write there later.
#include "tiered_cache/support.hpp"

#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/tiered_cache.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <utility>

namespace asio = boost::asio;

namespace {

struct flushing_tag;
using clock_type = tidegate::testing::basic_manual_clock<flushing_tag>;
using texts = tidegate::basic_tiered_cache<std::string, std::string, clock_type>;

/// A second level that gets new work with each batch that it is given.
struct fixture {
    asio::io_context io;
    std::shared_ptr<test::watched_tier> tier = std::make_shared<test::watched_tier>();
    texts cache{io, tidegate::cache_options<std::string, std::string>().max_entries(10), tier};
    int fresh = 0; // keys so far
    bool calm = false;

    void write_with_each_batch(int n) {
        tier->before = [this, n](test::watched_tier::call const& call) -> asio::awaitable<void> {
            if (calm) co_return;
            if (call.what == 'p') {
                cache.put("hot", std::to_string(fresh));
                for (int i = 0; i < n; ++i) cache.put("new" + std::to_string(fresh++), "value");
            }
            co_await asio::post(io, asio::use_awaitable);
        };
    }

    template <class Done>
    void step_until(Done done) {
        for (int i = 0; i < 10'000 && !done(); ++i) io.poll_one();
    }

    void end() {
        calm = true;
        io.poll();
        CHECK(cache.second_level_statistics().pending_writes == 0);
    }
};

} // namespace

TEST_CASE_METHOD(fixture, "writes that keep coming hold up neither a flush nor an invalidation") {
    write_with_each_batch(1);
    cache.put("a", "value");
    bool flushed = false;
    bool told = false;
    auto flush = [&]() -> asio::awaitable<void> {
        auto flushing = cache.flush();
        co_await std::move(flushing);
        flushed = true;
        CHECK(tier->values.contains("a"));
    };
    auto forget = [&]() -> asio::awaitable<void> {
        auto forgetting = cache.invalidate("b");
        told = co_await std::move(forgetting);
    };
    auto const check = [](std::exception_ptr e) { CHECK_FALSE(e); };
    io.poll_one(); // the writes have begun
    asio::co_spawn(io, flush(), check);
    asio::co_spawn(io, forget(), check);
    step_until([&] { return flushed && told; });
    CHECK(flushed);
    CHECK(told);
    CHECK(tier->count('p') < 10);
    end();
}

TEST_CASE_METHOD(fixture, "a flush sees all written that came before it, in batches, and no more") {
    write_with_each_batch(300);
    for (int i = 0; i < 600; ++i) cache.put(std::to_string(i), "value");
    cache.put("hot", "value");
    bool flushed = false;
    auto flush = [&]() -> asio::awaitable<void> {
        auto flushing = cache.flush();
        co_await std::move(flushing);
        flushed = true;
    };
    asio::co_spawn(io, flush(), [](std::exception_ptr e) { CHECK_FALSE(e); });
    step_until([&] { return flushed; });
    CHECK(flushed);
    CHECK(tier->count('p') <= 4); // of 256
    for (int i = 0; i < 600; ++i) CHECK(tier->values.contains(std::to_string(i)));
    CHECK(tier->values.contains("hot")); // though it was changed with each batch
    end();
    CHECK(tier->values.at("hot").bytes == std::to_string(fresh - 300));
}

TEST_CASE_METHOD(fixture, "a key that is invalidated while another is paid for drops no writes") {
    bool first = true;
    tier->before = [&](test::watched_tier::call const& call) -> asio::awaitable<void> {
        if (call.what == 'i' && std::exchange(first, false))
            auto not_awaited = cache.invalidate("b");
        co_return;
    };
    cache.put("c", "value");
    auto forgetting = cache.invalidate("a");
    test::run(io, cache.flush());
    CHECK_FALSE(first);
    CHECK(tier->values.contains("c"));
    CHECK(cache.second_level_statistics().not_written == 0);
    CHECK(cache.second_level_statistics().owed_invalidations == 0);
}
