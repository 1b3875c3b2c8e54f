// SPDX-License-Identifier: BSL-1.0
// Random schedules of items that end, fail and are cancelled; and many threads.
#include <tidegate/parallel.hpp>

#include "support/runs_here.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_future.hpp>

#include <atomic>
#include <exception>
#include <functional>
#include <latch>
#include <ranges>
#include <stdexcept>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using tidegate::on_error;
using tidegate::parallel_for_each;
using tidegate::parallel_map;

namespace {

/// What the items of one schedule do, and what was seen of them.
struct schedule {
    explicit schedule(test::random& r) : random(r) {
        items = test::below(random, 12);
        limit = 1 + test::below(random, 5);
        for (std::size_t i = 0; i < items; ++i) {
            steps.push_back(test::below(random, 4));
            fails.push_back(test::below(random, 8) == 0);
        }
        cancel_after = test::below(random, 3) == 0 ? test::below(random, 12) : 1000;
    }

    asio::awaitable<std::size_t> run(std::size_t i) {
        REQUIRE(++started[i] == 1);
        REQUIRE(++running <= limit);
        REQUIRE_FALSE(failed); // nothing starts once a failure is known
        struct leave {
            std::size_t& n;
            ~leave() { --n; }
        } const guard{running};
        for (std::size_t n = 0; n < steps[i]; ++n) co_await asio::post(asio::deferred);
        if (fails[i]) {
            failed = stops;
            throw std::runtime_error("failed");
        }
        co_return i;
    }

    test::random& random;
    std::size_t items, limit, cancel_after;
    bool stops = true;
    std::vector<std::size_t> steps;
    std::vector<bool> fails;
    std::vector<int> started = std::vector<int>(12);
    std::size_t running = 0;
    bool failed = false;
};

/// Whether all that called `note` was where it belongs.
class whereabouts {
public:
    void note(asio::any_io_executor const& executor) {
        if (!test::runs_here(executor)) elsewhere_ = true;
    }
    /// `work`, whose caller has to go on where it was.
    template <class T>
    asio::awaitable<T> watch(asio::awaitable<T> work) {
        auto const executor = co_await asio::this_coro::executor;
        struct on_exit {
            whereabouts& all;
            asio::any_io_executor const& executor;
            ~on_exit() { all.note(executor); }
        } const guard{*this, executor};
        co_return co_await std::move(work);
    }
    bool elsewhere() const { return elsewhere_; }

private:
    std::atomic<bool> elsewhere_ = false;
};

/// Runs one schedule; how often the caller was resumed, and whether it got results.
template <on_error mode>
void play(schedule& s) {
    s.stops = mode == on_error::stop;
    asio::io_context io{1};
    asio::cancellation_signal signal;
    int ended = 0;
    auto f = [&s](std::size_t i) { return s.run(i); };
    asio::co_spawn(
        io, parallel_map<mode>(std::views::iota(std::size_t{0}, s.items), s.limit, f),
        asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e, auto results) {
            ++ended;
            REQUIRE(io.get_executor().running_in_this_thread());
            REQUIRE(s.running == 0);
            if (e) return;
            REQUIRE(results.size() == s.items);
            for (std::size_t i = 0; i < s.items; ++i) {
                if constexpr (mode == on_error::stop) {
                    REQUIRE(results[i] == i);
                } else {
                    REQUIRE(results[i].has_value() == !s.fails[i]);
                }
            }
        }));
    for (std::size_t turn = 0; io.poll_one() > 0; ++turn) {
        if (turn == s.cancel_after) signal.emit(asio::cancellation_type::terminal);
    }
    REQUIRE(ended == 1);
}

/// An io_context that four threads run.
class four_threads {
public:
    four_threads() {
        for (int i = 0; i < 4; ++i) threads_.emplace_back([this] { io.run(); });
    }
    ~four_threads() {
        work_.reset();
        for (auto& thread : threads_) thread.join();
    }

    asio::io_context io;

private:
    asio::executor_work_guard<asio::io_context::executor_type> work_{io.get_executor()};
    std::vector<std::thread> threads_;
};

/// An io_context's executor that tells when it is asked for its context, as it is for each strand.
struct watched_executor {
    asio::io_context* io;
    std::function<void()> const* asked;

    asio::execution_context& query(asio::execution::context_t) const noexcept {
        (*asked)();
        return *io;
    }
    static constexpr asio::execution::blocking_t query(asio::execution::blocking_t) noexcept {
        return asio::execution::blocking.never;
    }
    template <class Function>
    void execute(Function&& function) const {
        asio::post(*io, std::forward<Function>(function));
    }
    bool operator==(watched_executor const&) const noexcept = default;
};

} // namespace

TEST_CASE("random schedules: each item at most once, all of them over at the end", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t i = 0; i < test::schedules(); ++i) {
            schedule s(random);
            if (i % 2) play<on_error::stop>(s);
            else play<on_error::collect>(s);
        }
    }
}

TEST_CASE("items on many threads, with and without failures", "[stress]") {
    std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 400);
    four_threads threads;
    asio::any_io_executor const plain = threads.io.get_executor();
    asio::any_io_executor const strand = asio::make_strand(threads.io);
    for (std::size_t round = 0; round < rounds; ++round) {
        std::atomic<int> running{0}, most{0}, started{0};
        whereabouts where;
        bool const fail = round % 2 == 1;
        auto f = [&](int i) -> asio::awaitable<int> {
            auto const executor = co_await asio::this_coro::executor;
            where.note(executor);
            ++started;
            int const now = ++running;
            for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
            }
            struct leave {
                std::atomic<int>& n;
                ~leave() { --n; }
            } const guard{running};
            for (int n = 0; n < i % 4; ++n) {
                co_await asio::post(asio::deferred);
                where.note(executor);
            }
            if (fail && i == 40) throw std::runtime_error("failed");
            co_return i;
        };
        auto map = parallel_map(std::views::iota(0, 100), 8, f);
        auto done = asio::co_spawn(round % 3 == 0 ? strand : plain, where.watch(std::move(map)),
                                   asio::use_future);
        if (fail) {
            REQUIRE_THROWS_AS(done.get(), std::runtime_error);
            REQUIRE(started >= 41);
        } else {
            auto const results = done.get();
            REQUIRE(results.size() == 100);
            for (int i = 0; i < 100; ++i) REQUIRE(results[static_cast<std::size_t>(i)] == i);
        }
        REQUIRE(running == 0);
        REQUIRE(most <= 8);
        REQUIRE_FALSE(where.elsewhere());
    }
}

TEST_CASE("cancelling from a strand while items run on many threads", "[stress]") {
    std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 400);
    four_threads threads;
    asio::any_io_executor const strand = asio::make_strand(threads.io);
    for (std::size_t round = 0; round < rounds; ++round) {
        std::atomic<int> running{0};
        whereabouts where;
        auto f = [&](int) -> asio::awaitable<void> {
            auto const executor = co_await asio::this_coro::executor;
            ++running;
            struct leave {
                std::atomic<int>& n;
                ~leave() { --n; }
            } const guard{running};
            for (;;) {
                co_await asio::post(asio::deferred);
                where.note(executor);
            }
        };
        asio::cancellation_signal signal;
        auto each = parallel_for_each(std::views::iota(0, 100), 8, f);
        auto done = asio::co_spawn(strand, where.watch(std::move(each)),
                                   asio::bind_cancellation_slot(signal.slot(), asio::use_future));
        auto cancel = [&] { signal.emit(asio::cancellation_type::terminal); };
        asio::post(strand, cancel);
        REQUIRE_THROWS_AS(done.get(), boost::system::system_error);
        REQUIRE(running == 0);
        REQUIRE_FALSE(where.elsewhere());
    }
}

TEST_CASE("a failure while workers are being started misses none of them") {
    std::latch two_wait(2), cancelled(1);
    std::atomic<std::thread::id> starts;
    bool last_taken = false;
    std::atomic<bool> last_ran{false};
    // The last item is taken, and its worker is not known yet, while the first one fails.
    std::function<void()> const asked = [&] {
        if (std::this_thread::get_id() != starts || !std::exchange(last_taken, false)) return;
        two_wait.count_down();
        cancelled.wait();
    };
    auto take = [&](int i) {
        starts = std::this_thread::get_id();
        last_taken = i == 2;
        return i;
    };
    auto f = [&](int i) -> asio::awaitable<void> {
        if (i == 2) last_ran = true;
        if (i == 0) {
            two_wait.wait();
            throw std::runtime_error("failed");
        }
        if (i != 1) co_return;
        two_wait.count_down();
        asio::steady_timer never(co_await asio::this_coro::executor,
                                 asio::steady_timer::time_point::max());
        try {
            co_await never.async_wait(asio::deferred);
        } catch (...) {
            cancelled.count_down();
            throw;
        }
    };
    four_threads threads; // gone before what its last functions look at
    auto items = std::views::iota(0, 3) | std::views::transform(take);
    asio::any_io_executor const executor = watched_executor{&threads.io, &asked};
    auto done = asio::co_spawn(executor, parallel_for_each(items, 3, f), asio::use_future);
    CHECK_THROWS_AS(done.get(), std::runtime_error);
    CHECK_FALSE(last_ran);
}
