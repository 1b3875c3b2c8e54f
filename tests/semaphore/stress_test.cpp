// SPDX-License-Identifier: BSL-1.0
// Random schedules: one thread against a slow, obviously right model; many threads against the sum.
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <atomic>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using tidegate::error;
using tidegate::error_code;

namespace {

using clock_type = tidegate::testing::manual_clock;
using semaphore = tidegate::basic_semaphore<clock_type>;
using permit = semaphore::permit;

enum class fate { waits, granted, expired, aborted, closed };

// What a semaphore is to do, with nothing but a queue.
class model {
public:
    explicit model(std::size_t permits) : available_(permits) {}

    struct request {
        std::size_t count;
        clock_type::time_point deadline;
    };
    std::map<int, fate> fates;

    void acquire(int id, std::size_t count, clock_type::time_point deadline) {
        fates[id] = fate::waits;
        if (closed_) fates[id] = fate::closed;
        else queue_.push_back({id, {count, deadline}});
        grant();
    }
    void give_back(std::size_t count) {
        available_ += count;
        grant();
    }
    void leave(int id, fate why) {
        std::erase_if(queue_, [&](auto& waiting) {
            bool const it = waiting.first == id;
            if (it) fates[id] = why;
            return it;
        });
        grant();
    }
    void tell_time(clock_type::time_point now) {
        std::erase_if(queue_, [&](auto& waiting) {
            bool const expired = waiting.second.deadline <= now;
            if (expired) fates[waiting.first] = fate::expired;
            return expired;
        });
        grant();
    }
    void leave_all(fate why) {
        for (auto const& waiting : queue_) fates[waiting.first] = why;
        queue_.clear();
        closed_ = closed_ || why == fate::closed;
    }
    std::size_t available() const { return available_; }
    std::size_t waiting() const { return queue_.size(); }

private:
    void grant() {
        while (!queue_.empty() && queue_.front().second.count <= available_) {
            available_ -= queue_.front().second.count;
            fates[queue_.front().first] = fate::granted;
            queue_.pop_front();
        }
    }

    std::size_t available_;
    std::deque<std::pair<int, request>> queue_;
    bool closed_ = false;
};

fate fate_of(error_code ec) {
    if (!ec) return fate::granted;
    if (ec == error::deadline_exceeded) return fate::expired;
    if (ec == error::closed) return fate::closed;
    REQUIRE(ec == asio::error::operation_aborted);
    return fate::aborted;
}

// `from` to below `from` + `range`.
std::chrono::seconds seconds(int from, std::size_t range, test::random& random) {
    return std::chrono::seconds(from + static_cast<int>(test::below(random, range)));
}

// One schedule of random calls, compared after each.
void run_schedule(test::random& random) {
    std::size_t const capacity = 1 + test::below(random, 4);
    asio::io_context io;
    semaphore s(io, capacity);
    model m(capacity);
    struct real {
        asio::cancellation_signal signal;
        fate now = fate::waits;
        permit held;
    };
    std::map<int, real> requests;
    int next_id = 0;
    std::size_t const steps = 4 + test::below(random, 24);
    for (std::size_t step = 0; step < steps; ++step) {
        switch (test::below(random, 10)) {
        case 0:
        case 1:
        case 2: { // acquire
            int const id = next_id++;
            std::size_t const n = 1 + test::below(random, capacity);
            auto deadline = clock_type::time_point::max();
            if (test::below(random, 2)) deadline = clock_type::now() + seconds(1, 5, random);
            real& r = requests[id];
            s.async_acquire_until(
                deadline, n,
                asio::bind_cancellation_slot(r.signal.slot(), [&r](error_code ec, permit p) {
                    r.now = fate_of(ec);
                    r.held = std::move(p);
                }));
            m.acquire(id, n, deadline);
            break;
        }
        case 3:
        case 4:
        case 5: // release
            for (auto& [id, r] : requests) {
                if (!r.held) continue;
                std::size_t const n = r.held.count();
                r.held.release();
                m.give_back(n);
                break;
            }
            break;
        case 6: // cancel one
            if (!requests.empty()) {
                auto chosen = requests.begin();
                std::advance(chosen, static_cast<long>(test::below(random, requests.size())));
                if (m.fates[chosen->first] == fate::waits) m.leave(chosen->first, fate::aborted);
                chosen->second.signal.emit(asio::cancellation_type::total);
            }
            break;
        case 7: // time passes
            clock_type::advance(seconds(0, 3, random));
            io.restart();
            io.poll();
            m.tell_time(clock_type::now());
            break;
        case 8: // try
            if (permit const p = s.try_acquire()) {
                REQUIRE(m.available() >= 1);
                REQUIRE(m.waiting() == 0);
            }
            break;
        case 9:
            if (test::below(random, 8) == 0) {
                s.close();
                m.leave_all(fate::closed);
            } else if (test::below(random, 4) == 0) {
                s.cancel();
                m.leave_all(fate::aborted);
            }
            break;
        }
        io.restart();
        io.poll();
        for (auto& [id, r] : requests) REQUIRE(r.now == m.fates[id]);
        REQUIRE(s.available() == m.available());
        REQUIRE(s.waiting() == m.waiting());
    }
}

} // namespace

TEST_CASE("random schedules agree with the model", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t i = 0; i < test::schedules() / 2; ++i) run_schedule(random);
    }
}

namespace {

using real_semaphore = tidegate::semaphore;

// Two event loops, each with operations of its own on one semaphore.
class storm {
public:
    explicit storm(std::uint64_t seed) : random_(seed) {}

    // What is counted must balance in the end.
    std::atomic<long> out{0};
    std::atomic<long> most_out{0};
    std::atomic<long> begun{0};
    std::atomic<long> ended{0};
    std::atomic<long> wrong{0};

    void run(bool destroy_a_context) {
        constexpr std::size_t capacity = 3;
        auto a = std::make_unique<asio::io_context>();
        auto b = std::make_unique<asio::io_context>();
        real_semaphore s(*a, capacity);
        {
            auto keep_a = asio::make_work_guard(*a), keep_b = asio::make_work_guard(*b);
            std::thread run_a([&] { a->run(); }), run_b([&] { b->run(); });
            std::uint64_t const seed_x = random_(), seed_y = random_();
            std::thread x([&, seed_x] { act(s, *a, *b, seed_x); });
            std::thread y([&, seed_y] { act(s, *b, *a, seed_y); });
            x.join();
            y.join();
            if (destroy_a_context) {
                a->stop();
                b->stop();
            } else {
                s.close();
            }
            // Without the guards the loops end once nothing waits.
            keep_a.reset();
            keep_b.reset();
            run_a.join();
            run_b.join();
        }
        if (destroy_a_context) {
            a.reset(); // the semaphore's own first: its waiters hold work on the other
            b.reset();
        } else {
            CHECK(ended == begun);
        }
        CHECK(wrong == 0);
        CHECK(out == 0);
        CHECK(most_out <= static_cast<long>(capacity));
        CHECK(s.available() == capacity);
        CHECK(s.waiting() == 0);
    }

private:
    // A permit that is counted while it is out.
    struct counted {
        counted(storm& in, real_semaphore::permit p) : storm_(&in), held(std::move(p)) {
            long const now = storm_->out += static_cast<long>(held.count());
            long most = storm_->most_out;
            while (now > most && !storm_->most_out.compare_exchange_weak(most, now)) {
            }
        }
        counted(counted&&) = delete;
        ~counted() { storm_->out -= static_cast<long>(held.count()); } // before it is given back
        storm* storm_;
        real_semaphore::permit held;
    };

    struct operation {
        asio::cancellation_signal signal;
    };

    void act(real_semaphore& s, asio::io_context& mine, asio::io_context& other,
             std::uint64_t seed) {
        test::random random(seed);
        for (int i = 0; i < 40; ++i) {
            asio::io_context& where = test::below(random, 2) ? mine : other;
            switch (test::below(random, 6)) {
            case 0:
                if (auto p = s.try_acquire()) counted(*this, std::move(p));
                break;
            case 1:
                if (test::below(random, 10) == 0) s.cancel();
                break;
            default: start(s, where, random); break;
            }
        }
    }

    void start(real_semaphore& s, asio::io_context& where, test::random& random) {
        std::size_t const n = 1 + test::below(random, 3);
        bool const with_deadline = test::below(random, 3) == 0;
        bool const emit = test::below(random, 3) == 0;
        auto deadline = std::chrono::steady_clock::time_point::max();
        if (with_deadline) {
            deadline = std::chrono::steady_clock::now() +
                       std::chrono::microseconds(static_cast<int>(test::below(random, 200)));
        }
        ++begun;
        // Started, and cancelled, where its handler runs: Asio's rule for signals.
        asio::post(where, [this, &s, &where, n, deadline, emit] {
            auto op = std::make_shared<operation>();
            auto handler = [this, op](error_code ec, real_semaphore::permit p) {
                if (ec.failed() != !p) ++wrong; // Catch2's macros are for one thread
                if (p) counted(*this, std::move(p));
                ++ended;
            };
            s.async_acquire_until(
                deadline, n,
                asio::bind_cancellation_slot(op->signal.slot(),
                                             asio::bind_executor(where.get_executor(), handler)));
            if (emit) {
                asio::post(where, [op] { op->signal.emit(asio::cancellation_type::terminal); });
            }
        });
    }

    test::random random_;
};

} // namespace

TEST_CASE("permits balance when threads initiate, wake, emit, expire, cancel and close at once",
          "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        // A schedule here is 80 operations on four threads.
        for (std::size_t i = 0; i < test::schedules() / 80; ++i) {
            storm(random()).run(i % 4 == 3);
        }
    }
}
