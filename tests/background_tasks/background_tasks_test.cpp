// SPDX-License-Identifier: BSL-1.0
// Tasks by id: what is known of them, how they end, and how long they are remembered.
#include <tidegate/background_tasks.hpp>
#include <tidegate/sleep.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "support/refusing_executor.hpp"
#include "support/runs_here.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using tidegate::error;
using tidegate::task_context;
using tidegate::task_event;
using tidegate::task_id;
using tidegate::task_state;
using options = tidegate::background_tasks_options;

namespace {

struct tasks_clock {};
using clock_type = tidegate::testing::basic_manual_clock<tasks_clock>;
using registry = tidegate::basic_background_tasks<int, clock_type>;

asio::awaitable<void> pause(std::chrono::milliseconds time) {
    return tidegate::sleep_for<clock_type>(time);
}

/// A task that takes a time and results in, or throws, a number.
auto job(std::chrono::milliseconds time, int result, bool fails = false) {
    return [=, only_moved = std::make_unique<int>()](task_context& self) -> asio::awaitable<int> {
        self.progress(1, 2);
        co_await pause(time);
        if (fails) throw std::runtime_error("job " + std::to_string(result));
        self.progress(2);
        co_return result;
    };
}

std::string text_of(std::exception_ptr e) {
    try {
        if (e) std::rethrow_exception(e);
        return "";
    } catch (boost::system::system_error const& s) {
        return s.code() == asio::error::operation_aborted ? "cancelled" : s.code().message();
    } catch (std::exception const& s) {
        return s.what();
    }
}

void turn(asio::io_context& io) {
    io.restart();
    io.poll();
}

void pass(asio::io_context& io, std::chrono::milliseconds time) {
    turn(io);
    clock_type::advance(time);
    turn(io);
}

/// Runs on another one, and knows how many of it there are.
struct tracked_executor {
    asio::io_context::executor_type inner;
    static inline int copies = 0;
    struct count {
        count() noexcept { ++copies; }
        count(count const&) noexcept { ++copies; }
        count& operator=(count const&) noexcept = default;
        ~count() { --copies; }
    };
    count counted{};

    asio::execution_context& query(asio::execution::context_t) const noexcept {
        return inner.context();
    }
    static constexpr asio::execution::blocking_t::never_t query(asio::execution::blocking_t) {
        return asio::execution::blocking.never;
    }
    tracked_executor require(asio::execution::blocking_t::never_t) const { return *this; }
    template <class Function>
    void execute(Function&& f) const {
        asio::post(inner, std::forward<Function>(f));
    }
    bool operator==(tracked_executor const& other) const noexcept { return inner == other.inner; }
};

struct waited {
    std::optional<std::string> failure;
    int result = -1;

    void start(registry& tasks, task_id id) {
        tasks.async_wait(id, [this](std::exception_ptr e, std::shared_ptr<int const> r) {
            failure = text_of(e);
            if (r) result = *r;
        });
    }
};

} // namespace

TEST_CASE("a task is known from its id on, through all its states") {
    asio::io_context io{1};
    registry tasks(io);
    auto const before = clock_type::now();
    task_id const id = tasks.spawn("count", job(10ms, 42));
    CHECK(id == task_id{1});
    CHECK(tasks.live() == 1);
    auto status = tasks.status(id).value();
    CHECK(status.name == "count");
    CHECK(status.state == task_state::running);
    CHECK(status.progress == 0); // it has not been run yet
    CHECK(status.queued_at == before);
    CHECK(status.started_at == before);
    turn(io);
    status = tasks.status(id).value();
    CHECK(status.progress == 1);
    CHECK(status.progress_of == 2);
    CHECK_FALSE(tasks.result(id));
    pass(io, 10ms);
    status = tasks.status(id).value();
    CHECK(status.state == task_state::done);
    CHECK(status.ended_at == before + 10ms);
    CHECK(status.progress == 2);
    CHECK(*tasks.result(id) == 42);
    CHECK(tasks.live() == 0);
    CHECK_FALSE(tasks.status(task_id{99}));
    CHECK_FALSE(tasks.cancel(id));
    CHECK(to_string(status.state) == "done");
}

TEST_CASE("states have names, and a task knows its id") {
    CHECK(to_string(task_state::queued) == "queued");
    CHECK(to_string(task_state::running) == "running");
    CHECK(to_string(task_state::failed) == "failed");
    CHECK(to_string(task_state::cancelled) == "cancelled");
    asio::io_context io{1};
    registry tasks(io);
    task_id told;
    auto task = [&](task_context& self) -> asio::awaitable<int> {
        told = self.id();
        co_return 1;
    };
    tasks.spawn("", task);
    task_id const second = tasks.spawn("", task);
    turn(io);
    CHECK(told == second);
}

TEST_CASE("waiting gives the result or the failure, before and after the end") {
    asio::io_context io{1};
    registry tasks(io);
    task_id const good = tasks.spawn("good", job(10ms, 1));
    task_id const bad = tasks.spawn("bad", job(10ms, 2, true));
    waited first, second, none;
    first.start(tasks, good);
    second.start(tasks, bad);
    none.start(tasks, task_id{77});
    CHECK_FALSE(none.failure); // not inside the call
    pass(io, 10ms);
    CHECK(first.failure == "");
    CHECK(first.result == 1);
    CHECK(second.failure == "job 2");
    CHECK(none.failure == "not found");
    CHECK(tasks.status(bad)->state == task_state::failed);
    CHECK(text_of(tasks.status(bad)->failure) == "job 2");
    waited late;
    late.start(tasks, good);
    turn(io);
    CHECK(late.result == 1);
    int in_coroutine = 0;
    auto ask = [&]() -> asio::awaitable<void> { in_coroutine = *co_await tasks.wait(good); };
    asio::co_spawn(io, ask(), [](std::exception_ptr e) { CHECK_FALSE(e); });
    turn(io);
    CHECK(in_coroutine == 1);
}

TEST_CASE("cancelling a wait ends the wait, cancelling a task the task") {
    asio::io_context io{1};
    registry tasks(io);
    task_id const id = tasks.spawn("long", job(1h, 1));
    asio::cancellation_signal signal;
    std::string wait_ended;
    tasks.async_wait(id,
                     asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e, auto) {
                         wait_ended = text_of(e);
                     }));
    turn(io);
    signal.emit(asio::cancellation_type::total);
    turn(io);
    CHECK(wait_ended == "cancelled");
    CHECK(tasks.status(id)->state == task_state::running);
    waited w;
    w.start(tasks, id);
    CHECK(tasks.cancel(id));
    CHECK(tasks.cancel(id));
    turn(io);
    CHECK(w.failure == "cancelled");
    CHECK(tasks.status(id)->state == task_state::cancelled);
    CHECK_FALSE(tasks.cancel(id));
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("a task that is cancelled and ends otherwise is what it ended as") {
    asio::io_context io{1};
    registry tasks(io);
    auto stubborn = [](task_context&) -> asio::awaitable<int> {
        try {
            co_await pause(1h);
        } catch (...) {
        }
        co_return 5;
    };
    auto broken = [](task_context&) -> asio::awaitable<int> {
        try {
            co_await pause(1h);
        } catch (...) {
        }
        throw std::runtime_error("clean-up");
    };
    auto aborted = [](task_context&) -> asio::awaitable<int> {
        throw boost::system::system_error(asio::error::operation_aborted);
        co_return 1;
    };
    task_id const a = tasks.spawn("stubborn", stubborn);
    task_id const b = tasks.spawn("broken", broken);
    task_id const c = tasks.spawn("aborted, though nobody asked", aborted);
    turn(io);
    tasks.cancel(a);
    tasks.cancel(b);
    turn(io);
    CHECK(tasks.status(a)->state == task_state::done);
    CHECK(tasks.status(b)->state == task_state::failed);
    CHECK(tasks.status(c)->state == task_state::failed);
}

TEST_CASE("no more than max_running run at once; the others start in their order") {
    asio::io_context io{1};
    registry tasks(io, options().max_running(2));
    std::vector<task_id> ids;
    for (int i = 0; i < 5; ++i) ids.push_back(tasks.spawn("", job(10ms, i)));
    auto state = [&](std::size_t i) { return tasks.status(ids[i])->state; };
    CHECK(state(1) == task_state::running);
    CHECK(state(2) == task_state::queued);
    tasks.cancel(ids[2]);
    CHECK(state(2) == task_state::cancelled);
    CHECK(tasks.live() == 4);
    pass(io, 10ms);
    CHECK(state(0) == task_state::done);
    CHECK(state(3) == task_state::running);
    CHECK(state(4) == task_state::running);
    pass(io, 10ms);
    CHECK(state(4) == task_state::done);
    CHECK_FALSE(tasks.status(ids[2])->started_at);
}

TEST_CASE("history is bounded by count and by age; live tasks are never forgotten") {
    asio::io_context io{1};
    registry tasks(io, options().history(3).history_age(1s));
    task_id const live = tasks.spawn("live", job(1h, 0));
    for (int i = 0; i < 5; ++i) tasks.spawn("", job(0ms, i));
    turn(io);
    auto const known = tasks.list();
    REQUIRE(known.size() == 4);
    CHECK(known[0].id == live);
    CHECK(known[1].id == task_id{4});
    clock_type::advance(1s);
    CHECK(tasks.list().size() == 4);
    clock_type::advance(1ms);
    CHECK(tasks.list().size() == 1);
    CHECK_FALSE(tasks.status(task_id{6}));
    CHECK(tasks.spawn("", job(0ms, 1)) == task_id{7}); // no id comes again
    tasks.cancel_all();
    turn(io);
}

TEST_CASE("close, then wait for all") {
    asio::io_context io{1};
    registry tasks(io, options().max_running(1));
    tasks.spawn("", job(10ms, 1));
    tasks.spawn("", job(10ms, 2));
    tasks.close();
    CHECK_THROWS_WITH(tasks.spawn("", job(0ms, 1)), ContainsSubstring("closed"));
    bool over = false;
    tasks.async_wait_all([&](tidegate::error_code ec) { over = !ec; });
    pass(io, 10ms);
    CHECK_FALSE(over);
    pass(io, 10ms);
    CHECK(over);
    bool again = false;
    tasks.async_wait_all([&](tidegate::error_code ec) { again = !ec; });
    turn(io);
    CHECK(again);
}

TEST_CASE("subscribers hear of every change, in order; those that lag lose the oldest") {
    asio::io_context io{1};
    registry tasks(io, options().max_running(1));
    auto all = tasks.subscribe();
    auto few = tasks.subscribe(2);
    {
        auto gone = tasks.subscribe();
    }
    task_id const a = tasks.spawn("", job(5ms, 1));
    task_id const b = tasks.spawn("", job(5ms, 2, true));
    task_id const c = tasks.spawn("", job(5ms, 3));
    tasks.cancel(c);
    pass(io, 5ms);
    pass(io, 5ms);
    std::vector<std::pair<task_id, task_state>> seen;
    while (auto e = all.try_receive()) seen.emplace_back(e->id, e->state);
    using s = task_state;
    CHECK(seen == std::vector<std::pair<task_id, task_state>>{{a, s::queued},
                                                              {a, s::running},
                                                              {b, s::queued},
                                                              {c, s::queued},
                                                              {c, s::cancelled},
                                                              {a, s::done},
                                                              {b, s::running},
                                                              {b, s::failed}});
    CHECK(few.size() == 2);
    CHECK(few.dropped() == 6);
    CHECK(few.try_receive()->state == s::running);
}

TEST_CASE("tasks without a result") {
    asio::io_context io{1};
    tidegate::background_tasks<void> tasks(io);
    bool ran = false;
    auto task = [&](task_context&) -> asio::awaitable<void> {
        ran = true;
        co_return;
    };
    task_id const id = tasks.spawn("", task);
    bool over = false;
    tasks.async_wait(id, [&](std::exception_ptr e, auto) { over = !e; });
    turn(io);
    CHECK(ran);
    CHECK(over);
    CHECK_FALSE(tasks.result(id));
}

TEST_CASE("the registry may go first: its tasks are cancelled, and end; or the context") {
    auto const alive = std::make_shared<int>(1);
    for (bool const registry_first : {true, false}) {
        auto io = std::make_unique<asio::io_context>();
        std::optional<registry> tasks(std::in_place, *io, options().max_running(1));
        int cleaned = 0;
        auto task = [alive, &cleaned](task_context&) -> asio::awaitable<int> {
            struct clean {
                int& n;
                ~clean() { ++n; }
            } const guard{cleaned};
            co_await pause(1h);
            co_return 1;
        };
        tasks->spawn("", task);
        task_id const queued = tasks->spawn("", task);
        auto events = tasks->subscribe();
        waited w;
        w.start(*tasks, queued);
        turn(*io);
        if (registry_first) {
            tasks.reset();
            turn(*io);
            CHECK(cleaned == 1);
            CHECK(w.failure == "cancelled");
            CHECK_FALSE(events.is_open());
        }
        io.reset();
        CHECK(cleaned == 1);
        if (tasks) CHECK_FALSE(tasks->cancel(queued));
        tasks.reset();
        CHECK(alive.use_count() == 2); // `task` itself
        CHECK(clock_type::pending() == 0);
    }
}

TEST_CASE("a task that its executor does not take has failed") {
    asio::io_context io{1};
    test::refusing_executor const executor(io);
    registry tasks(asio::any_io_executor(executor), options().max_running(1));
    executor.refuse_all();
    task_id const id = tasks.spawn("", job(10ms, 1));
    executor.refuse_none();
    CHECK(tasks.status(id)->state == task_state::failed);
    CHECK(tasks.live() == 0);
    waited w;
    w.start(tasks, id);
    task_id const next = tasks.spawn("", job(10ms, 2)); // which has its place
    pass(io, 10ms);
    CHECK(w.failure == std::bad_alloc().what());
    CHECK(*tasks.result(next) == 2);
}

TEST_CASE("who waits for a task while the context goes is not called") {
    std::optional<asio::io_context> io(std::in_place, 1);
    registry tasks(*io);
    task_id const id = tasks.spawn("", job(1h, 1));
    struct asks_again {
        registry* tasks;
        task_id id;
        int* goes;
        bool* called;
        asks_again(registry& t, task_id i, int& n, bool& c)
            : tasks(&t), id(i), goes(&n), called(&c) {}
        asks_again(asks_again&& other) noexcept
            : tasks(std::exchange(other.tasks, nullptr)),
              id(other.id),
              goes(other.goes),
              called(other.called) {}
        ~asks_again() {
            if (!tasks) return;
            ++*goes;
            tasks->async_wait(id, [c = called](std::exception_ptr, auto) { *c = true; });
        }
        void operator()(std::exception_ptr, std::shared_ptr<int const>) { *called = true; }
    };
    int goes = 0;
    bool called = false;
    tasks.async_wait(id, asks_again(tasks, id, goes, called));
    turn(*io);
    io.reset();
    CHECK(goes == 1);
    CHECK_FALSE(called);
}

TEST_CASE("a result may use its registry when it goes, whoever forgets it") {
    using shared = std::shared_ptr<int>;
    asio::io_context io{1};
    tidegate::basic_background_tasks<shared, clock_type> tasks(
        io, options().history(1).history_age(1s));
    std::vector<int> gone;
    auto task = [&](int number) {
        return [&, number](task_context&) -> asio::awaitable<shared> {
            co_return shared(new int(number), [&](int* n) {
                static_cast<void>(tasks.list());
                gone.push_back(*n);
                delete n;
            });
        };
    };
    tasks.spawn("", task(1));
    turn(io);
    tasks.spawn("", task(2));
    CHECK(gone.empty());
    turn(io);
    CHECK(gone == std::vector{1}); // one too many had ended
    clock_type::advance(2s);
    CHECK(tasks.list().empty());
    CHECK(gone == std::vector{1, 2});
    tasks.spawn("", task(3));
    turn(io);
    clock_type::advance(2s);
    tasks.spawn("", task(4));
    CHECK(gone == std::vector{1, 2, 3});
    turn(io);
    clock_type::advance(2s);
    static_cast<void>(tasks.list());
    CHECK(gone == std::vector{1, 2, 3, 4});
}

TEST_CASE("spawn returns before the task runs, also where tasks run") {
    auto const in_turn = GENERATE(true, false);
    asio::io_context io{in_turn ? 1 : 2};
    asio::any_io_executor executor = io.get_executor();
    if (!in_turn) executor = asio::make_strand(io);
    registry tasks(executor, options().max_running(in_turn ? 1 : 100));
    bool in_spawn = false;
    int ran = 0, ran_in_spawn = 0;
    std::function<asio::awaitable<int>(task_context&)> spawns_next;
    spawns_next = [&](task_context&) -> asio::awaitable<int> {
        ran_in_spawn += in_spawn;
        if (++ran < 5) {
            in_spawn = true;
            tasks.spawn("", spawns_next);
            in_spawn = false;
        }
        co_return ran;
    };
    asio::post(executor, [&] {
        in_spawn = true;
        tasks.spawn("", spawns_next);
        in_spawn = false;
    });
    turn(io);
    CHECK(ran == 5);
    CHECK(ran_in_spawn == 0);
}

TEST_CASE("queued tasks that were cancelled are forgotten, though nothing ever runs on") {
    tracked_executor::copies = 0;
    asio::io_context io{1};
    registry tasks(tracked_executor{io.get_executor()}, options().max_running(1).history(10));
    tasks.spawn("stuck", job(1h, 1));
    turn(io);
    int most = 0;
    for (int i = 0; i < 1000; ++i) {
        tasks.cancel(tasks.spawn("", job(0ms, 1)));
        most = std::max(most, tracked_executor::copies);
    }
    CHECK(tasks.list().size() == 11);
    CHECK(most < 200); // a few for each that is known
    // One from the middle goes alone.
    std::vector<task_id> ids;
    for (int i = 0; i < 3; ++i) ids.push_back(tasks.spawn("", job(0ms, i)));
    CHECK(tasks.cancel(ids[1]));
    CHECK(tasks.live() == 3);
    tasks.cancel(task_id{1});
    turn(io);
    pass(io, 1ms);
    CHECK(tasks.status(ids[0])->state == task_state::done);
    CHECK(tasks.status(ids[1])->state == task_state::cancelled);
    CHECK(tasks.status(ids[2])->state == task_state::done);
}

TEST_CASE("a result that cannot be moved makes a task that failed") {
    struct immovable {
        immovable() = default; // Asio makes one when a task failed
        immovable(int& moves, int most) : left(&moves) { moves = most; }
        immovable(immovable&& other) : left(other.left) {
            if (left && (*left)-- == 0) throw std::runtime_error("no move");
        }
        int* left = nullptr;
    };
    asio::io_context io{1};
    tidegate::background_tasks<immovable> tasks(io, options().max_running(1));
    int left = 0;
    int failed = 0, done = 0;
    for (int most = 0; most < 10; ++most) { // wherever it is moved
        auto task = [&, most](task_context&) -> asio::awaitable<immovable> {
            co_return immovable(left, most);
        };
        task_id const id = tasks.spawn("", task);
        std::string waited;
        tasks.async_wait(id, [&](std::exception_ptr e, auto) {
            waited = text_of(e);
            ++(e ? failed : done);
        });
        REQUIRE_NOTHROW(turn(io));
        auto const state = tasks.status(id)->state;
        CHECK(((state == task_state::failed && waited == "no move") ||
               (state == task_state::done && waited.empty())));
    }
    CHECK(failed > 0);
    CHECK(done > 0);
}

TEST_CASE("a hundred thousand live tasks") {
    asio::io_context io{1};
    registry tasks(io, options().max_running(1));
    std::vector<task_id> ids;
    for (int i = 0; i < 100'000; ++i) ids.push_back(tasks.spawn("", job(0ms, i)));
    CHECK(tasks.live() == 100'000);
    CHECK(tasks.status(ids[77'777])->state == task_state::queued);
    tasks.cancel_all();
    turn(io);
    CHECK(tasks.live() == 0);
    CHECK(tasks.list().size() == 1000);
}

TEST_CASE("random schedules: every task ends in one state, and every wait once", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t i = 0; i < test::schedules() / 2; ++i) {
            asio::io_context io{1};
            registry tasks(io, options().max_running(1 + test::below(random, 3)));
            auto events = tasks.subscribe(1000);
            std::map<task_id, bool> asked;
            std::map<task_id, std::pair<int, std::string>> waits;
            std::map<task_id, bool> fails;
            bool elsewhere = false;
            for (std::size_t step = 0; step < 12; ++step) {
                switch (test::below(random, 4)) {
                case 0:
                case 1: {
                    bool const failing = test::below(random, 4) == 0;
                    auto const time =
                        std::chrono::milliseconds(static_cast<int>(test::below(random, 3)));
                    task_id const id = tasks.spawn("", job(time, 3, failing));
                    fails[id] = failing;
                    waits[id];
                    tasks.async_wait(id, [&, id](std::exception_ptr e, auto) {
                        elsewhere |= !io.get_executor().running_in_this_thread();
                        ++waits[id].first;
                        waits[id].second = text_of(e);
                    });
                    break;
                }
                case 2: pass(io, 1ms); break;
                case 3: {
                    task_id const id{1 + test::below(random, 8)};
                    if (tasks.cancel(id)) asked[id] = true;
                    break;
                }
                }
            }
            for (int n = 0; n < 60 && tasks.live() > 0; ++n) pass(io, 1ms);
            turn(io);
            REQUIRE(tasks.live() == 0);
            REQUIRE_FALSE(elsewhere);
            std::map<task_id, std::vector<task_state>> seen;
            while (auto e = events.try_receive()) seen[e->id].push_back(e->state);
            for (auto const& [id, wait] : waits) {
                auto const status = tasks.status(id).value();
                REQUIRE(has_ended(status.state));
                REQUIRE(wait.first == 1);
                std::string const expected = status.state == task_state::cancelled ? "cancelled"
                                             : status.state == task_state::failed  ? "job 3"
                                                                                   : "";
                REQUIRE(wait.second == expected);
                if (status.state == task_state::cancelled) REQUIRE(asked[id]);
                else REQUIRE((status.state == task_state::failed) == fails[id]);
                auto const& states = seen[id];
                REQUIRE(states.front() == task_state::queued);
                REQUIRE(states.back() == status.state);
                REQUIRE(std::ranges::count_if(states, [](auto s) { return has_ended(s); }) == 1);
            }
        }
    }
}

TEST_CASE("many threads spawn, cancel, look up and wait", "[stress]") {
    std::atomic<bool> elsewhere{false};
    asio::io_context io;
    auto work = asio::make_work_guard(io);
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) threads.emplace_back([&] { io.run(); });
    {
        auto const strand = asio::make_strand(io);
        tidegate::background_tasks<int> tasks(io, options().max_running(3));
        std::atomic<int> waits{0};
        auto use = [&](int seed) {
            test::random random(static_cast<std::uint64_t>(seed));
            for (int i = 0; i < 300; ++i) {
                auto task = [&](task_context& self) -> asio::awaitable<int> {
                    auto const here = co_await asio::this_coro::executor;
                    for (int n = 0; n < 3; ++n) {
                        self.progress(n);
                        co_await asio::post(asio::deferred);
                        if (!test::runs_here(here)) elsewhere = true;
                    }
                    co_return 1;
                };
                task_id const id = tasks.spawn("", task);
                auto ended = [&](std::exception_ptr, auto) {
                    if (!strand.running_in_this_thread()) elsewhere = true;
                    ++waits;
                };
                tasks.async_wait(id, asio::bind_executor(strand, ended));
                if (test::below(random, 3) == 0)
                    tasks.cancel(task_id{1 + test::below(random, id.value)});
                if (auto const s = tasks.status(id)) {
                    if (s->progress < 0 || s->progress > 2) std::abort();
                }
            }
        };
        std::vector<std::thread> users;
        for (int i = 0; i < 2; ++i) users.emplace_back(use, i);
        for (auto& user : users) user.join();
        std::atomic<bool> over{false};
        tasks.async_wait_all([&](tidegate::error_code) { over = true; });
        while (!over || waits < 600) std::this_thread::yield();
        CHECK(tasks.live() == 0);
    }
    work.reset();
    for (auto& thread : threads) thread.join();
    CHECK_FALSE(elsewhere);
}
