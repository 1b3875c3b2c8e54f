// SPDX-License-Identifier: BSL-1.0
// A connection is kept, whatever the server says to whoever asks whether it is there.
#include "redis/redis_server.hpp"
#include "redis/support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/ip/tcp.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

/// Looks after the server often.
boost::redis::config quick(test::redis_server const& server) {
    auto config = server.config();
    config.health_check_interval = 20ms;
    return config;
}

/// Never does.
boost::redis::config trusting(test::redis_server const& server) {
    auto config = server.config();
    config.health_check_interval = 0s;
    return config;
}

/// A connection that is kept, on its own loop.
class kept : public test::loop {
public:
    explicit kept(boost::redis::config const& config)
        : redis(std::make_shared<boost::redis::connection>(io)) {
        asio::co_spawn(io, tidegate::redis::keep_connected(redis, config, 10ms),
                       asio::bind_cancellation_slot(stop_.slot(),
                                                    [this](std::exception_ptr) { ended_ = true; }));
    }
    kept(kept const&) = delete;
    kept& operator=(kept const&) = delete;
    ~kept() {
        stop_.emit(asio::cancellation_type::terminal);
        run_until([this] { return ended_; });
    }

    std::string ask(std::vector<std::string> words) {
        return run(test::ask(redis, std::move(words))).at(0).value;
    }
    void await_answers() { run(test::await_redis(redis)); }

    test::connection redis;

private:
    asio::cancellation_signal stop_;
    bool ended_ = false;
};

/// Of "calls=1,...,rejected_calls=2,failed_calls=3" for a command.
long statistic(kept& admin, std::string const& command, std::string const& what) {
    std::string const all = admin.ask({"INFO", "commandstats"});
    auto const line = all.find("cmdstat_" + command + ":");
    if (line == std::string::npos) return 0;
    auto const at = all.find(what + "=", line);
    return std::stol(all.substr(at + what.size() + 1));
}

} // namespace

TEST_CASE("A server that is too busy to answer checks, and says so, is kept") {
    NEEDS_REDIS();
    test::redis_server server;
    kept admin(trusting(server));
    kept slow(trusting(server));
    kept one(quick(server));
    for (kept* each : {&admin, &slow, &one}) each->await_answers();
    admin.ask({"CONFIG", "SET", "busy-reply-threshold", "1"});
    auto const id = one.ask({"CLIENT", "ID"});

    auto const endless = std::make_shared<tidegate::redis::detail::call>();
    endless->request.push("EVAL", "while true do end", 0);
    bool killed = false;
    tidegate::redis::detail::start(slow.redis, endless,
                                   std::shared_ptr<void>(nullptr, [&](void*) { killed = true; }));
    slow.io.restart();
    slow.io.poll();
    one.run_until([&] { return one.ask({"PING"}).starts_with("BUSY"); });
    auto const end = std::chrono::steady_clock::now() + 200ms; // for ten checks
    one.run_until([end] { return std::chrono::steady_clock::now() > end; });
    admin.ask({"SCRIPT", "KILL"});
    slow.run_until([&] { return killed; });
    CHECK(statistic(admin, "ping", "rejected_calls") > 2);

    long const answered = statistic(admin, "ping", "calls");
    one.run_until([&] { return statistic(admin, "ping", "calls") > answered + 5; });
    CHECK(one.ask({"CLIENT", "ID"}) == id);
}

TEST_CASE("A server that lets nobody in for a while is joined when it does") {
    NEEDS_REDIS();
    test::redis_server server;
    kept admin(trusting(server));
    kept one(quick(server));
    for (kept* each : {&admin, &one}) each->await_answers();
    for (int round = 0; round < 3; ++round) {
        admin.ask({"CONFIG", "SET", "requirepass", "another"});
        admin.ask({"CLIENT", "KILL", "SKIPME", "yes"});
        auto const refused = [&] {
            return statistic(admin, "hello", "failed_calls") +
                   statistic(admin, "hello", "rejected_calls");
        };
        long const before = refused();
        one.run_until([&] { return refused() > before + 2; });
        admin.ask({"CONFIG", "SET", "requirepass", ""});
        one.await_answers();
    }
}

TEST_CASE("A server that answers no more is left") {
    NEEDS_REDIS();
    test::redis_server server;
    kept one(quick(server));
    one.await_answers();
    server.freeze();
    auto const begun = std::chrono::steady_clock::now();
    auto const call = std::make_shared<tidegate::redis::detail::call>();
    call->request.push("INCR", "counter");
    bool ended = false;
    tidegate::redis::detail::start(one.redis, call,
                                   std::shared_ptr<void>(nullptr, [&](void*) { ended = true; }));
    one.run_until([&] { return ended; });
    CHECK(call->failed);
    CHECK(std::chrono::steady_clock::now() - begun >= 20ms);
    server.thaw();
    one.await_answers();
}

TEST_CASE("A host that takes connections and says nothing is left, and tried again") {
    asio::io_context io;
    asio::ip::tcp::acceptor mute(io, {asio::ip::address_v4::loopback(), 0});
    std::vector<asio::ip::tcp::socket> accepted;
    boost::redis::config config;
    config.addr = {"127.0.0.1", std::to_string(mute.local_endpoint().port())};
    config.resolve_timeout = config.connect_timeout = 50ms;
    config.health_check_interval = 10ms;
    kept one(config);
    mute.non_blocking(true);
    one.run_until([&] {
        boost::system::error_code none_yet;
        auto socket = mute.accept(none_yet);
        if (!none_yet) accepted.push_back(std::move(socket));
        return accepted.size() == 3;
    });
}

TEST_CASE("A server that is never asked whether it is there is waited for") {
    NEEDS_REDIS();
    test::redis_server server;
    kept one(trusting(server));
    one.await_answers();
    auto const id = one.ask({"CLIENT", "ID"});
    server.freeze();
    auto const end = std::chrono::steady_clock::now() + 100ms;
    one.run_until([end] { return std::chrono::steady_clock::now() > end; });
    server.thaw();
    CHECK(one.ask({"CLIENT", "ID"}) == id);
    CHECK(statistic(one, "ping", "calls") < 10); // those of `await_answers`
}
