// SPDX-License-Identifier: BSL-1.0
// A node: a first level, and its own second level in the Redis of all nodes.
#pragma once

#include "redis/support.hpp"

#include <tidegate/redis/cache_tier.hpp>
#include <tidegate/tiered_cache.hpp>

#include <memory>
#include <string>
#include <vector>

namespace test {

/// Notes what it is told.
class heard final : public tidegate::tier_listener {
public:
    std::vector<std::string> keys;
    int all = 0;

    void on_changed(std::string_view key) override { keys.emplace_back(key); }
    void on_all_changed() override { ++all; }
};

/// A second level that is kept connected, with somebody who listens.
struct tier_client {
    loop& on;
    std::shared_ptr<tidegate::redis::cache_tier> tier;
    std::shared_ptr<heard> told = std::make_shared<heard>();
    asio::cancellation_signal signal;
    bool running = true;

    tier_client(loop& l, boost::redis::config const& server, bool wait = true,
                tidegate::redis::cache_tier_options settings = {})
        : on(l),
          tier(std::make_shared<tidegate::redis::cache_tier>(l.io, server,
                                                             settings.reconnect_pause(5ms))) {
        tier->add_listener(told);
        asio::co_spawn(l.io, tier->run(),
                       asio::bind_cancellation_slot(
                           signal.slot(), [this](std::exception_ptr) { running = false; }));
        if (wait) await_connection();
    }
    tier_client(tier_client const&) = delete;
    tier_client& operator=(tier_client const&) = delete;
    ~tier_client() {
        signal.emit(asio::cancellation_type::terminal);
        on.run_until([this] { return !running; });
    }

    void await_connection() {
        on.run_until([this] { return tier->statistics().connected; });
    }
    void await_loss(std::uint64_t losses = 1) {
        on.run_until([&] { return tier->statistics().lost >= losses; });
    }

    void put(std::string key, std::string value, std::chrono::nanoseconds time = 1h) {
        std::vector<tidegate::tier_entry> entries;
        entries.push_back({std::move(key), {std::move(value), time}});
        on.run(tier->put_many(std::move(entries)));
    }
    std::optional<tidegate::tier_value> get(std::string key) {
        return std::move(on.run(tier->get_many({std::move(key)})).front());
    }
    void invalidate(std::string key) { on.run(tier->invalidate({std::move(key)})); }
};

using texts = tidegate::tiered_cache<std::string, std::string>;

/// With a cache before it, whose source counts.
struct node : tier_client {
    texts cache;
    int loads = 0;

    // A busy machine answers within the time limit.
    node(loop& l, boost::redis::config const& server, bool wait = true)
        : tier_client(l, server, wait),
          cache(l.io, tidegate::cache_options<std::string, std::string>().max_entries(100), tier,
                tidegate::tiered_cache_options<std::string, std::string>().time_limit(10s)) {}

    std::string ask(std::string const& key) {
        auto const load = [this](std::string const& k) { return loaded(this, k); };
        return *on.run(cache.get_or_load(key, load));
    }
    static asio::awaitable<std::string> loaded(node* self, std::string key) {
        co_return "loaded " + key + ' ' + std::to_string(++self->loads);
    }
    bool has(std::string const& key) { return static_cast<bool>(cache.get_if_present(key)); }
};

} // namespace test
