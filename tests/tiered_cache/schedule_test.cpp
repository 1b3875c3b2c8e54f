// SPDX-License-Identifier: BSL-1.0
// Whoever asks after something was changed gets nothing older, however the steps fall.
#include "support/stress.hpp"
#include "tiered_cache/support.hpp"

#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/tiered_cache.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <array>
#include <stdexcept>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

struct schedule_tag;
using clock_type = tidegate::testing::basic_manual_clock<schedule_tag>;
using numbers = tidegate::basic_tiered_cache<int, int, clock_type>;

/// A source whose values only grow, and a cache before it that is asked, told and failed.
class schedule {
public:
    explicit schedule(std::uint64_t seed) : random_(seed) {
        tier_->before = [this](test::watched_tier::call const&) { return disturb(); };
    }

    void play(int steps) {
        for (int i = 0; i < steps; ++i) step();
        for (int i = 0; i < 1000 && io_.poll_one() > 0; ++i) {
        }
        clock_type::advance(1min);
        io_.poll();
        CHECK(asked_ == answered_);
        calm_ = true;
        ask_for_all(); // a breaker that is half-open lets a few calls through: it closes
        ask_for_all(); // and now what is owed is paid
        CHECK(asked_ == answered_);
        CHECK(cache_.second_level_statistics().owed_invalidations == 0);
    }

    int wrong = 0;

private:
    static constexpr int keys = 6;

    asio::awaitable<void> disturb() {
        auto const hops = test::below(random_, 4);
        for (std::size_t i = 0; i < hops; ++i) co_await asio::post(io_, asio::use_awaitable);
        if (!calm_ && test::below(random_, 6) == 0) throw std::runtime_error("sick");
    }

    asio::awaitable<int> load(int key) {
        int const value = source_[static_cast<std::size_t>(key)];
        auto const hops = test::below(random_, 5);
        for (std::size_t i = 0; i < hops; ++i) co_await asio::post(io_, asio::use_awaitable);
        co_return value;
    }

    void ask(int key) {
        ++asked_;
        asio::co_spawn(io_, asking(key, source_[static_cast<std::size_t>(key)]), asio::detached);
    }
    asio::awaitable<void> asking(int key, int at_least) {
        auto by = [this](int k) { return load(k); };
        auto const value = co_await cache_.get_or_load(key, by);
        if (*value < at_least) ++wrong;
        ++answered_;
    }

    void ask_for_all() {
        clock_type::advance(10min); // nothing is in the first level any more
        for (int key = 0; key < keys; ++key) ask(key);
        io_.restart();
        io_.poll();
    }

    void change(int key) {
        int const value = ++source_[static_cast<std::size_t>(key)];
        if (test::below(random_, 2) == 0) cache_.put(key, value);
        else asio::co_spawn(io_, cache_.invalidate(key), asio::detached);
    }

    void step() {
        int const key = static_cast<int>(test::below(random_, keys));
        switch (test::below(random_, 8)) {
        case 0:
        case 1: ask(key); break;
        case 2: change(key); break;
        case 3: cache_.first_level().invalidate(key); break; // as if it made room
        case 4: clock_type::advance(test::below(random_, 200) * 1ms); break;
        default: io_.restart(); io_.poll_one();
        }
    }

    asio::io_context io_;
    test::random random_;
    bool calm_ = false;
    std::array<int, keys> source_{};
    int asked_ = 0;
    int answered_ = 0;
    std::shared_ptr<test::watched_tier> tier_ = std::make_shared<test::watched_tier>();
    numbers cache_{
        io_, tidegate::cache_options<int, int>().max_entries(4).time_to_live(5s), tier_,
        tidegate::tiered_cache_options<int, int>().breaker(
            tidegate::circuit_breaker_options().consecutive_failures(3).open_duration(300ms))};
};

} // namespace

TEST_CASE("random schedules with a sick second level never bring an old value back", "[stress]") {
    for (auto const seed : test::seeds()) {
        auto const n = test::schedules(10'000);
        for (std::uint64_t i = 0; i < n; ++i) {
            schedule one(seed + i);
            one.play(60);
            INFO("TIDEGATE_STRESS_SEED=" << seed + i);
            REQUIRE(one.wrong == 0);
        }
    }
}
