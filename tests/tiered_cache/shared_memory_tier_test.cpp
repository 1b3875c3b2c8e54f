// SPDX-License-Identifier: BSL-1.0
// Several caches of one process before the same values in memory.
#include "tiered_cache/support.hpp"

#include <tidegate/memory_cache_tier.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/tiered_cache.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <functional>
#include <stdexcept>
#include <thread>
#include <utility>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

struct shared_memory_tag;
using clock_type = tidegate::testing::basic_manual_clock<shared_memory_tag>;
using memory_tier = tidegate::basic_memory_cache_tier<clock_type>;
using texts = tidegate::basic_tiered_cache<std::string, std::string, clock_type>;
using numbers = tidegate::basic_tiered_cache<int, int, clock_type>;
using keys = std::vector<std::string>;
using entries = std::vector<tidegate::tier_entry>;

tidegate::cache_options<std::string, std::string> small() {
    return tidegate::cache_options<std::string, std::string>().max_entries(10);
}

struct listener final : tidegate::tier_listener {
    explicit listener(std::vector<std::string>& to) : heard(to) {}
    void on_changed(std::string_view key) override { heard.emplace_back(key); }
    void on_all_changed() override { heard.emplace_back("all"); }

    std::vector<std::string>& heard;
};

struct two_tiers {
    asio::io_context io;
    std::shared_ptr<memory_tier> here = std::make_shared<memory_tier>(io, 10'000);
    std::shared_ptr<memory_tier> there = here->another();

    std::string read(memory_tier& from) {
        auto const found = test::run(io, from.get_many({"a"}));
        return found[0] ? found[0]->bytes : "none";
    }
    void put(memory_tier& to, std::string bytes, bool if_missing) {
        test::run(io, to.put_many(entries{{"a", {std::move(bytes), 1h}, if_missing}}));
    }
};

} // namespace

TEST_CASE_METHOD(two_tiers, "what one cache changes leaves the first level of the other") {
    texts one(io, small(), here);
    texts other(io, small(), there);
    int loads = 0;
    auto const get = [&](texts& cache) {
        auto load = [&]() -> asio::awaitable<std::string> {
            ++loads;
            co_return "loaded";
        };
        return *test::run(io, cache.get_or_load("a", load));
    };
    CHECK(get(one) == "loaded");
    CHECK(get(other) == "loaded");
    CHECK(loads == 1);

    one.put("a", "put");
    test::run(io, one.flush());
    CHECK(*one.get_if_present(std::string("a")) == "put"); // nobody is told of his own
    CHECK_FALSE(other.get_if_present(std::string("a")));
    CHECK(get(other) == "put");

    CHECK(test::run(io, other.invalidate("a")));
    CHECK_FALSE(one.get_if_present(std::string("a")));
    CHECK(get(one) == "loaded");
    CHECK(loads == 2);
}

TEST_CASE_METHOD(two_tiers, "what was loaded since nothing was there does not replace what is") {
    REQUIRE(read(*here) == "none");
    SECTION("nothing changed") {
        put(*here, "loaded", true);
        CHECK(read(*there) == "loaded");
        put(*here, "loaded", true); // known to be there
        put(*there, "loaded late", true);
        CHECK(read(*there) == "loaded");
    }
    SECTION("another put something") {
        put(*there, "put", false);
        put(*here, "loaded", true);
        CHECK(read(*here) == "put");
    }
    SECTION("another invalidated it") {
        test::run(io, there->invalidate({"a"}));
        put(*here, "loaded", true);
        CHECK(read(*here) == "none"); // and so it may be written
        put(*here, "loaded again", true);
        CHECK(read(*here) == "loaded again");
    }
    SECTION("the same one put something") {
        put(*here, "put", false);
        put(*here, "loaded", true);
        CHECK(read(*here) == "loaded");
    }
    SECTION("too many others were missing since") {
        keys others;
        for (int i = 0; i < 40'000; ++i) others.push_back(std::to_string(i));
        test::run(io, here->get_many(others));
        put(*here, "loaded", true);
        CHECK(read(*here) == "none");
    }
    SECTION("another went away") {
        there.reset();
        put(*here, "loaded", true);
        CHECK(read(*here) == "loaded");
    }
}

TEST_CASE_METHOD(two_tiers, "a listener is told of what others change, as long as it lives") {
    std::vector<std::string> heard;
    auto who = std::make_shared<listener>(heard);
    here->add_listener(who);
    put(*here, "own", false);
    test::run(io, here->invalidate({"a"}));
    CHECK(heard.empty());
    put(*there, "put", false);
    put(*there, "refused", true);
    test::run(io, there->invalidate({"b", "c"}));
    CHECK(heard == keys{"a", "a", "b", "c", "b", "c"}); // before and after
    who.reset();
    put(*there, "put", false);
    CHECK(heard.size() == 6);
}

TEST_CASE("caches on two threads never bring back what one of them invalidated") {
    constexpr std::size_t some = 4;
    constexpr int rounds = 3000;
    std::array<std::atomic<int>, some> source{};
    std::array<std::atomic<int>, some> promised{}; // at least, to whoever asks from now on
    std::atomic<int> wrong{0};
    asio::io_context first_io;
    asio::io_context second_io;
    auto const tier = std::make_shared<memory_tier>(first_io, 10'000);

    auto const work = [&](asio::io_context& io, std::shared_ptr<memory_tier> mine) {
        auto const few = tidegate::cache_options<int, int>().max_entries(2);
        numbers cache(io, few, std::move(mine));
        auto load = [&](int key) -> asio::awaitable<int> {
            int const value = source[static_cast<std::size_t>(key)];
            std::this_thread::yield();
            co_return value;
        };
        auto use = [&]() -> asio::awaitable<void> {
            for (int i = 0; i < rounds; ++i) {
                auto const at = static_cast<std::size_t>(i / 3) % some;
                int const key = static_cast<int>(at);
                int const least = promised[at];
                auto getting = cache.get_or_load(key, load);
                if (*co_await std::move(getting) < least) ++wrong;
                if (i % 5 != 0) continue;
                int const value = ++source[at];
                auto forgetting = cache.invalidate(key);
                if (!co_await std::move(forgetting)) continue;
                int known = promised[at];
                while (known < value && !promised[at].compare_exchange_weak(known, value)) {
                }
            }
        };
        test::run(io, use());
    };
    std::thread other([&] { work(second_io, tier->another()); });
    work(first_io, tier);
    other.join();
    CHECK(wrong == 0);
}

namespace {

/// Writes what it was about to, when it hears of another's change for the first time.
struct late_writer final : tidegate::tier_listener {
    explicit late_writer(std::function<void()> w) : write(std::move(w)) {}
    void on_changed(std::string_view) override {
        if (auto const once = std::exchange(write, nullptr)) once();
    }
    void on_all_changed() override {}

    std::function<void()> write;
};

} // namespace

TEST_CASE_METHOD(two_tiers, "what was loaded before another changed it does not come after that") {
    put(*here, "old", false);
    auto const late = std::make_shared<late_writer>([&] {
        asio::io_context own; // within a handler of the other
        test::run(own, here->put_many(entries{{"a", {"old", 1h}, false}}));
    });
    here->add_listener(late);
    SECTION("removed") {
        test::run(io, there->invalidate({"a"}));
        CHECK(read(*there) == "none");
    }
    SECTION("put") {
        put(*there, "new", false);
        CHECK(read(*there) == "new");
    }
    CHECK_FALSE(late->write);
}

TEST_CASE_METHOD(two_tiers, "what another put stays, though that is gone") {
    CHECK(read(*here) == "none"); // and may be written, if nobody else does
    put(*there, "new", false);
    there.reset();
    put(*here, "loaded", true);
    CHECK(read(*here) == "new");
}

TEST_CASE_METHOD(two_tiers, "a name whose key cannot be told empties the first level") {
    int told = 0;
    texts cache(io, small(), here,
                tidegate::tiered_cache_options<std::string, std::string>()
                    .key_of_name([](std::string_view) -> std::optional<std::string> {
                        throw std::invalid_argument("no key's");
                    })
                    .on_exception([&](std::exception_ptr) { ++told; }));
    cache.put("b", "value");
    put(*there, "new", false);
    CHECK(read(*there) == "new");
    CHECK_FALSE(cache.get_if_present(std::string("b")));
    CHECK(told > 0);
    test::run(io, cache.flush());
    CHECK(cache.second_level_statistics().owed_invalidations == 0);
}
