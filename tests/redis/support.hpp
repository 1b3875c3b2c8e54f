// SPDX-License-Identifier: BSL-1.0
// A client of a test's Redis, and what tests want to know of it.
#pragma once

#include "redis/redis_server.hpp"

#include <tidegate/redis/keep_connected.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace test {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using nodes = std::vector<tidegate::redis::detail::reply_node>;

/// An event loop that gives up after a minute.
class loop {
public:
    asio::io_context io{1};

    /// Runs until `work` is done; its result, or what it threw.
    template <class T>
    T run(asio::awaitable<T> work) {
        std::optional<T> result;
        auto keep = [](asio::awaitable<T> w, std::optional<T>& r) -> asio::awaitable<void> {
            r.emplace(co_await std::move(w));
        };
        run(keep(std::move(work), result));
        return std::move(*result);
    }
    void run(asio::awaitable<void> work) {
        std::exception_ptr failure;
        bool done = false;
        asio::co_spawn(io, std::move(work), [&](std::exception_ptr e) {
            failure = e;
            done = true;
        });
        run_until([&] { return done; });
        if (failure) std::rethrow_exception(failure);
    }

    void run_until(std::function<bool()> const& done) {
        auto const end = std::chrono::steady_clock::now() + 60s;
        io.restart();
        while (!done()) {
            if (std::chrono::steady_clock::now() > end) throw std::runtime_error("took too long");
            io.run_one_for(5ms);
            if (io.stopped()) io.restart();
        }
    }
};

using connection = std::shared_ptr<boost::redis::connection>;

/// What Redis says; throws when it says nothing.
inline asio::awaitable<nodes> ask(connection redis, std::vector<std::string> words) {
    auto const sent = std::make_shared<tidegate::redis::detail::call>();
    std::string const command = words.front();
    words.erase(words.begin());
    if (words.empty()) sent->request.push(command);
    else sent->request.push_range(command, words);
    auto asking =
        tidegate::redis::detail::exec_until(redis, sent, std::chrono::steady_clock::now() + 20s);
    auto const ec = co_await std::move(asking);
    if (ec) throw boost::system::system_error(ec);
    co_return sent->answer.nodes;
}

inline asio::awaitable<void> await_redis(connection redis) {
    for (;;) {
        bool answers = false;
        try {
            auto asking = ask(redis, {"PING"});
            co_await std::move(asking);
            answers = true;
        } catch (boost::system::system_error const&) {
            answers = false;
        }
        if (answers) co_return;
        auto waiting = tidegate::sleep_for(5ms);
        co_await std::move(waiting);
    }
}

/// A loop with a connection that is kept.
class client : public loop {
public:
    explicit client(redis_server const& server, bool wait = true)
        : redis(std::make_shared<boost::redis::connection>(io)) {
        keep(redis, server.config());
        if (wait) run(await_redis(redis));
    }
    client(client const&) = delete;
    client& operator=(client const&) = delete;
    ~client() { stop(); }

    void keep(connection which, boost::redis::config const& server) {
        ++kept_;
        signals_.push_back(std::make_unique<asio::cancellation_signal>());
        asio::co_spawn(io, tidegate::redis::keep_connected(std::move(which), server, 10ms),
                       asio::bind_cancellation_slot(signals_.back()->slot(),
                                                    [this](std::exception_ptr) { --kept_; }));
    }
    void stop() {
        for (auto const& each : signals_) each->emit(asio::cancellation_type::terminal);
        run_until([this] { return kept_ == 0; });
    }

    /// How often Redis ran a command.
    long calls_of(std::string const& command) {
        auto const said = run(ask(redis, {"INFO", "commandstats"}));
        std::string const name = "cmdstat_" + command + ":calls=";
        auto const at = said.at(0).value.find(name);
        return at == std::string::npos ? 0 : std::stol(said.at(0).value.substr(at + name.size()));
    }

    connection redis;

private:
    int kept_ = 0;
    std::vector<std::unique_ptr<asio::cancellation_signal>> signals_;
};

} // namespace test
