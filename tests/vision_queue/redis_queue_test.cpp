// SPDX-License-Identifier: BSL-1.0
// The queue in Redis: who has a job, who has lost it, and what becomes of it.
#include "shared_queue.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <algorithm>
#include <map>
#include <random>
#include <set>

using namespace std::chrono_literals;
using test::quick_options;
using test::redis_server;
using test::some_job;
using test::taking;
using test::worker;
using vision::service::job_outcome;
using vision::service::job_state;
using vision::service::submitted;

namespace {

// How many entries the dead-letter stream has.
std::size_t dead_letters(const redis_server& server) {
    test::client redis(server);
    auto const said = redis.run(test::ask(redis.redis, {"XLEN", "{tidegate-vision}:dead"}));
    return std::stoul(said.at(0).value);
}

// Nothing waits, nothing is pending, nothing is delayed.
bool is_empty(const redis_server& server) {
    test::client redis(server);
    for (const char* each : {"jobs", "urgent"}) {
        auto const said =
            redis.run(test::ask(redis.redis, {"XLEN", "{tidegate-vision}:" + std::string(each)}));
        if (said.at(0).value != "0") return false;
    }
    return redis.run(test::ask(redis.redis, {"ZCARD", "{tidegate-vision}:delayed"})).at(0).value ==
           "0";
}

} // namespace

TEST_CASE("a job goes from one process to another, and its result to all") {
    NEEDS_REDIS();
    redis_server const server;
    worker front(server);
    worker back(server);
    auto wanted = some_job();
    wanted.options.every_n = 3;
    wanted.options.model = "b";
    wanted.options.confidence = 0.25F;
    wanted.options.annotate = false;
    std::string const id = front.submit(wanted);
    CHECK(front.find(id).state == job_state::queued);

    auto const taken = back.take();
    CHECK(taken.what.id == id);
    CHECK(taken.what.name == "a name");
    CHECK(taken.what.content == "content");
    CHECK(taken.what.source == "/uploads/" + id);
    CHECK(taken.what.options.text() == wanted.options.text());
    CHECK(taken.what.attempt == 1);
    CHECK(back.run(back.queue.report(taken.lease, {30, 90, 4, 12.5})));
    auto const now = front.find(id);
    CHECK(now.state == job_state::running);
    CHECK(now.frames_done == 30);
    CHECK(now.frames_total == 90);
    CHECK(now.detections == 4);
    CHECK(now.frames_per_second == 12.5);

    vision::service::job_end end{job_state::succeeded, {}, {"it \"was\" rotated"}, "result"};
    CHECK(back.run(back.queue.finish(taken.lease, end)) == job_outcome::ended);
    auto const ended = front.find(id);
    CHECK(ended.state == job_state::succeeded);
    CHECK(ended.warnings == end.warnings);
    CHECK(ended.result == "result");
    CHECK(!ended.problem);
    CHECK(ended.created <= ended.started);
    CHECK(ended.started <= ended.ended);
    CHECK(ended.version > now.version);
    CHECK(is_empty(server));
    CHECK(front.run(front.queue.are_needed({id, "result", "other"})) ==
          std::vector<bool>{false, true, false});
}

TEST_CASE("each job is taken once, by one of many workers") {
    NEEDS_REDIS();
    redis_server const server;
    worker front(server);
    std::set<std::string> wanted;
    for (int i = 0; i < 30; ++i) wanted.insert(front.submit(some_job()));
    worker one(server);
    worker two(server);
    std::set<std::string> taken;
    for (int i = 0; i < 15; ++i) {
        for (worker* const each : {&one, &two}) {
            auto const mine = each->take();
            CHECK(taken.insert(mine.what.id).second);
            CHECK(each->succeed(mine.lease) == job_outcome::ended);
        }
    }
    CHECK(taken == wanted);
    CHECK(is_empty(server));
}

TEST_CASE("who was stopped for longer than the lease is refused, and its result with it") {
    NEEDS_REDIS();
    redis_server const server;
    worker stopped(server); // while nothing of it is run
    std::string const id = stopped.submit(some_job());
    auto const old = stopped.take();
    worker other(server);
    auto const taken = other.take(); // once the lease is over
    CHECK(taken.what.id == id);
    CHECK(taken.what.attempt == 2);
    CHECK(taken.lease.fence > old.lease.fence);
    SECTION("while the other one works") {
        CHECK(!stopped.run(stopped.queue.report(old.lease, {999, {}, 0, 0})));
        CHECK(stopped.succeed(old.lease, "late") == job_outcome::lost);
        CHECK(other.find(id).frames_done == 0);
        CHECK(other.succeed(taken.lease, "right") == job_outcome::ended);
    }
    SECTION("after the other one has finished") {
        CHECK(other.succeed(taken.lease, "right") == job_outcome::ended);
        CHECK(stopped.succeed(old.lease, "late") == job_outcome::lost);
    }
    SECTION("and is told so by itself") {
        stopped.run_until([&] { return old.stop.stop_requested(); });
        CHECK(!taken.stop.stop_requested());
        CHECK(other.succeed(taken.lease, "right") == job_outcome::ended);
    }
    SECTION("whatever it wants to say") {
        CHECK(stopped.run(stopped.queue.give_back(old.lease)) == job_outcome::lost);
        CHECK(stopped.fail(old.lease, GENERATE(true, false)) == job_outcome::lost);
        CHECK(other.succeed(taken.lease, "right") == job_outcome::ended);
    }
    CHECK(other.find(id).state == job_state::succeeded);
    CHECK(other.find(id).result == "right");
    CHECK(is_empty(server));
}

TEST_CASE("a lease is renewed for as long as its worker lives") {
    NEEDS_REDIS();
    redis_server const server;
    worker mine(server);
    static_cast<void>(mine.submit(some_job()));
    auto const taken = mine.take();
    // Two ends of the queue, in one loop, so that both run.
    auto options = quick_options();
    vision::service::redis_job_queue other(mine.io.get_executor(), server.config(), options);
    test::asio::cancellation_signal end;
    bool ended = false;
    bool stolen = false;
    test::asio::co_spawn(
        mine.io, other.run(),
        test::asio::bind_cancellation_slot(end.slot(), [&](std::exception_ptr) { ended = true; }));
    test::asio::co_spawn(mine.io, other.take(),
                         [&](std::exception_ptr e, vision::service::taken_job) { stolen = !e; });
    mine.run_for(4 * options.lease);
    CHECK(!stolen);
    CHECK(!taken.stop.stop_requested());
    CHECK(mine.succeed(taken.lease) == job_outcome::ended);
    other.close();
    mine.run_for(1100ms); // the read that blocks
    end.emit(test::asio::cancellation_type::terminal);
    mine.run_until([&] { return ended; });
    CHECK(!stolen);
}

TEST_CASE("a job whose workers die again and again is given up, and put aside") {
    NEEDS_REDIS();
    redis_server const server;
    auto options = quick_options();
    options.max_crashes = 2;
    worker front(server, options);
    std::string const id = front.submit(some_job());
    for (std::uint32_t attempt = 1; attempt <= 3; ++attempt) {
        worker dies(server, options);
        CHECK(dies.take().what.attempt == attempt);
    }
    worker last(server, options);
    taking const nothing(last);
    last.run_until([&] { return is_final(last.find(id).state); });
    auto const ended = front.find(id);
    CHECK(ended.state == job_state::failed);
    REQUIRE(ended.problem);
    CHECK(ended.problem->reason == "crash");
    CHECK(!nothing.done);
    CHECK(dead_letters(server) == 1);
    CHECK(is_empty(server));
    last.queue.close();
    last.run_until([&] { return nothing.done; });
}

TEST_CASE("what may pass is tried again, later and later, apart from crashes") {
    NEEDS_REDIS();
    redis_server const server;
    auto options = quick_options();
    options.max_errors = 2;
    options.max_crashes = 1;
    worker mine(server, options);
    std::string const id = mine.submit(some_job());
    {
        worker dies(server, options);
        static_cast<void>(dies.take());
    }
    for (int i = 0; i < 2; ++i) {
        auto const taken = mine.take();
        CHECK(mine.fail(taken.lease, true) == job_outcome::again);
        CHECK(mine.fail(taken.lease, true) == job_outcome::lost); // it is not asked twice
        CHECK(mine.find(id).state == job_state::queued);
    }
    auto const last = mine.take();
    CHECK(last.what.attempt == 4);
    SECTION("until it goes well") {
        CHECK(mine.succeed(last.lease) == job_outcome::ended);
        CHECK(mine.find(id).state == job_state::succeeded);
        CHECK(!mine.find(id).problem);
        CHECK(dead_letters(server) == 0);
    }
    SECTION("or too often did not") {
        CHECK(mine.fail(last.lease, true) == job_outcome::ended);
        CHECK(mine.find(id).state == job_state::failed);
        CHECK(mine.find(id).problem->reason == "backend");
        CHECK(mine.find(id).problem->detail == "it is so");
        CHECK(dead_letters(server) == 1);
    }
    CHECK(is_empty(server));
}

TEST_CASE("what cannot pass is tried once") {
    NEEDS_REDIS();
    redis_server const server;
    worker mine(server);
    std::string const id = mine.submit(some_job());
    CHECK(mine.fail(mine.take().lease, false) == job_outcome::ended);
    CHECK(mine.find(id).state == job_state::failed);
    CHECK(mine.find(id).problem->detail == "it is so");
    CHECK(dead_letters(server) == 0);
    CHECK(is_empty(server));
}

TEST_CASE("a cancel reaches a job wherever it is") {
    NEEDS_REDIS();
    redis_server const server;
    worker front(server);
    worker back(server);
    std::string const id = front.submit(some_job());
    CHECK(!front.run(front.queue.cancel("no such job")));
    SECTION("in the line") {
        CHECK(front.run(front.queue.cancel(id))->state == job_state::cancelled);
    }
    SECTION("with a worker, which is told") {
        auto const taken = back.take();
        CHECK(front.run(front.queue.cancel(id))->state == job_state::cancelled);
        CHECK(front.find(id).state == job_state::cancelled); // at once
        back.run_until([&] { return taken.stop.stop_requested(); });
        CHECK(!back.run(back.queue.report(taken.lease, {1, {}, 0, 0})));
        CHECK(back.succeed(taken.lease) == job_outcome::ended);
    }
    SECTION("waiting for another attempt") {
        CHECK(back.fail(back.take().lease, true) == job_outcome::again);
        CHECK(front.run(front.queue.cancel(id))->state == job_state::cancelled);
    }
    SECTION("again, and after its end") {
        CHECK(front.run(front.queue.cancel(id))->state == job_state::cancelled);
        CHECK(front.run(front.queue.cancel(id))->state == job_state::cancelled);
    }
    CHECK(front.find(id).state == job_state::cancelled);
    CHECK(front.find(id).result.empty());
    CHECK(is_empty(server));
    std::string const next = front.submit(some_job());
    CHECK(back.take().what.id == next);
}

TEST_CASE("what a process gives back is taken at once, and no attempt is counted") {
    NEEDS_REDIS();
    redis_server const server;
    auto options = quick_options();
    options.lease = 1h; // nobody waits for it
    worker ends(server, options);
    std::string const id = ends.submit(some_job());
    auto const taken = ends.take();
    CHECK(ends.run(ends.queue.give_back(taken.lease)) == job_outcome::again);
    CHECK(ends.find(id).state == job_state::queued);
    worker other(server, options);
    auto const again = other.take();
    CHECK(again.what.id == id);
    CHECK(again.what.attempt == 1);
    CHECK(ends.succeed(taken.lease) == job_outcome::lost);
    CHECK(other.succeed(again.lease) == job_outcome::ended);
}

TEST_CASE("a queue that is closed takes nothing more, and holds nothing back") {
    NEEDS_REDIS();
    redis_server const server;
    worker ends(server);
    taking waiting(ends);
    taking also(ends);
    ends.run_for(50ms); // one of them reads
    ends.queue.close();
    worker front(server);
    std::string const id = front.submit(some_job()); // is delivered to the read that blocks
    ends.run_until([&] { return waiting.done && also.done; });
    CHECK(waiting.failed);
    CHECK(also.failed);
    worker other(server);
    auto const taken = other.take();
    CHECK(taken.what.id == id);
    CHECK(taken.what.attempt == 1);
}

TEST_CASE("a submission may be repeated") {
    NEEDS_REDIS();
    redis_server const server;
    worker front(server);
    auto const one = some_job();
    auto const first = front.run(front.queue.submit(one, "mine"));
    CHECK(first.what == submitted::outcome::accepted);
    SECTION("by itself, when no answer came") {
        auto const again = front.run(front.queue.submit(one, "mine"));
        CHECK(again.what == submitted::outcome::accepted);
        CHECK(again.entry->id == one.id);
    }
    SECTION("by its client, in any process") {
        worker other(server);
        auto const again = other.run(other.queue.submit(some_job(), "mine"));
        CHECK(again.what == submitted::outcome::known);
        CHECK(again.entry->id == one.id);
        auto other_content = other.run(other.queue.submit(some_job("other"), "mine"));
        CHECK(other_content.what == submitted::outcome::conflict);
        auto other_options = some_job();
        other_options.options.every_n = 2;
        CHECK(other.run(other.queue.submit(other_options, "mine")).what ==
              submitted::outcome::conflict);
    }
    CHECK(front.run(front.queue.list(10)).size() == 1);
    CHECK(front.take().what.id == one.id);
    front.run_until([&] { return front.queue.queued() == 0 && front.queue.running() == 1; });
}

TEST_CASE("a full queue says so, everywhere") {
    NEEDS_REDIS();
    redis_server const server;
    auto options = quick_options();
    options.max_queued = 2;
    worker front(server, options);
    worker other(server, options);
    static_cast<void>(front.submit(some_job()));
    static_cast<void>(front.submit(some_job()));
    CHECK(front.queue.is_full());
    CHECK(other.run(other.queue.submit(some_job(), {})).what == submitted::outcome::full);
    other.run_until([&] { return other.queue.is_full(); });
    static_cast<void>(other.take());
    CHECK(front.run(front.queue.submit(some_job(), {})).what == submitted::outcome::accepted);
}

TEST_CASE("urgent jobs come first, but every fourth is one of the others while they wait") {
    NEEDS_REDIS();
    redis_server const server;
    worker mine(server);
    for (int i = 0; i < 8; ++i) {
        auto one = some_job();
        one.options.urgent = i >= 3;
        static_cast<void>(mine.submit(one));
    }
    std::string order;
    for (int i = 0; i < 8; ++i) order += mine.take().what.options.urgent ? 'u' : 'o';
    CHECK(order == "uuuouuoo");
}

TEST_CASE("the newest jobs are listed first") {
    NEEDS_REDIS();
    redis_server const server;
    worker mine(server);
    std::string last;
    for (int i = 0; i < 3; ++i) {
        last = mine.submit(some_job());
        auto const taken = std::chrono::system_clock::now();
        mine.run_until([&] { return std::chrono::system_clock::now() > taken + 2ms; });
    }
    auto const newest = mine.run(mine.queue.list(2));
    REQUIRE(newest.size() == 2);
    CHECK(newest[0].id == last);
    CHECK(newest[0].created > newest[1].created);
}

TEST_CASE("who watches in one process sees what another one does, and the end always") {
    NEEDS_REDIS();
    redis_server const server;
    worker front(server);
    worker back(server);
    std::string const id = front.submit(some_job());
    CHECK(!front.run(front.queue.watch("no such job")));
    auto const watch = front.run(front.queue.watch(id));
    using kind = vision::service::job_event::kind;
    auto const next = [&] { return front.run(watch->receive()); };
    CHECK(next()->what == kind::snapshot);
    auto const taken = back.take();
    auto const began = next();
    CHECK(began->what == kind::progress);
    CHECK(began->state.state == job_state::running);
    back.run(back.queue.report(taken.lease, {30, {}, 0, 0}));
    CHECK(next()->state.frames_done == 30);
    back.run(back.queue.report(taken.lease, {60, {}, 0, 0}));
    CHECK(back.succeed(taken.lease) == job_outcome::ended);
    auto const last = next();
    CHECK(last->what == kind::end);
    CHECK(last->state.state == job_state::succeeded);
    CHECK(last->state.frames_done == 60);
    CHECK(!next());
    auto const late = front.run(front.queue.watch(id));
    CHECK(front.run(late->receive())->state.state == job_state::succeeded);
    CHECK(!front.run(late->receive()));
}

TEST_CASE("while Redis is away nothing is lost, and nobody waits for an answer in vain") {
    NEEDS_REDIS();
    redis_server server(redis_server::data::is_kept);
    worker mine(server);
    std::string const running = mine.submit(some_job());
    auto const taken = mine.take();
    std::string const waiting = mine.submit(some_job());
    auto const watch = mine.run(mine.queue.watch(running));
    CHECK(mine.run(watch->receive())->what == vision::service::job_event::kind::snapshot);

    server.kill();
    mine.run_until([&] { return !mine.queue.is_reachable(); });
    CHECK_THROWS_AS(mine.run(mine.queue.submit(some_job(), {})),
                    vision::service::queue_unreachable);
    CHECK_THROWS_AS(mine.run(mine.queue.find(running)), vision::service::queue_unreachable);
    CHECK(mine.run(mine.queue.report(taken.lease, {30, {}, 0, 0}))); // go on
    std::optional<job_outcome> outcome;
    test::asio::co_spawn(mine.io,
                         mine.queue.finish(taken.lease, {job_state::succeeded, {}, {}, "r"}),
                         [&](std::exception_ptr, job_outcome how) { outcome = how; });
    mine.run_for(2 * quick_options().lease);
    CHECK(!outcome);
    CHECK(!taken.stop.stop_requested());

    server.start();
    mine.run_until([&] { return outcome && mine.queue.is_reachable(); });
    CHECK(outcome == job_outcome::ended);
    auto event = mine.run(watch->receive());
    while (event->what != vision::service::job_event::kind::end) {
        event = mine.run(watch->receive());
    }
    CHECK(event->state.state == job_state::succeeded);
    CHECK(mine.take().what.id == waiting);
    CHECK(mine.find(running).attempt == 1);
}

TEST_CASE("when Redis is back, who lives keeps its jobs") {
    NEEDS_REDIS();
    redis_server server(redis_server::data::is_kept);
    worker mine(server);
    std::string const id = mine.submit(some_job());
    auto const taken = mine.take();
    server.kill();
    mine.run_for(3 * quick_options().lease);
    server.start();
    taking const also(mine); // by now the lease is long over
    mine.run_until([&] { return mine.queue.is_reachable(); });
    mine.run_for(3 * quick_options().lease);
    CHECK(!also.done);
    CHECK(!taken.stop.stop_requested());
    CHECK(mine.find(id).attempt == 1);
    CHECK(mine.succeed(taken.lease) == job_outcome::ended);
    mine.queue.close();
    mine.run_until([&] { return also.done; });
}

TEST_CASE("a Redis that lost its data is used as a new one") {
    NEEDS_REDIS();
    redis_server server;
    worker mine(server);
    static_cast<void>(mine.submit(some_job()));
    auto const taken = mine.take();
    server.kill();
    mine.run_until([&] { return !mine.queue.is_reachable(); });
    server.start();
    mine.run_until([&] { return taken.stop.stop_requested(); });
    CHECK(mine.succeed(taken.lease) == job_outcome::lost);
    std::string const next = mine.submit(some_job());
    CHECK(mine.take().what.id == next);
}

TEST_CASE("no schedule of stops, deaths and failures ends a job twice or loses one") {
    NEEDS_REDIS();
    redis_server const server;
    auto options = quick_options();
    options.lease = 100ms;
    options.max_crashes = 1000;
    options.max_errors = 1000;
    worker front(server, options);
    std::map<std::string, int> ended;
    for (int i = 0; i < 12; ++i) ended[front.submit(some_job())] = 0;
    std::mt19937_64 random(GENERATE(1U, 2U, 3U));
    std::vector<std::unique_ptr<worker>> workers;
    std::vector<std::pair<std::size_t, vision::service::taken_job>> held; // by whom
    workers.reserve(3);
    for (int i = 0; i < 3; ++i) workers.push_back(std::make_unique<worker>(server, options));
    auto const left = [&] {
        return std::ranges::count_if(ended, [](const auto& one) { return one.second == 0; });
    };
    for (int step = 0; left() > 0 && step < 2000; ++step) {
        std::size_t const who = random() % workers.size();
        worker& one = *workers[who];
        auto const chance = random() % 10;
        if (chance < 4 && held.size() < 6) {
            auto const counted = front.run(front.queue.list(100));
            if (std::ranges::any_of(counted, [](const auto& j) { return !is_final(j.state); })) {
                held.emplace_back(who, one.take());
            }
        } else if (chance < 8 && !held.empty()) {
            std::swap(held[random() % held.size()], held.back());
            auto [by, taken] = held.back();
            held.pop_back();
            auto const how = random() % 4;
            auto const outcome = how == 0 ? workers[by]->fail(taken.lease, true)
                                 : how == 1
                                     ? workers[by]->run(workers[by]->queue.give_back(taken.lease))
                                     : workers[by]->succeed(taken.lease);
            if (outcome == job_outcome::ended) ++ended[taken.what.id];
        } else if (chance == 8) { // dies
            std::erase_if(held, [&](const auto& h) { return h.first == who; });
            workers[who] = std::make_unique<worker>(server, options);
        } else {
            one.run_for(30ms); // the others are stopped for so long
        }
    }
    for (const auto& [id, times] : ended) {
        INFO(id);
        CHECK(times == 1);
        CHECK(front.find(id).state == job_state::succeeded);
    }
    CHECK(is_empty(server));
}
