// SPDX-License-Identifier: BSL-1.0
// Jobs: run once or not at all, results to the right place, nothing lost at the end.
#include <tidegate/testing/tracking_executor.hpp>
#include <tidegate/worker_pool.hpp>

#include "support/captured_stderr.hpp"
#include "support/initiating.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_future.hpp>

#include <array>
#include <atomic>
#include <future>
#include <latch>
#include <memory>
#include <pthread.h>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace asio = boost::asio;
using tidegate::error;
using tidegate::error_code;
using tidegate::when_full;
using tidegate::worker_pool;
using options = tidegate::worker_pool_options;
namespace testing = tidegate::testing;

namespace {

// Keeps one thread of a pool busy until it is opened.
class gate {
public:
    explicit gate(worker_pool& pool) {
        REQUIRE(pool.post([this] {
            inside_.count_down();
            opened_.get_future().wait();
        }));
        inside_.wait();
    }
    void open() { opened_.set_value(); }

private:
    std::latch inside_{1};
    std::promise<void> opened_;
};

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

struct submitted {
    std::exception_ptr failure = nullptr;
    int completions = 0;
    asio::cancellation_signal signal;

    template <class Job>
    void start(worker_pool& pool, Job job) {
        pool.async_submit(std::move(job),
                          asio::bind_cancellation_slot(signal.slot(), [this](std::exception_ptr e) {
                              failure = e;
                              ++completions;
                          }));
    }
};

struct no_default {
    explicit no_default(int v) : value(std::make_unique<int>(v)) {}
    std::unique_ptr<int> value;
};

asio::awaitable<void> results(worker_pool& pool, bool& done) {
    std::string const text(100, 'x'); // does not fit into a small buffer
    auto const job = [text] { return text + "y"; };
    CHECK((co_await pool.submit(job)).size() == 101);
    auto const odd = [] { return no_default(7); };
    auto const made = co_await pool.submit(odd);
    CHECK(*made.value == 7);
    auto const nothing = [] {};
    co_await pool.submit(nothing);
    auto const fails = []() -> int { throw std::domain_error("on purpose"); };
    std::string what;
    try {
        co_await pool.submit(fails);
    } catch (std::domain_error const& e) {
        what = e.what();
    }
    CHECK(what == "on purpose");
    done = true;
}

} // namespace

TEST_CASE("results and exceptions come back to the coroutine") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(2));
    bool done = false;
    asio::co_spawn(io, results(pool, done), asio::detached);
    io.run();
    CHECK(done);
}

TEST_CASE("a job runs on the pool and its handler on its executor, not inside the call") {
    using tracking = testing::tracking_executor<asio::io_context::executor_type>;
    asio::io_context io, elsewhere;
    tracking const home(io.get_executor(), 1), away(io.get_executor(), 2),
        other(elsewhere.get_executor(), 3);
    tidegate::basic_worker_pool<tracking> pool(home, options{}.threads(1));
    std::vector<int> ran_on;
    std::atomic<int> on_loop{0};
    auto const job = [&] {
        if (tracking::current() != 0) ++on_loop;
    };
    auto const note = [&](std::exception_ptr e) {
        CHECK_FALSE(e);
        CHECK_FALSE(test::initiating());
        ran_on.push_back(tracking::current());
    };
    test::initiate([&] {
        pool.async_submit(job, note);
        pool.async_submit(job, asio::bind_executor(away, note));
        pool.async_submit(job, asio::bind_executor(other, note));
    });
    elsewhere.run();
    io.run();
    CHECK(on_loop == 0);
    std::sort(ran_on.begin(), ran_on.end());
    CHECK(ran_on == std::vector{1, 2, 3});
}

TEST_CASE("jobs start in the order in which they were submitted") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1));
    gate busy(pool);
    std::vector<int> order;
    for (int i = 0; i < 20; ++i) pool.async_submit([&, i] { order.push_back(i); }, asio::detached);
    busy.open();
    io.run();
    REQUIRE(order.size() == 20);
    CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("a full queue makes submitters wait, in order, and is never exceeded") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1).queue(2));
    gate busy(pool);
    std::vector<int> order;
    for (int i = 0; i < 6; ++i) pool.async_submit([&, i] { order.push_back(i); }, asio::detached);
    CHECK(pool.queued() == 2);
    CHECK(pool.waiting() == 4);
    CHECK_FALSE(pool.post([] {}));
    busy.open();
    io.run();
    CHECK(order == std::vector{0, 1, 2, 3, 4, 5});
}

TEST_CASE("a full queue rejects, by option") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1).queue(1).full(when_full::reject));
    gate busy(pool);
    bool first_ran = false, second_ran = false;
    submitted first, second;
    first.start(pool, [&] { first_ran = true; });
    second.start(pool, [&] { second_ran = true; });
    busy.open();
    io.run();
    CHECK(first_ran);
    CHECK_FALSE(second_ran);
    CHECK(code_of(second.failure) == error::queue_full);
    CHECK(code_of(second.failure) == tidegate::condition::rejected);
}

TEST_CASE("a full queue drops the oldest, by option") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1).queue(1).full(when_full::drop_oldest));
    gate busy(pool);
    std::atomic<int> ran{0};
    submitted first, second;
    first.start(pool, [&] { ran += 1; });
    second.start(pool, [&] { ran += 10; });
    CHECK(pool.post([&] { ran += 100; }));
    busy.open();
    io.run();
    pool.drain();
    pool.join();
    CHECK(code_of(first.failure) == error::dropped);
    CHECK(code_of(second.failure) == error::dropped);
    CHECK(ran == 100);
}

TEST_CASE("a queued or waiting job that is cancelled never runs; a running one is left alone") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1).queue(1));
    std::promise<void> go;
    std::latch running(1);
    std::atomic<int> ran{0};
    submitted runs, queued, waits, last;
    runs.start(pool, [&] {
        running.count_down();
        go.get_future().wait();
        ++ran;
    });
    running.wait();
    queued.start(pool, [&] { ran += 100; });
    waits.start(pool, [&] { ran += 100; });
    last.start(pool, [&] { ++ran; });
    runs.signal.emit(asio::cancellation_type::total);
    queued.signal.emit(asio::cancellation_type::total);
    CHECK(pool.queued() == 1); // the next one has moved up
    CHECK(pool.waiting() == 1);
    waits.signal.emit(asio::cancellation_type::total);
    go.set_value();
    io.run();
    CHECK(ran == 2);
    CHECK_FALSE(runs.failure);
    CHECK(code_of(queued.failure) == asio::error::operation_aborted);
    CHECK(code_of(waits.failure) == asio::error::operation_aborted);
    CHECK_FALSE(last.failure);
    for (auto* each : {&runs, &queued, &waits, &last}) CHECK(each->completions == 1);
}

TEST_CASE("what a detached job throws goes to the handler, and the worker lives on") {
    asio::io_context io;
    std::promise<std::string> thrown;
    std::promise<void> after; // before the pool, whose thread may still be in set_value()
    worker_pool pool(io, options{}.threads(1).on_exception([&](std::exception_ptr e) {
        try {
            std::rethrow_exception(e);
        } catch (std::exception const& x) {
            thrown.set_value(x.what());
        }
    }));
    CHECK(pool.post([] { throw std::runtime_error("detached"); }));
    CHECK(thrown.get_future().get() == "detached");
    CHECK(pool.post([&] { after.set_value(); }));
    after.get_future().wait();
}

TEST_CASE("what a detached job throws is said on stderr, unless there is somebody to tell") {
    asio::io_context io;
    test::captured_stderr const said;
    std::promise<void> after;
    worker_pool pool(io, options{}.threads(1));
    CHECK(pool.post([] { throw std::runtime_error("detached"); }));
    CHECK(pool.post([] { throw 1; }));
    CHECK(pool.post([&] { after.set_value(); }));
    after.get_future().wait();
    CHECK(said.text() == "tidegate: a detached job threw: detached\n"
                         "tidegate: a detached job threw an unknown exception\n");
}

TEST_CASE("tracked executors keep the properties that they are asked to have, or to prefer") {
    asio::io_context io;
    using asio::execution::relationship;
    auto const check = [&](auto const& tracked) {
        auto const continues = asio::prefer(tracked, relationship.continuation);
        CHECK(asio::query(continues, relationship) == relationship.continuation);
        CHECK(continues.id() == 7);
        int seen = 0;
        asio::post(continues, [&] { seen = std::decay_t<decltype(continues)>::current(); });
        io.restart();
        io.run();
        CHECK(seen == 7);
    };
    check(testing::tracking_executor(io.get_executor(), 7));
    check(testing::tracking_executor(asio::any_io_executor(io.get_executor()), 7));
}

TEST_CASE("detached jobs of any size run and are destroyed") {
    auto const alive = std::make_shared<int>(0);
    {
        asio::io_context io;
        worker_pool pool(io, options{}.threads(2));
        std::atomic<int> ran{0};
        for (int i = 0; i < 100; ++i) {
            std::array<char, 200> large{};
            while (!pool.post([&ran, alive] { ++ran; })) {
            }
            while (!pool.post([&ran, alive, large] { ran += 1 + large[3]; })) {
            }
        }
        pool.drain();
        CHECK_FALSE(pool.post([] {}));
        CHECK_FALSE(pool.is_open());
        pool.join();
        CHECK(ran == 200);
    }
    CHECK(alive.use_count() == 1);
}

TEST_CASE("drain runs what it has; close refuses what is queued") {
    for (bool const drain : {true, false}) {
        asio::io_context io;
        worker_pool pool(io, options{}.threads(1).queue(1));
        gate busy(pool);
        std::atomic<int> ran{0};
        submitted queued, waits, late;
        queued.start(pool, [&] { ++ran; });
        waits.start(pool, [&] { ++ran; });
        if (drain) pool.drain();
        else pool.close();
        late.start(pool, [&] { ++ran; });
        busy.open();
        io.run();
        pool.join();
        CHECK(ran == (drain ? 2 : 0));
        auto const expected = drain ? error_code() : error_code(error::closed);
        CHECK(code_of(queued.failure) == expected);
        CHECK(code_of(waits.failure) == expected);
        CHECK(code_of(late.failure) == error::closed);
    }
}

TEST_CASE("destroying the pool ends what is queued and waits for what runs") {
    asio::io_context io;
    std::atomic<bool> finished{false};
    submitted runs, queued;
    {
        std::latch running(1);
        worker_pool pool(io, options{}.threads(1));
        runs.start(pool, [&] {
            running.count_down();
            finished = true;
        });
        running.wait();
        queued.start(pool, [] {});
    }
    CHECK(finished);
    io.run();
    CHECK_FALSE(runs.failure);
    CHECK(runs.completions == 1);
    CHECK(queued.completions == 1);
}

TEST_CASE("destroying the context first calls no handler and leaks nothing") {
    auto const alive = std::make_shared<int>(0);
    bool called = false;
    std::unique_ptr<worker_pool> pool;
    std::promise<void> go;
    {
        std::latch running(1), finished(1); // before the context, whose end waits for the jobs
        asio::io_context io;
        pool = std::make_unique<worker_pool>(io, options{}.threads(1).queue(1));
        auto const note = [&called, alive](std::exception_ptr) { called = true; };
        pool->async_submit([&finished] { finished.count_down(); }, note); // done, not delivered
        finished.wait();
        pool->async_submit(
            [&running, &go] {
                running.count_down();
                go.get_future().wait();
            },
            note);
        running.wait();
        pool->async_submit([] {}, note); // queued
        pool->async_submit([] {}, note); // waiting
        go.set_value();
    }
    CHECK_FALSE(called);
    CHECK(alive.use_count() == 1);
    CHECK_FALSE(pool->is_open());
    pool.reset();
}

TEST_CASE("every worker submitting to its own full pool does not deadlock") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(2).queue(1));
    std::latch all_inside(2);
    std::atomic<int> inner{0};
    for (int i = 0; i < 2; ++i) {
        auto outer = [&] {
            all_inside.arrive_and_wait();
            for (int k = 0; k < 10; ++k) pool.async_submit([&] { ++inner; }, asio::detached);
        };
        pool.async_submit(outer, asio::detached);
    }
    io.run();
    CHECK(inner == 20);
}

TEST_CASE("a handler that throws leaves the other results deliverable") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1));
    int delivered = 0;
    for (int i = 0; i < 10; ++i) {
        pool.async_submit([] {},
                          [&, i](std::exception_ptr) {
                              ++delivered;
                              if (i == 3) throw std::runtime_error("handler");
                          });
    }
    CHECK_THROWS_AS(io.run(), std::runtime_error);
    io.restart();
    io.run();
    CHECK(delivered == 10);
}

TEST_CASE("use_future works and strands are respected") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1));
    auto future = pool.async_submit([] { return 5; }, asio::use_future);
    auto strand = asio::make_strand(io);
    bool on_strand = false;
    pool.async_submit([] {}, asio::bind_executor(strand, [&](std::exception_ptr) {
                          on_strand = strand.running_in_this_thread();
                      }));
    io.run();
    CHECK(future.get() == 5);
    CHECK(on_strand);
}

#if defined(__linux__)
TEST_CASE("threads carry the pool's name") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1).name("decoder"));
    std::string name;
    pool.async_submit(
        [&] {
            char buffer[16];
            pthread_getname_np(pthread_self(), buffer, sizeof buffer);
            name = buffer;
        },
        asio::detached);
    io.run();
    CHECK(name == "decoder-0");
}
#endif

TEST_CASE("bad options are refused with name, value and range") {
    CHECK_THROWS_AS(options{}.threads(0), std::invalid_argument);
    CHECK_THROWS_AS(options{}.queue(0), std::invalid_argument);
    CHECK_THROWS_AS(options{}.spin(std::chrono::seconds(1)), std::invalid_argument);
    CHECK_THROWS_AS(options{}.patience(0), std::invalid_argument);
    CHECK_THROWS_AS(options{}.measure_every(1 << 21), std::invalid_argument);
    try {
        options{}.threads(5000);
    } catch (std::invalid_argument const& e) {
        CHECK(std::string(e.what()) ==
              "tidegate: worker_pool threads is 5000, allowed is 1 to 4096");
    }
}

TEST_CASE("random cancels: every submitter hears once, and no cancelled job runs", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 40);
        for (std::size_t round = 0; round < rounds; ++round) {
            asio::io_context io;
            worker_pool pool(io, options{}
                                     .threads(1 + test::below(random, 2))
                                     .queue(1 + test::below(random, 4))
                                     .full(static_cast<when_full>(test::below(random, 4))));
            constexpr int n = 40;
            struct job {
                std::atomic<int> runs{0};
                int completions = 0;
                error_code ec;
                asio::cancellation_signal signal;
            };
            std::vector<job> jobs(n);
            for (job& j : jobs) {
                auto const cancel_it = test::below(random, 3) == 0;
                asio::post(io, [&pool, &io, &j, cancel_it] {
                    pool.async_submit(
                        [&j] { ++j.runs; },
                        asio::bind_cancellation_slot(j.signal.slot(), [&j](std::exception_ptr e) {
                            ++j.completions;
                            j.ec = code_of(e);
                        }));
                    if (cancel_it) {
                        asio::post(io, [&j] { j.signal.emit(asio::cancellation_type::total); });
                    }
                });
            }
            io.run();
            for (job& j : jobs) {
                REQUIRE(j.completions == 1);
                REQUIRE(j.runs == (j.ec ? 0 : 1));
            }
            REQUIRE(pool.queued() + pool.waiting() == 0);
        }
    }
}
