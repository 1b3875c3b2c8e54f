// SPDX-License-Identifier: BSL-1.0
// One run, whoever asks and however they leave.
#include <tidegate/semaphore.hpp>
#include <tidegate/single_flight.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_future.hpp>

#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;

namespace {

struct flight_tag;
using test_clock = tidegate::testing::basic_manual_clock<flight_tag>;
template <class V>
using flights_of = tidegate::basic_single_flight<std::string, V, std::hash<std::string>,
                                                 std::equal_to<std::string>, test_clock>;

error_code code_of(std::exception_ptr e) {
    if (!e) return {};
    try {
        std::rethrow_exception(e);
    } catch (boost::system::system_error const& s) {
        return s.code();
    } catch (...) {
        return asio::error::fault;
    }
}

// What became of one caller.
template <class V>
struct caller {
    asio::cancellation_signal signal;
    bool done = false;
    error_code failure;
    tidegate::shared_value<V> value{};

    auto handler() {
        return asio::bind_cancellation_slot(
            signal.slot(), [this](std::exception_ptr e, tidegate::shared_value<V> v) {
                done = true;
                failure = code_of(e);
                value = std::move(v);
            });
    }
    void cancel() { signal.emit(asio::cancellation_type::all); }
};

// Runs go on when it is opened.
class gate {
public:
    explicit gate(asio::io_context& io) : permits_(io, 100), shut_(permits_.try_acquire(100)) {}

    asio::awaitable<void> pass() {
        ++entered;
        error_code ec;
        auto const passed =
            co_await permits_.async_acquire(1, asio::redirect_error(asio::deferred, ec));
        if (ec) ++cancelled;
    }
    void open() { shut_.release(); }

    int entered = 0;
    int cancelled = 0;

private:
    tidegate::semaphore permits_;
    tidegate::semaphore::permit shut_;
};

} // namespace

TEST_CASE("all who ask while a run goes on get its result") {
    asio::io_context io;
    flights_of<int> flights(io);
    gate g(io);
    auto run = [&]() -> asio::awaitable<int> {
        co_await g.pass();
        co_return 7;
    };
    caller<int> a, b;
    flights.async_run("k", run, a.handler());
    flights.async_run("k", run, b.handler());
    io.poll();
    CHECK(g.entered == 1);
    CHECK(flights.running() == 1);
    CHECK(flights.waiting() == 2);
    g.open();
    io.restart();
    io.poll();
    CHECK(a.value == 7);
    CHECK(b.value == 7);
    CHECK(flights.running() == 0);
    CHECK(io.stopped());
}

TEST_CASE("ten thousand callers on eight contexts cause one run, and resume where they belong") {
    asio::io_context home;
    tidegate::single_flight<int, std::string> flights(home);
    std::atomic<int> runs{0}, right{0}, at_home{0};
    std::vector<std::unique_ptr<asio::io_context>> contexts;
    for (int i = 0; i < 8; ++i) contexts.push_back(std::make_unique<asio::io_context>());
    std::atomic<int> asked{0};
    auto run = [&]() -> asio::awaitable<std::string> {
        ++runs;
        auto const here = co_await asio::this_coro::executor;
        while (asked < 10000) co_await asio::post(here, asio::deferred);
        co_return "value";
    };
    auto ask = [&](asio::io_context& own) -> asio::awaitable<void> {
        ++asked;
        auto const got = co_await flights.run(1, run);
        if (*got == "value") ++right;
        if (own.get_executor().running_in_this_thread()) ++at_home;
    };
    for (int i = 0; i < 10000; ++i) {
        auto& own = *contexts[static_cast<std::size_t>(i) % 8];
        asio::co_spawn(own, ask(own), asio::detached);
    }
    auto keep = asio::make_work_guard(home);
    std::vector<std::jthread> threads;
    threads.emplace_back([&] { home.run(); });
    {
        std::vector<std::jthread> own;
        for (auto& c : contexts) own.emplace_back([&c] { c->run(); });
    }
    keep.reset();
    threads.clear();
    CHECK(runs == 1);
    CHECK(right == 10000);
    CHECK(at_home == 10000);
}

TEST_CASE("a caller that is cancelled leaves alone") {
    asio::io_context io;
    flights_of<int> flights(io);
    gate g(io);
    auto run = [&]() -> asio::awaitable<int> {
        co_await g.pass();
        co_return 7;
    };
    caller<int> first, second;
    flights.async_run("k", run, first.handler());
    flights.async_run("k", run, second.handler());
    io.poll();
    first.cancel();
    io.poll();
    CHECK(first.failure == asio::error::operation_aborted);
    CHECK_FALSE(second.done);
    CHECK(g.cancelled == 0);
    g.open();
    io.poll();
    CHECK(second.value == 7);
}

TEST_CASE("the last to leave cancels the run, and nobody joins that") {
    asio::io_context io;
    flights_of<int> flights(io);
    gate g(io);
    int runs = 0;
    auto run = [&]() -> asio::awaitable<int> {
        int const mine = ++runs;
        co_await g.pass();
        co_return mine;
    };
    caller<int> first, second;
    flights.async_run("k", run, first.handler());
    io.poll();
    first.cancel();
    // Before the run has heard of it.
    flights.async_run("k", run, second.handler());
    CHECK(flights.running() == 1);
    io.restart();
    io.poll();
    CHECK(first.failure == asio::error::operation_aborted);
    CHECK(g.cancelled == 1);
    CHECK(runs == 2);
    g.open();
    io.restart();
    io.poll();
    CHECK(second.value == 2);
}

TEST_CASE("a coroutine that was cancelled before it began hears of it") {
    asio::io_context io;
    auto const executor = asio::make_strand(asio::any_io_executor(io.get_executor()));
    gate g(io);
    auto const task = std::make_shared<tidegate::detail::side_task>(executor);
    bool ended = false;
    task->cancel();
    task->start(g.pass(), [&](std::exception_ptr) { ended = true; });
    io.poll();
    CHECK(g.entered == 1);
    CHECK(g.cancelled == 1);
    CHECK(ended);
}

TEST_CASE("a run may be kept though nobody waits, and be joined") {
    asio::io_context io;
    flights_of<int> flights(io, tidegate::single_flight_options{}.keep_running(true));
    gate g(io);
    auto run = [&]() -> asio::awaitable<int> {
        co_await g.pass();
        co_return 7;
    };
    caller<int> first, second;
    flights.async_run("k", run, first.handler());
    io.poll();
    first.cancel();
    flights.async_run("k", run, second.handler());
    io.poll();
    CHECK(g.entered == 1);
    CHECK(g.cancelled == 0);
    g.open();
    io.poll();
    CHECK(second.value == 7);
}

TEST_CASE("what a run throws fails each caller once, and is forgotten before they are told") {
    asio::io_context io;
    flights_of<int> flights(io);
    int runs = 0;
    auto run = [&]() -> asio::awaitable<int> {
        if (++runs == 1) throw std::domain_error("first"); // before it is suspended
        co_return runs;
    };
    auto plain = [&]() -> asio::awaitable<int> { return run(); };
    int failures = 0, right = 0;
    auto ask = [&]() -> asio::awaitable<void> {
        for (int i = 0; i < 2; ++i) {
            try {
                auto const got = co_await flights.run("k", plain);
                if (*got == 2) ++right;
            } catch (std::domain_error const&) {
                ++failures;
            }
        }
    };
    for (int i = 0; i < 10; ++i) asio::co_spawn(io, ask(), asio::detached);
    io.run();
    CHECK(failures == 10);
    CHECK(runs >= 2);
    CHECK(runs <= 3); // the second round may come in two groups
}

TEST_CASE("a run that hangs frees its key at the time limit, and its late result is dropped") {
    asio::io_context io;
    flights_of<int> flights(io, tidegate::single_flight_options{}.time_limit(5s));
    gate g(io);
    int runs = 0;
    auto deaf = [&]() -> asio::awaitable<int> {
        co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        int const mine = ++runs;
        co_await g.pass();
        co_return mine;
    };
    caller<int> first, second;
    flights.async_run("k", deaf, first.handler());
    io.poll();
    test_clock::advance(4999ms);
    io.poll();
    CHECK_FALSE(first.done);
    test_clock::advance(1ms);
    io.poll();
    CHECK(first.failure == error::deadline_exceeded);
    CHECK(flights.running() == 0);
    flights.async_run("k", deaf, second.handler());
    io.poll();
    CHECK(g.entered == 2);
    g.open();
    io.poll();
    CHECK(second.value == 2);
    CHECK(io.stopped());
}

TEST_CASE("those who waited when a key was forgotten get the old result, the others a new one") {
    asio::io_context io;
    flights_of<int> flights(io);
    gate g(io);
    int runs = 0;
    auto run = [&]() -> asio::awaitable<int> {
        int const mine = ++runs;
        co_await g.pass();
        co_return mine;
    };
    caller<int> before, after;
    flights.async_run("k", run, before.handler());
    flights.forget("k");
    flights.async_run("k", run, after.handler());
    CHECK(flights.running() == 2);
    io.poll();
    g.open();
    io.poll();
    CHECK(before.value == 1);
    CHECK(after.value == 2);
}

TEST_CASE("a run that asks for its own key gets an error, also by way of others") {
    asio::io_context io;
    tidegate::single_flight<int, int> flights(io);
    tidegate::single_flight<int, int> others(io);
    error_code own, circle;
    auto run_itself = [&](int key) -> asio::awaitable<int> {
        auto again = [&]() -> asio::awaitable<int> { co_return 0; };
        auto const got = co_await flights.run(key, again);
        co_return *got;
    };
    auto ask_itself = [&]() -> asio::awaitable<void> {
        try {
            co_await flights.run(1, run_itself);
        } catch (boost::system::system_error const& e) {
            own = e.code();
        }
    };
    // 2 asks for 3 of the others, which asks for 2, inside a branch of its own.
    std::function<asio::awaitable<int>(int)> back = [&](int) -> asio::awaitable<int> {
        using namespace asio::experimental::awaitable_operators;
        auto unused = [](int) -> asio::awaitable<int> { co_return 0; };
        auto const here = co_await asio::this_coro::executor;
        auto const got = co_await (flights.run(2, unused) && asio::post(here, asio::use_awaitable));
        co_return *got;
    };
    auto forth = [&](int) -> asio::awaitable<int> {
        auto const got = co_await others.run(3, back);
        co_return *got;
    };
    auto ask_in_a_circle = [&]() -> asio::awaitable<void> {
        try {
            co_await flights.run(2, forth);
        } catch (boost::system::system_error const& e) {
            circle = e.code();
        }
    };
    asio::co_spawn(io, ask_itself(), asio::detached);
    asio::co_spawn(io, ask_in_a_circle(), asio::detached);
    io.run();
    CHECK(own == error::recursive_load);
    CHECK(circle == error::recursive_load);
    CHECK(flights.running() == 0);
}

TEST_CASE("closing fails those who wait and cancels the runs") {
    asio::io_context io;
    gate g(io);
    caller<int> waiting, late;
    auto run = [&]() -> asio::awaitable<int> {
        co_await g.pass();
        co_return 7;
    };
    flights_of<int> flights(io);
    flights.async_run("k", run, waiting.handler());
    io.poll();
    flights.close();
    flights.async_run("k", run, late.handler());
    io.poll();
    CHECK(waiting.failure == error::closed);
    CHECK(late.failure == error::closed);
    CHECK(g.cancelled == 1);
    CHECK(io.stopped());
}

TEST_CASE("when the context of a run is destroyed, those who wait elsewhere are told") {
    asio::io_context io;
    auto other = std::make_unique<asio::io_context>();
    flights_of<int> flights(io, tidegate::single_flight_options{}.run_on(other->get_executor()));
    caller<int> waiting;
    auto run = []() -> asio::awaitable<int> { co_return 7; };
    flights.async_run("k", run, waiting.handler());
    SECTION("before it began") {}
    SECTION("while it ran") {
        gate g(*other);
        auto slow = [&]() -> asio::awaitable<int> {
            co_await g.pass();
            co_return 7;
        };
        caller<int> slow_one;
        flights.async_run("slow", slow, slow_one.handler());
        other->poll();
        other.reset();
        io.poll();
        CHECK(slow_one.failure == error::closed);
        return;
    }
    other.reset();
    io.poll();
    CHECK(waiting.failure == error::closed);
    CHECK(flights.running() == 0);
}

TEST_CASE("a context that is destroyed with runs and callers leaks nothing") {
    auto io = std::make_unique<asio::io_context>();
    auto alive = std::make_shared<int>(1);
    auto flights = std::make_unique<flights_of<int>>(*io);
    auto g = std::make_unique<gate>(*io);
    {
        auto run = [&g, alive]() -> asio::awaitable<int> {
            co_await g->pass();
            co_return *alive;
        };
        flights->async_run("k", run, [alive](std::exception_ptr, std::optional<int>) {});
    }
    io->poll();
    SECTION("the context first") {}
    SECTION("the object first") { flights.reset(); }
    g.reset(); // the gate's timer belongs to the context
    io.reset();
    CHECK(alive.use_count() == 1);
}
