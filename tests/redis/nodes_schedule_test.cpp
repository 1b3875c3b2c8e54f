// SPDX-License-Identifier: BSL-1.0
// Four nodes that read, load, put and invalidate at random: what all have heard of stays heard of.
#include "redis/tier_support.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/detached.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::client;
using test::redis_server;

namespace {

using numbers = tidegate::tiered_cache<int, int>;

/// A source whose values only grow, and nodes whose loads take their time.
class schedule {
public:
    schedule(client& c, boost::redis::config const& server, std::uint64_t seed)
        : client_(c), random_(seed) {
        auto const breaker =
            tidegate::circuit_breaker_options().consecutive_failures(5).open_duration(2ms);
        for (int i = 0; i < nodes; ++i) {
            tiers_.push_back(std::make_unique<test::tier_client>(c, server));
            caches_.push_back(std::make_unique<numbers>(
                c.io, tidegate::cache_options<int, int>().max_entries(4), tiers_.back()->tier,
                tidegate::tiered_cache_options<int, int>().breaker(breaker)));
        }
    }
    ~schedule() {
        client_.run_until([this] { return asked_ == answered_; });
    }

    void play(int steps) {
        for (int i = 0; i < steps; ++i) {
            step();
            for (auto n = test::below(random_, 4); n > 0; --n) client_.io.poll_one();
            client_.io.restart();
        }
        settle();
        for (int key = 0; key < keys; ++key) {
            for (auto& cache : caches_) ask(*cache, key);
        }
        client_.run_until([this] { return asked_ == answered_; });
    }

    int wrong = 0;
    int asked() const noexcept { return asked_; }

private:
    static constexpr int keys = 8;
    static constexpr int nodes = 4;

    void step() {
        int const key = static_cast<int>(test::below(random_, keys));
        // Two that change a key at a time have no order, so each key has its own node for that.
        auto& owner = *caches_[static_cast<std::size_t>(key % nodes)];
        auto& anybody = *caches_[test::below(random_, nodes)];
        switch (test::below(random_, 12)) {
        case 0: owner.put(key, ++source_[key]); break;
        case 1:
            ++source_[key];
            ++asked_;
            asio::co_spawn(client_.io, invalidate(owner, key), asio::detached);
            break;
        case 2: settle(); break;
        case 3:
            if (test::below(random_, 4) == 0) cut_off_one();
            break;
        case 4:
            if (test::below(random_, 8) == 0) client_.run(test::ask(client_.redis, {"FLUSHALL"}));
            break;
        default: ask(anybody, key); break;
        }
    }

    // Ends the connection of one of those that are told of changes.
    void cut_off_one() {
        auto const said = client_.run(test::ask(client_.redis, {"CLIENT", "LIST"}));
        std::istringstream lines(said.at(0).value);
        std::vector<std::string> ids;
        for (std::string line; std::getline(lines, line);) {
            auto const flags = line.find(" flags=");
            auto const from = line.find("id=") + 3;
            if (line.substr(flags, line.find(' ', flags + 1) - flags).find('t') !=
                std::string::npos)
                ids.push_back(line.substr(from, line.find(' ') - from));
        }
        if (ids.empty()) return;
        client_.run(test::ask(client_.redis,
                              {"CLIENT", "KILL", "ID", ids[test::below(random_, ids.size())]}));
    }

    void ask(numbers& from, int key) {
        ++asked_;
        asio::co_spawn(client_.io, asking(from, key, settled_[key]), asio::detached);
    }
    asio::awaitable<void> asking(numbers& from, int key, int at_least) {
        auto const load = [this](int k) { return loaded(k); };
        auto getting = from.get_or_load(key, load);
        auto const got = co_await std::move(getting);
        if (*got < at_least) ++wrong;
        ++answered_;
    }
    asio::awaitable<int> loaded(int key) {
        int const value = source_[key];
        auto waiting = tidegate::sleep_for(std::chrono::microseconds(test::below(random_, 3000)));
        co_await std::move(waiting);
        co_return value;
    }
    asio::awaitable<void> invalidate(numbers& at, int key) {
        auto invalidating = at.invalidate(key);
        co_await std::move(invalidating);
        ++answered_;
    }

    // Everything is written, and everybody has heard of it.
    void settle() {
        auto const now = source_;
        for (;;) {
            for (auto& each : tiers_) each->await_connection();
            for (auto& cache : caches_) client_.run(cache->flush());
            if (owed() > 0) {
                pay();
                continue;
            }
            if (all_heard()) break;
        }
        for (auto const& [key, value] : now) settled_[key] = std::max(settled_[key], value);
    }
    std::size_t owed() const {
        std::size_t all = 0;
        for (auto const& cache : caches_) {
            auto const counted = cache->second_level_statistics();
            all += counted.owed_invalidations + counted.pending_writes;
        }
        return all;
    }
    // A breaker that opened may take a moment.
    void pay() {
        for (auto& cache : caches_) client_.run(cache->invalidate(-1));
    }
    // Redis tells in the order of the changes: whoever heard of the last heard of all. A connection
    // that is lost meanwhile is made anew, and everything forgotten.
    bool all_heard() {
        std::string const mark = "mark" + std::to_string(++marks_);
        client_.run_until([&] { // who is away hears of no mark
            return std::all_of(tiers_.begin(), tiers_.end(),
                               [](auto const& each) { return each->tier->statistics().connected; });
        });
        std::vector<std::uint64_t> losses;
        for (auto& each : tiers_) losses.push_back(each->tier->statistics().lost);
        client_.run(test::ask(client_.redis, {"SET", "tidegate:cache:" + mark, "x"}));
        auto const is_over = [&](std::size_t i) {
            auto const& heard = tiers_[i]->told->keys;
            return tiers_[i]->tier->statistics().lost != losses[i] ||
                   std::find(heard.rbegin(), heard.rend(), mark) != heard.rend();
        };
        client_.run_until([&] {
            for (std::size_t i = 0; i < tiers_.size(); ++i) {
                if (!is_over(i)) return false;
            }
            return true;
        });
        for (std::size_t i = 0; i < tiers_.size(); ++i) {
            if (tiers_[i]->tier->statistics().lost != losses[i]) return false;
        }
        return true;
    }

    client& client_;
    test::random random_;
    std::vector<std::unique_ptr<test::tier_client>> tiers_;
    std::vector<std::unique_ptr<numbers>> caches_;
    std::map<int, int> source_;
    std::map<int, int> settled_;
    int asked_ = 0;
    int answered_ = 0;
    int marks_ = 0;
};

} // namespace

TEST_CASE("Whoever asks after all have heard of a change gets nothing older", "[stress]") {
    NEEDS_REDIS();
    redis_server server;
    for (std::uint64_t const seed : test::seeds()) {
        INFO("seed " << seed);
        client c(server);
        int wrong = 0, asked = 0;
        for (std::uint64_t i = 0; i < 4; ++i) {
            schedule one(c, server.config(), seed + i);
            one.play(250);
            wrong += one.wrong;
            asked += one.asked();
        }
        CHECK(wrong == 0);
        CHECK(asked > 400);
    }
}
