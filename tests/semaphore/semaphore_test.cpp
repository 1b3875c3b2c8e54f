// SPDX-License-Identifier: BSL-1.0
// Permits: who gets them, when, and that none is lost.
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/counting_allocator.hpp>
#include <tidegate/testing/tracking_executor.hpp>

#include "support/initiating.hpp"
#include "support/sanitized.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include <future>
#include <pthread.h>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using tidegate::error;
using tidegate::error_code;
using tidegate::semaphore;
using permit = semaphore::permit;
namespace testing = tidegate::testing;

namespace {

// Acquires and remembers what came of it.
struct request {
    error_code ec = asio::error::would_block; // until it completes
    permit got;
    int completions = 0;
    asio::cancellation_signal signal;

    void start(semaphore& s, std::size_t n = 1) {
        s.async_acquire(n,
                        asio::bind_cancellation_slot(signal.slot(), [this](error_code e, permit p) {
                            ec = e;
                            got = std::move(p);
                            ++completions;
                        }));
    }
    bool waits() const { return completions == 0; }
    bool granted() const { return completions == 1 && !ec && got; }
    bool failed_with(error_code const& e) const { return completions == 1 && ec == e && !got; }
};

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("permits are taken, counted and given back") {
    asio::io_context io;
    semaphore s(io, 3);
    CHECK(s.capacity() == 3);
    {
        permit const two = s.try_acquire(2);
        CHECK(two.count() == 2);
        CHECK(s.available() == 1);
        CHECK_FALSE(s.try_acquire(2));
        permit one = s.try_acquire();
        permit moved = std::move(one);
        CHECK(moved.count() == 1);
        CHECK(one.count() == 0);
        moved = permit();
        CHECK(s.available() == 1);
    }
    CHECK(s.available() == 3);
}

TEST_CASE("a bad capacity is refused with its name, value and range") {
    asio::io_context io;
    CHECK_THROWS_AS(semaphore(io, 0), std::invalid_argument);
    try {
        semaphore s(io, 0);
    } catch (std::invalid_argument const& e) {
        std::string const what = e.what();
        CHECK(what.find("semaphore capacity is 0, allowed is 1 to") != std::string::npos);
    }
    CHECK_NOTHROW(semaphore(io, semaphore::max_capacity));
}

TEST_CASE("asking for none, or for more than there can be, is an error at once") {
    asio::io_context io;
    semaphore s(io, 2);
    CHECK_FALSE(s.try_acquire(0));
    CHECK_FALSE(s.try_acquire(3));
    request none, many;
    none.start(s, 0);
    many.start(s, 3);
    run(io);
    CHECK(none.failed_with(error::invalid_count));
    CHECK(many.failed_with(error::invalid_count));
    CHECK(s.available() == 2);
}

TEST_CASE("waiters are served in the order in which they came") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    std::vector<int> order;
    std::vector<permit> kept;
    for (int i = 0; i < 5; ++i) {
        s.async_acquire([&, i](error_code, permit) { order.push_back(i); });
    }
    held.release();
    run(io);
    CHECK(order == std::vector{0, 1, 2, 3, 4});
}

TEST_CASE("nobody overtakes a large request: neither a small one nor a try") {
    asio::io_context io;
    semaphore s(io, 3);
    permit first = s.try_acquire(2);
    request large, small;
    large.start(s, 3);
    small.start(s, 1);
    CHECK(s.available() == 1);
    CHECK_FALSE(s.try_acquire());
    run(io);
    CHECK(large.waits());
    CHECK(small.waits());
    first.release();
    run(io);
    CHECK(large.granted());
    CHECK(small.waits());
    large.got.release();
    run(io);
    CHECK(small.granted());
}

TEST_CASE("when the first waiter leaves, those behind it that fit go on") {
    asio::io_context io;
    semaphore s(io, 3);
    permit held = s.try_acquire(2);
    request large, small, next;
    large.start(s, 3);
    small.start(s, 1);
    next.start(s, 1);
    large.signal.emit(asio::cancellation_type::total);
    run(io);
    CHECK(large.failed_with(asio::error::operation_aborted));
    CHECK(small.granted());
    CHECK(next.waits());
    held.release();
    run(io);
    CHECK(next.granted());
}

TEST_CASE("a waiter is cancelled at the front, in the middle and at the back") {
    for (auto const type : {asio::cancellation_type::terminal, asio::cancellation_type::partial,
                            asio::cancellation_type::total}) {
        for (std::size_t victim = 0; victim < 3; ++victim) {
            asio::io_context io;
            semaphore s(io, 1);
            permit held = s.try_acquire();
            request r[3];
            for (request& each : r) each.start(s);
            r[victim].signal.emit(type);
            CHECK(s.waiting() == 2);
            run(io);
            CHECK(r[victim].failed_with(asio::error::operation_aborted));
            held.release();
            for (std::size_t i = 0; i < 3; ++i) {
                if (i == victim) continue;
                run(io);
                CHECK(r[i].granted());
                r[i].got.release();
            }
            CHECK(s.available() == 1);
        }
    }
}

TEST_CASE("a signal of type none does nothing") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    request r;
    r.start(s);
    r.signal.emit(asio::cancellation_type::none);
    run(io);
    CHECK(r.waits());
    held.release();
    run(io);
    CHECK(r.granted());
}

TEST_CASE("cancelling after the grant has no effect") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    request r;
    r.start(s);
    held.release(); // granted, and the handler not yet run
    r.signal.emit(asio::cancellation_type::total);
    run(io);
    CHECK(r.granted());
    r.signal.emit(asio::cancellation_type::total); // the slot is empty by now
    CHECK(r.completions == 1);
}

TEST_CASE("a signal for an operation that has ended does not touch the next one") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    request first;
    first.start(s);
    // Copies of the slot's state outlive the operation: emit into one that was granted meanwhile.
    held.release();
    request second;
    second.start(s);
    first.signal.emit(asio::cancellation_type::total);
    run(io);
    CHECK(first.granted());
    CHECK(second.waits());
    first.got.release();
    run(io);
    CHECK(second.granted());
}

TEST_CASE("cancel() completes all waiters and leaves the semaphore usable") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    request a, b, later;
    a.start(s);
    b.start(s);
    s.cancel();
    run(io);
    CHECK(a.failed_with(asio::error::operation_aborted));
    CHECK(b.failed_with(asio::error::operation_aborted));
    held.release();
    later.start(s);
    run(io);
    CHECK(later.granted());
}

TEST_CASE("close() ends waiters and later requests; permits that are out stay valid") {
    asio::io_context io;
    semaphore s(io, 2);
    permit held = s.try_acquire();
    request waits, later;
    waits.start(s, 2);
    s.close();
    s.close();
    CHECK_FALSE(s.is_open());
    later.start(s);
    run(io);
    CHECK(waits.failed_with(error::closed));
    CHECK(later.failed_with(error::closed));
    CHECK_FALSE(s.try_acquire());
    CHECK(held.count() == 1);
    held.release();
    run(io);
}

TEST_CASE("destroying the semaphore ends its waiters, and permits may outlive it") {
    asio::io_context io;
    permit outlives;
    request waits;
    {
        semaphore s(io, 2);
        outlives = s.try_acquire();
        waits.start(s, 2);
    }
    run(io);
    CHECK(waits.failed_with(error::closed));
    CHECK(outlives.count() == 1);
    outlives.release();
}

TEST_CASE("a semaphore moves with its waiters; what it held before is closed") {
    asio::io_context io;
    semaphore a(io, 1), b(io, 1);
    permit held_a = a.try_acquire(), held_b = b.try_acquire();
    request on_a, on_b;
    on_a.start(a);
    on_b.start(b);
    b = std::move(a);
    run(io);
    CHECK(on_b.failed_with(error::closed));
    CHECK(on_a.waits());
    held_a.release();
    run(io);
    CHECK(on_a.granted());
    CHECK(b.available() == 0);
}

// Contexts that go ---------------------------------------------------------------------------

TEST_CASE("destroying the context destroys waiting handlers uncalled") {
    bool called = false;
    auto const alive = std::make_shared<int>(0);
    std::optional<semaphore> s;
    permit held;
    {
        asio::io_context io;
        s.emplace(io, 1);
        held = s->try_acquire();
        s->async_acquire([&called, alive](error_code, permit) { called = true; });
        s->async_acquire_for(std::chrono::hours(1),
                             [&called, alive](error_code, permit) { called = true; });
    }
    CHECK_FALSE(called);
    CHECK(alive.use_count() == 1);
    CHECK(s->waiting() == 0);
    CHECK_FALSE(s->is_open());
    held.release();
    s.reset();
}

TEST_CASE("a coroutine that owns the semaphore it waits on does not outlive its context") {
    auto const alive = std::make_shared<int>(0);
    {
        asio::io_context io;
        auto own = std::make_shared<semaphore>(io, 1);
        auto wait_for_ever = [](std::shared_ptr<semaphore> s,
                                std::shared_ptr<int> kept) -> asio::awaitable<void> {
            auto first = co_await s->acquire();
            auto second = co_await s->acquire(); // never
            *kept = 1;
        };
        asio::co_spawn(io, wait_for_ever(own, alive), asio::detached);
        own.reset();
        io.poll();
        CHECK(alive.use_count() == 2);
    }
    CHECK(alive.use_count() == 1);
    CHECK(*alive == 0);
}

TEST_CASE("a grant whose handler is destroyed uncalled gives its permit back") {
    asio::io_context other; // the semaphore's, which lives on
    semaphore s(other, 1);
    {
        asio::io_context io;
        permit held = s.try_acquire();
        s.async_acquire(asio::bind_executor(io.get_executor(), [](error_code, permit) {}));
        held.release(); // posted to io, which never runs
        CHECK(s.available() == 0);
    }
    CHECK(s.available() == 1);
}

// Executors ----------------------------------------------------------------------------------

TEST_CASE("a handler runs on its executor, or the semaphore's, and never inside the call") {
    using tracking = testing::tracking_executor<asio::io_context::executor_type>;
    asio::io_context io;
    tracking const home(io.get_executor(), 1), away(io.get_executor(), 2);
    tidegate::basic_semaphore<std::chrono::steady_clock, tracking> s(home, 1);
    using track_permit = decltype(s)::permit;
    std::vector<int> ran_on;
    auto const note = [&](error_code, track_permit) {
        CHECK_FALSE(test::initiating());
        ran_on.push_back(tracking::current());
    };
    test::initiate([&] { s.async_acquire(note); }); // ready
    io.run();
    track_permit held = s.try_acquire();
    test::initiate([&] {
        s.async_acquire(asio::bind_executor(away, note));
        s.async_acquire(note);
        held.release();
    });
    io.restart();
    io.run();
    CHECK(ran_on == std::vector{1, 2, 1});
}

TEST_CASE("handlers of one semaphore run on several contexts and strands") {
    asio::io_context a, b;
    semaphore s(a, 1);
    permit held = s.try_acquire();
    auto strand = asio::make_strand(b);
    bool on_strand = false;
    std::thread::id ran_by;
    s.async_acquire(asio::bind_executor(strand, [&](error_code, permit) {
        on_strand = strand.running_in_this_thread();
        ran_by = std::this_thread::get_id();
    }));
    held.release();
    auto const run_b = [&] {
        b.run();
        return std::this_thread::get_id();
    };
    auto const other = std::async(std::launch::async, run_b).get();
    CHECK(on_strand);
    CHECK(ran_by == other);
}

TEST_CASE("waiting holds work on both executors") {
    asio::io_context home, away;
    semaphore s(home, 1);
    permit held = s.try_acquire();
    int done = 0;
    s.async_acquire(asio::bind_executor(away.get_executor(), [&](error_code, permit) { ++done; }));
    home.poll();
    away.poll();
    CHECK_FALSE(home.stopped());
    CHECK_FALSE(away.stopped());
    held.release();
    away.poll();
    CHECK(done == 1);
    home.poll();
    CHECK(home.stopped());
    CHECK(away.stopped());
}

TEST_CASE("a thread pool can be the executor") {
    asio::thread_pool pool(2);
    tidegate::basic_semaphore<std::chrono::steady_clock, asio::thread_pool::executor_type> s(pool,
                                                                                             1);
    auto held = s.try_acquire();
    std::promise<bool> done;
    s.async_acquire([&](error_code ec, auto) { done.set_value(!ec); });
    held.release();
    CHECK(done.get_future().get());
    pool.join();
}

TEST_CASE("rebind_executor names the same semaphore on another executor") {
    using other = semaphore::rebind_executor<asio::io_context::executor_type>::other;
    asio::io_context io;
    other s(io, 1);
    CHECK(s.get_executor() == io.get_executor());
    CHECK(s.try_acquire());
}

// Memory, exceptions, re-entrance ------------------------------------------------------------

TEST_CASE("an operation allocates from its handler and frees before the handler runs") {
    asio::io_context io;
    tidegate::basic_semaphore<std::chrono::steady_clock, asio::io_context::executor_type> s(io, 1);
    testing::allocation_counts counts;
    auto held = s.try_acquire();
    std::size_t live_in_handler = 99;
    s.async_acquire(
        asio::bind_allocator(testing::counting_allocator<>(counts),
                             [&](error_code, auto) { live_in_handler = counts.live(); }));
    CHECK(counts.live() == 1);
    held.release();
    io.run();
    CHECK(live_in_handler == 0);
    CHECK(counts.allocated == 2); // the operation, and its posting
    CHECK(counts.live() == 0);
}

TEST_CASE("a handler that throws loses nothing") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    s.async_acquire([](error_code, permit) { throw std::runtime_error("handler"); });
    request next;
    next.start(s);
    held.release();
    CHECK_THROWS_AS(io.run(), std::runtime_error);
    run(io);
    CHECK(next.granted());
}

TEST_CASE("a handler may acquire, release, cancel and close the same semaphore") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    request inner, last;
    s.async_acquire([&](error_code, permit p) {
        inner.start(s);
        last.start(s);
        p.release();
        s.try_acquire().release();
    });
    held.release();
    run(io);
    CHECK(inner.granted());
    CHECK(last.waits());
    asio::post(io, [&] { s.close(); });
    run(io);
    CHECK(last.failed_with(error::closed));
}

TEST_CASE("ten thousand waiters are woken by one release, in order") {
    constexpr std::size_t n = 10000;
    asio::io_context io;
    semaphore s(io, n);
    permit all = s.try_acquire(n);
    std::size_t next = 0;
    bool in_order = true;
    std::vector<permit> kept;
    for (std::size_t i = 0; i < n; ++i) {
        s.async_acquire([&, i](error_code, permit p) {
            in_order = in_order && i == next++;
            kept.push_back(std::move(p));
        });
    }
    all.release();
    io.run();
    CHECK(in_order);
    CHECK(kept.size() == n);
    CHECK(s.available() == 0);
}

namespace {

asio::awaitable<void> acquire_often(semaphore& s, int times, int& done) {
    for (; done < times; ++done) auto const p = co_await s.acquire();
}

void* million_acquires(void* result) {
    asio::io_context io;
    semaphore s(io, 1);
    int& done = *static_cast<int*>(result);
    asio::co_spawn(io, acquire_often(s, 1000000, done), asio::detached);
    io.run();
    return nullptr;
}

} // namespace

TEST_CASE("a million ready acquires in one coroutine fit into a stack of 256 KiB") {
    pthread_attr_t attributes;
    REQUIRE(pthread_attr_init(&attributes) == 0);
    std::size_t const stack = (test::sanitized ? 1024 : 256) * 1024; // they need more a frame
    REQUIRE(pthread_attr_setstacksize(&attributes, stack) == 0);
    pthread_t thread;
    int done = 0;
    REQUIRE(pthread_create(&thread, &attributes, &million_acquires, &done) == 0);
    REQUIRE(pthread_join(thread, nullptr) == 0);
    pthread_attr_destroy(&attributes);
    CHECK(done == 1000000);
}

TEST_CASE("an unsynchronised semaphore works on one thread") {
    asio::io_context io;
    tidegate::unsynchronized_semaphore s(io, 1);
    auto held = s.try_acquire();
    bool got = false;
    s.async_acquire([&](error_code ec, auto p) { got = !ec && p; });
    held.release();
    io.run();
    CHECK(got);
    CHECK(s.available() == 1);
}

TEST_CASE("a handler that cannot be moved is not waited for, and leaves nothing behind") {
    struct fragile {
        explicit fragile(int& n) : left(&n) {}
        fragile(fragile const&) = delete;
        fragile(fragile&& other) : left(other.left) {
            if ((*left)-- == 0) throw std::range_error("no move");
        }
        void operator()(error_code, semaphore::permit) { *left = -100; }
        int* left;
    };
    bool failed = true;
    for (int moves = 0; failed; ++moves) {
        asio::io_context io;
        semaphore s(io, 1);
        auto held = s.try_acquire();
        int left = moves;
        failed = false;
        try {
            s.async_acquire(fragile(left));
        } catch (std::range_error const&) {
            failed = true;
        }
        CHECK(s.waiting() == (failed ? 0u : 1u));
        left = -1; // from now on it can
        held.release();
        io.poll();
        CHECK((left == -100) == !failed);
        CHECK(s.available() == 1);
    }
}
