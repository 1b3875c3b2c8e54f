// SPDX-License-Identifier: BSL-1.0
// A connection is kept, whatever the server says to whoever asks whether it is there.
#include "redis/redis_server.hpp"
#include "redis/support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/ip/tcp.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
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
    explicit kept(boost::redis::config const& config, std::chrono::nanoseconds pause = 10ms)
        : redis(std::make_shared<boost::redis::connection>(io)) {
        asio::co_spawn(io, tidegate::redis::keep_connected(redis, config, pause),
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
    /// Whether a request fails that is not to wait for a connection, without further ado.
    bool fails() {
        auto const call = std::make_shared<tidegate::redis::detail::call>();
        call->request.push("PING");
        bool ended = false;
        tidegate::redis::detail::start(
            redis, call, std::shared_ptr<void>(nullptr, [&](void*) { ended = true; }));
        io.restart();
        for (int i = 0; i < 10; ++i) io.poll();
        bool const failed = ended && call->failed;
        run_until([&] { return ended; });
        return failed;
    }
    void run_for(std::chrono::steady_clock::duration time) {
        auto const end = std::chrono::steady_clock::now() + time;
        run_until([end] { return std::chrono::steady_clock::now() > end; });
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

/// How often the server has let nobody in.
long refusals(kept& admin) {
    return statistic(admin, "hello", "failed_calls") + statistic(admin, "hello", "rejected_calls");
}

} // namespace

TEST_CASE("A server that is too busy to answer checks, and says so, is kept") {
    NEEDS_REDIS();
    test::redis_server server;
    kept admin(trusting(server));
    kept slow(trusting(server));
    auto config = quick(server);
    config.health_check_interval = 50ms; // a busy machine answers within twice that
    kept one(config);
    for (kept* each : {&admin, &slow, &one}) each->await_answers();
    admin.ask({"CONFIG", "SET", "busy-reply-threshold", "1"});
    auto const id = one.ask({"CLIENT", "ID"});

    long own = 0; // of those that it answers so
    do {
        auto const endless = std::make_shared<tidegate::redis::detail::call>();
        endless->request.push("EVAL", "while true do end", 0);
        bool killed = false;
        tidegate::redis::detail::start(
            slow.redis, endless, std::shared_ptr<void>(nullptr, [&](void*) { killed = true; }));
        slow.io.restart();
        slow.io.poll();
        one.run_until([&] { return one.ask({"PING"}).starts_with("BUSY"); });
        ++own;
        one.run_for(200ms); // for four checks
        admin.ask({"SCRIPT", "KILL"});
        slow.run_until([&] { return killed; });
    } while (statistic(admin, "ping", "rejected_calls") <= own + 1);

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
        long const before = refusals(admin);
        one.run_until([&] { return refusals(admin) > before + 2; });
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
    one.run_for(100ms);
    server.thaw();
    CHECK(one.ask({"CLIENT", "ID"}) == id);
    CHECK(statistic(one, "ping", "calls") < 10); // those of `await_answers`
}

TEST_CASE("A refused HELLO harms nobody when a database is selected as well") {
    NEEDS_REDIS();
    test::redis_server server;
    kept admin(trusting(server));
    admin.await_answers();
    admin.ask({"ACL", "SETUSER", "somebody", "on", ">right", "+@all", "~*"});
    auto config = quick(server);
    config.username = "somebody";
    config.password = "wrong"; // and the default user may select a database without one
    config.database_index = 3;
    kept one(config);
    one.run_until([&] { return refusals(admin) > 2; });
    admin.ask({"ACL", "SETUSER", "somebody", ">wrong"});
    one.await_answers();
    CHECK(one.ask({"CLIENT", "INFO"}).find(" db=3 ") != std::string::npos);
    CHECK(one.ask({"ACL", "WHOAMI"}) == "somebody");
}

TEST_CASE("A database that is not there is asked for again and again") {
    NEEDS_REDIS();
    test::redis_server server;
    kept admin(trusting(server));
    admin.await_answers();
    auto config = quick(server);
    config.database_index = 1000;
    kept one(config);
    one.run_until([&] { return statistic(admin, "select", "failed_calls") > 2; });
}

TEST_CASE("While a connection is not there, requests fail at once") {
    NEEDS_REDIS();
    test::redis_server server;
    kept one(server.config(), 1h);
    one.await_answers();
    server.kill();
    one.run_until([&] { return one.fails(); });
    for (int i = 0; i < 10; ++i) CHECK(one.fails());
}

TEST_CASE("Cancelled in its pause, a connection leaves nobody waiting") {
    boost::redis::config nowhere;
    nowhere.addr = {"127.0.0.1", "1"};
    asio::io_context io;
    auto const redis = std::make_shared<boost::redis::connection>(io);
    asio::cancellation_signal stop;
    bool ended = false, answered = false;
    asio::co_spawn(
        io, tidegate::redis::keep_connected(redis, nowhere, 1h),
        asio::bind_cancellation_slot(stop.slot(), [&](std::exception_ptr) { ended = true; }));
    io.run_for(50ms); // it has failed, and pauses
    boost::redis::request request;
    request.push("PING");
    redis->async_exec(request, boost::redis::ignore,
                      [&](boost::system::error_code, std::size_t) { answered = true; });
    io.restart();
    io.poll();
    CHECK((!ended && !answered));
    stop.emit(asio::cancellation_type::terminal);
    io.restart();
    io.run(); // returns: nothing is left
    CHECK((ended && answered));
}

TEST_CASE("A loop that stood still does not take it for the server's silence") {
    NEEDS_REDIS();
    test::redis_server server;
    kept one(quick(server));
    one.await_answers();
    auto const id = one.ask({"CLIENT", "ID"});
    for (int round = 0; round < 25; ++round) {
        one.run_for(15ms);
        auto const end = std::chrono::steady_clock::now() + 60ms;
        while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
    }
    CHECK(one.ask({"CLIENT", "ID"}) == id);
}

TEST_CASE("An event loop may end while a connection is at any step, and asked for things") {
    NEEDS_REDIS();
    test::redis_server server;
    auto nowhere = quick(server);
    nowhere.addr.port = "1";
    auto const ask_on = [](test::connection redis) -> asio::awaitable<void> {
        for (;;) {
            auto asking = test::ask(redis, {"PING"});
            co_await std::move(asking);
        }
    };
    for (int steps = 0; steps < 60; ++steps) {
        for (auto const& config : {quick(server), nowhere}) {
            asio::io_context io{1};
            auto redis = std::make_shared<boost::redis::connection>(io);
            asio::co_spawn(io, tidegate::redis::keep_connected(redis, config, 1ms), asio::detached);
            asio::co_spawn(io, ask_on(redis), asio::detached);
            auto const waits = std::make_shared<tidegate::redis::detail::call>();
            waits->request.push("PING");
            waits->request.get_config().cancel_if_not_connected = false;
            tidegate::redis::detail::start(redis, waits, waits);
            redis.reset();
            for (int i = 0; i < steps; ++i) io.run_one_for(1ms);
        }
    }
}
