// SPDX-License-Identifier: BSL-1.0
// What the tests of the second level share.
#pragma once

#include <tidegate/cache_tier.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace test {

namespace asio = boost::asio;

/// Runs `work` on `io` until nothing is left to do; its result, or what it threw.
template <class T>
T run(asio::io_context& io, asio::awaitable<T> work) {
    std::optional<T> result;
    std::exception_ptr failure;
    asio::co_spawn(io, std::move(work), [&](std::exception_ptr e, T r) {
        failure = e;
        result = std::move(r);
    });
    io.restart();
    io.run();
    if (failure) std::rethrow_exception(failure);
    return std::move(*result);
}
inline void run(asio::io_context& io, asio::awaitable<void> work) {
    std::exception_ptr failure;
    asio::co_spawn(io, std::move(work), [&](std::exception_ptr e) { failure = e; });
    io.restart();
    io.run();
    if (failure) std::rethrow_exception(failure);
}

/// A second level that does what `before` does first: throw, wait, count. What it has put is there
/// while `answer` keeps the caller waiting.
class watched_tier final : public tidegate::cache_tier {
public:
    struct call {
        char what; // g, p, i
        std::vector<std::string> keys;
    };
    template <class T>
    using awaitable = asio::awaitable<T>;

    std::deque<call> calls; // references stay
    std::map<std::string, tidegate::tier_value> values;
    std::function<awaitable<void>(call const&)> before;
    std::function<awaitable<void>()> answer;
    std::size_t results_too_many = 0;
    std::weak_ptr<tidegate::tier_listener> listener;

    awaitable<std::vector<std::optional<tidegate::tier_value>>>
    get_many(std::vector<std::string> keys) override {
        auto noting = note('g', keys);
        co_await std::move(noting);
        std::vector<std::optional<tidegate::tier_value>> all;
        for (auto const& key : keys) {
            auto const it = values.find(key);
            all.push_back(it == values.end() ? std::nullopt : std::optional(it->second));
        }
        all.resize(all.size() + results_too_many);
        co_return all;
    }
    awaitable<void> put_many(std::vector<tidegate::tier_entry> entries) override {
        std::vector<std::string> keys;
        for (auto const& one : entries) keys.push_back(one.key);
        auto noting = note('p', keys);
        co_await std::move(noting);
        for (auto& one : entries) values.insert_or_assign(one.key, std::move(one.value));
        if (answer) co_await answer();
    }
    awaitable<void> invalidate(std::vector<std::string> keys) override {
        auto noting = note('i', keys);
        co_await std::move(noting);
        for (auto const& key : keys) values.erase(key);
    }

    void add_listener(std::weak_ptr<tidegate::tier_listener> who) override {
        listener = std::move(who);
    }

    std::size_t count(char what) const {
        std::size_t n = 0;
        for (auto const& one : calls) n += one.what == what;
        return n;
    }

private:
    awaitable<void> note(char what, std::vector<std::string> const& keys) {
        calls.push_back({what, keys});
        if (before) co_await before(calls.back());
    }
};

} // namespace test
