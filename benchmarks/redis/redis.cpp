// SPDX-License-Identifier: BSL-1.0
// A limit that is kept in Redis beside a plain SET on the same connection, a refusal that is known
// beside both, and how soon another node hears of a change. Against a redis-server of its own.
#include "bench.hpp"
#include "coroutines.hpp"

#include "../../tests/redis/redis_process.hpp"

#include <tidegate/redis/cache_tier.hpp>
#include <tidegate/redis/keep_connected.hpp>
#include <tidegate/redis/rate_limiter.hpp>

#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/redis/response.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace bench;
using namespace std::chrono_literals;
namespace redis = tidegate::redis;

test::redis_server& server() {
    static test::redis_server one;
    return one;
}

struct client {
    asio::io_context io{1};
    std::shared_ptr<boost::redis::connection> connection =
        std::make_shared<boost::redis::connection>(io);

    client() {
        asio::co_spawn(io, redis::keep_connected(connection, server().config()), asio::detached);
    }
};

asio::awaitable<void> set(client& c) {
    boost::redis::request request;
    request.push("SET", "bench", "1763736225000000.000000000", "PX", 1000);
    co_await c.connection->async_exec(request, boost::redis::ignore, asio::deferred);
}

asio::awaitable<void> set_in_turn(run& r, client& c) {
    while (r.more()) co_await set(c);
}

asio::awaitable<void> acquire_in_turn(run& r, client& c, redis::rate_limiter& limiter,
                                      std::string key) {
    co_await set(c);
    while (r.more()) {
        auto const answer = co_await limiter.try_acquire(key);
        benchmark::DoNotOptimize(static_cast<bool>(answer));
    }
}

void limited(run& r, redis::rate_limiter_options settings) {
    client c;
    redis::rate_limiter limiter(c.connection, settings.on_failure(redis::when_redis_fails::refuse));
    drive(c.io, acquire_in_turn(r, c, limiter, "key"));
    r.report("failed_calls", static_cast<double>(limiter.statistics().failed_calls));
}

class listener final : public tidegate::tier_listener {
public:
    explicit listener(asio::io_context& io)
        : heard(io, std::chrono::steady_clock::time_point::max()) {}
    asio::steady_timer heard;
    bool pending = false;

    void on_changed(std::string_view) override {
        pending = false;
        heard.cancel();
    }
    void on_all_changed() override {}
};

// From the beginning of a write on one node to the end of the call that tells another of it.
asio::awaitable<void> change_and_hear(run& r, redis::cache_tier& writer, redis::cache_tier& reader,
                                      listener& told, std::vector<double>& times) {
    auto& heard = told.heard;
    while (!writer.statistics().connected || !reader.statistics().connected)
        co_await tidegate::sleep_for(5ms);
    std::vector<tidegate::tier_entry> entries;
    entries.push_back({"key", {"value", 1h}});
    while (r.more()) {
        auto const begun = std::chrono::steady_clock::now();
        told.pending = true;
        co_await writer.put_many(entries);
        while (told.pending) {
            boost::system::error_code ec;
            co_await heard.async_wait(asio::redirect_error(asio::deferred, ec));
        }
        times.push_back(
            std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun)
                .count());
    }
}

void hear(run& r) {
    asio::io_context io{1};
    auto writer = std::make_shared<redis::cache_tier>(io, server().config());
    auto reader = std::make_shared<redis::cache_tier>(io, server().config());
    auto const told = std::make_shared<listener>(io);
    reader->add_listener(told);
    for (auto const& each : {writer, reader}) asio::co_spawn(io, each->run(), asio::detached);
    std::vector<double> times;
    drive(io, change_and_hear(r, *writer, *reader, *told, times));
    std::sort(times.begin(), times.end());
    r.report("p99_ms", times[times.size() * 99 / 100]);
}

group const with_a_server{[] {
    if (test::redis_program().empty()) {
        std::cout << "redis-server is not installed: nothing is measured\n";
        return;
    }
    row("call/set", wall_time, [](run& r) {
        client c;
        drive(c.io, set_in_turn(r, c));
    });
    row("call/limiter", wall_time,
        [](run& r) { limited(r, redis::rate_limiter_options().rate(1'000'000, 1s)); });
    row("call/known_refusal", wall_time,
        [](run& r) { limited(r, redis::rate_limiter_options().rate(1, 24h)); });
    row("change/heard", wall_time, hear);
    claim("limiter_call", ratio_of("call/limiter", "call/set"), at_most(1.6));
    claim("known_refusal", ratio_of("call/known_refusal", "call/set"), at_most(0.02));
    claim("limiter_failed_calls", most_of("call/limiter", "failed_calls"), at_most(0));
    claim("change_heard_p99_ms", least_of("change/heard", "p99_ms"), at_most(10));
}};

} // namespace
