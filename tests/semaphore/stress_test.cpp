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

enum class fate { waits, granted, expired, aborted, closed, too_many, full, overloaded };

using time_point = clock_type::time_point;

// What a semaphore is to do, with nothing but a queue. Of overload, and of how fast a line is, it
// knows only who decides.
class model {
public:
    explicit model(tidegate::semaphore_options const& o)
        : options_(o),
          capacity_(o.capacity()),
          overload_(o.queue_delay_target(), o.queue_delay_interval()) {}

    std::map<int, fate> fates;

    void acquire(int id, std::size_t count, time_point deadline, time_point now) {
        if (closed_) return void(fates[id] = fate::closed);
        if (count > capacity_) return void(fates[id] = fate::too_many);
        judge(now);
        shed(now);
        if (options_.max_wait() < std::chrono::hours(1)) {
            deadline = std::min(deadline, now + options_.max_wait());
        }
        bool const next = queue_.empty() || overload_.overloaded();
        if (next && out_ + count <= capacity_) grant_to(id, count);
        else if (queue_.size() >= options_.max_waiters()) fates[id] = fate::full;
        else if (deadline <= now) fates[id] = fate::expired;
        else if (is_hopeless(deadline, now)) fates[id] = fate::full;
        else wait({id, count, deadline, now});
        grant();
    }
    void give_back(std::size_t count, time_point now) {
        out_ -= count;
        hand_out(now);
    }
    void resize(std::size_t capacity, time_point now) {
        capacity_ = capacity;
        take_out([&](request const& r) { return r.count > capacity; }, fate::too_many);
        hand_out(now);
    }
    void leave(int id) {
        take_out([&](request const& r) { return r.id == id; }, fate::aborted);
        grant();
    }
    void tell_time(time_point now) {
        take_out([&](request const& r) { return r.deadline <= now; }, fate::expired);
        grant();
    }
    void leave_all(fate why) {
        take_out([](request const&) { return true; }, why);
        closed_ = closed_ || why == fate::closed;
    }
    std::size_t capacity() const { return capacity_; }
    std::size_t available() const { return out_ < capacity_ ? capacity_ - out_ : 0; }
    std::size_t waiting() const { return queue_.size(); }
    bool can_try() const { return !closed_ && queue_.empty() && out_ < capacity_; }
    bool overloaded() const { return overload_.overloaded(); }

private:
    struct request {
        int id;
        std::size_t count;
        time_point deadline;
        time_point since;
    };

    bool is_hopeless(time_point deadline, time_point now) const {
        return options_.refuses_hopeless() && !queue_.empty() && deadline != time_point::max() &&
               pace_.takes_longer(queue_.size() + 1, deadline - now);
    }
    void wait(request const& r) {
        if (queue_.empty()) pace_.begin(r.since);
        fates[r.id] = fate::waits;
        queue_.push_back(r);
    }
    void grant_to(int id, std::size_t count) {
        REQUIRE(out_ + count <= capacity_);
        out_ += count;
        fates[id] = fate::granted;
    }
    template <class Which>
    void take_out(Which which, fate why) {
        std::erase_if(queue_, [&](request const& r) {
            bool const it = which(r);
            if (it) fates[r.id] = why;
            return it;
        });
    }
    void judge(time_point now) {
        if (options_.order() == tidegate::queue_order::fifo || queue_.empty()) return;
        overload_.sample(now, now - queue_.front().since);
    }
    void shed(time_point now) {
        if (!overloaded()) return;
        auto const longest = 2 * options_.queue_delay_target();
        take_out([&](request const& r) { return now - r.since > longest; }, fate::overloaded);
    }
    void hand_out(time_point now) {
        judge(now);
        grant();
        shed(now);
    }
    void grant() {
        std::size_t served = 0;
        while (!queue_.empty()) {
            auto const next = overloaded() ? queue_.end() - 1 : queue_.begin();
            if (out_ + next->count > capacity_) break;
            grant_to(next->id, next->count);
            queue_.erase(next);
            ++served;
        }
        if (served > 0) pace_.served(served, capacity_, clock_type::now());
    }

    tidegate::semaphore_options options_;
    std::size_t capacity_;
    std::size_t out_ = 0;
    tidegate::core::queue_delay<time_point> overload_;
    tidegate::core::line_pace<time_point> pace_;
    std::deque<request> queue_;
    bool closed_ = false;
};

fate fate_of(error_code ec) {
    if (!ec) return fate::granted;
    if (ec == error::deadline_exceeded) return fate::expired;
    if (ec == error::closed) return fate::closed;
    if (ec == error::invalid_count) return fate::too_many;
    if (ec == error::queue_full) return fate::full;
    if (ec == error::overloaded) return fate::overloaded;
    REQUIRE(ec == asio::error::operation_aborted);
    return fate::aborted;
}

// `from` to below `from` + `range`.
std::chrono::seconds seconds(int from, std::size_t range, test::random& random) {
    return std::chrono::seconds(from + static_cast<int>(test::below(random, range)));
}

tidegate::semaphore_options random_options(test::random& random) {
    tidegate::semaphore_options o;
    o.capacity(1 + test::below(random, 4));
    if (test::below(random, 3) == 0) o.max_waiters(test::below(random, 4));
    if (test::below(random, 4) == 0) o.max_wait(seconds(0, 5, random));
    if (test::below(random, 2)) o.refuse_hopeless();
    if (test::below(random, 2)) {
        o.order(tidegate::queue_order::newest_first_under_overload)
            .queue_delay_target(std::chrono::milliseconds(100 + test::below(random, 10) * 100))
            .queue_delay_interval(std::chrono::milliseconds(100 + test::below(random, 10) * 100));
    }
    return o;
}

// A semaphore and its model, driven by the same random calls.
class schedule {
public:
    explicit schedule(test::random& random)
        : random_(random), options_(random_options(random)), s_(io_, options_), m_(options_) {}

    void run() {
        std::size_t const steps = 4 + test::below(random_, test::below(random_, 8) ? 60 : 500);
        for (std::size_t step = 0; step < steps; ++step) {
            act();
            io_.restart();
            io_.poll();
            compare();
        }
    }

private:
    struct request {
        asio::cancellation_signal signal;
        fate now = fate::waits;
        permit held;
    };

    void act() {
        // So that a line lasts until something is known of it.
        if (options_.refuses_hopeless() && test::below(random_, 8)) {
            return test::below(random_, 2) ? acquire() : release();
        }
        switch (test::below(random_, 13)) {
        case 0:
        case 1:
        case 2:
        case 3: return acquire();
        case 4:
        case 5:
        case 6: return release();
        case 7: return cancel_one();
        case 8: return pass_time();
        case 9: {
            std::size_t const capacity = 1 + test::below(random_, 5);
            s_.resize(capacity);
            return m_.resize(capacity, clock_type::now());
        }
        case 10: REQUIRE(bool(s_.try_acquire()) == m_.can_try()); return;
        case 11: return pass_time();
        default: return end();
        }
    }

    void acquire() {
        int const id = next_id_++;
        std::size_t const n = 1 + test::below(random_, m_.capacity() + 1);
        auto deadline = time_point::max();
        if (test::below(random_, 2)) deadline = clock_type::now() + seconds(0, 6, random_);
        request& r = requests_[id];
        s_.async_acquire_until(
            deadline, n,
            asio::bind_cancellation_slot(r.signal.slot(), [this, &r](error_code ec, permit p) {
                if (!io_.get_executor().running_in_this_thread()) elsewhere_ = true;
                r.now = fate_of(ec);
                r.held = std::move(p);
            }));
        m_.acquire(id, n, deadline, clock_type::now());
    }

    void release() {
        for (auto& [id, r] : requests_) {
            if (!r.held) continue;
            std::size_t const n = r.held.count();
            r.held.release();
            return m_.give_back(n, clock_type::now());
        }
    }

    void cancel_one() {
        if (requests_.empty()) return;
        auto chosen = requests_.begin();
        std::advance(chosen, static_cast<long>(test::below(random_, requests_.size())));
        if (m_.fates[chosen->first] == fate::waits) m_.leave(chosen->first);
        chosen->second.signal.emit(asio::cancellation_type::total);
    }

    void pass_time() {
        clock_type::advance(std::chrono::milliseconds(test::below(random_, 20) * 100));
        io_.restart();
        io_.poll();
        m_.tell_time(clock_type::now());
    }

    void end() {
        if (test::below(random_, 8) == 0) {
            s_.close();
            m_.leave_all(fate::closed);
        } else if (test::below(random_, 4) == 0) {
            s_.cancel();
            m_.leave_all(fate::aborted);
        }
    }

    void compare() {
        REQUIRE_FALSE(elsewhere_);
        std::map<fate, std::uint64_t> counted;
        for (auto& [id, r] : requests_) {
            REQUIRE(r.now == m_.fates[id]);
            ++counted[r.now];
        }
        REQUIRE(s_.capacity() == m_.capacity());
        REQUIRE(s_.available() == m_.available());
        REQUIRE(s_.waiting() == m_.waiting());
        REQUIRE(s_.is_overloaded() == m_.overloaded());
        auto const told = s_.statistics();
        REQUIRE(told.refused_full == counted[fate::full]);
        REQUIRE(told.refused_overloaded == counted[fate::overloaded]);
        REQUIRE(told.timed_out == counted[fate::expired]);
        REQUIRE(told.cancelled == counted[fate::aborted]);
    }

    test::random& random_;
    tidegate::semaphore_options options_;
    std::map<int, request> requests_;
    asio::io_context io_;
    semaphore s_;
    model m_;
    int next_id_ = 0;
    bool elsewhere_ = false;
};

} // namespace

TEST_CASE("random schedules agree with the model", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t i = 0; i < test::schedules() / 2; ++i) schedule(random).run();
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
    std::atomic<long> elsewhere{0};

    void run(bool destroy_a_context) {
        tidegate::semaphore_options options;
        options.capacity(3);
        if (test::below(random_, 2)) options.max_waiters(test::below(random_, 8));
        if (test::below(random_, 2)) {
            options.order(tidegate::queue_order::newest_first_under_overload)
                .queue_delay_target(std::chrono::microseconds(20))
                .queue_delay_interval(std::chrono::microseconds(100));
        }
        auto a = std::make_unique<asio::io_context>();
        auto b = std::make_unique<asio::io_context>();
        real_semaphore s(*a, options);
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
        CHECK(elsewhere == 0);
        CHECK(out == 0);
        CHECK(most_out <= static_cast<long>(most_capacity));
        CHECK(s.available() == s.capacity());
        CHECK(s.waiting() == 0);
    }

private:
    static constexpr std::size_t most_capacity = 4;

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
            switch (test::below(random, 7)) {
            case 0:
                if (auto p = s.try_acquire()) counted(*this, std::move(p));
                break;
            case 1:
                if (test::below(random, 10) == 0) s.cancel();
                break;
            case 2: s.resize(1 + test::below(random, most_capacity)); break;
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
            auto handler = [this, op, &where](error_code ec, real_semaphore::permit p) {
                if (!where.get_executor().running_in_this_thread()) ++elsewhere;
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

TEST_CASE(
    "permits balance when threads initiate, wake, emit, expire, resize, cancel and close at once",
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
