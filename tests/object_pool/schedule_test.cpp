// SPDX-License-Identifier: BSL-1.0
// Random schedules of borrowers: on one thread beside a model, and on threads that race, with a
// pool that goes before its leases.
#include "support/stress.hpp"

#include <tidegate/object_pool.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using tidegate::error_code;

namespace pool_schedules { // not without a name: g++ warns of such an object in a coroutine

struct counted {
    explicit counted(std::atomic<int>& count) : alive(count) { ++alive; }
    counted(counted const&) = delete;
    counted& operator=(counted const&) = delete;
    ~counted() { --alive; }
    std::atomic<int>& alive;
    int users = 0; // not atomic: two borrowers at once are a data race
};

using pool = tidegate::object_pool<counted>;

struct request {
    asio::cancellation_signal signal;
    bool done = false;
    counted* got = nullptr;
    // The model.
    bool should_be_done = false;
    counted* should_get = nullptr;
};

class schedule {
public:
    explicit schedule(test::random& random) : random_(random) {
        pool_.emplace(io_, 1 + test::below(random, 4), [this] {
            auto made = std::make_unique<counted>(alive_);
            idle_.push_back(made.get());
            return made;
        });
    }

    /// What was done, if that went wrong.
    std::string steps(int count) {
        for (int i = 0; i < count; ++i) {
            step();
            run();
            if (!agree()) return done_ + " <- here";
        }
        pool_.reset();
        leases_.clear();
        return alive_ == 0 ? "" : done_ + " <- and some are left";
    }

private:
    void step() {
        std::size_t const choice = test::below(random_, 100);
        if (choice < 25) borrow();
        else if (choice < 50) ask();
        else if (choice < 60) cancel();
        else if (choice < 99) give_back();
        else close();
    }
    void run() {
        io_.restart();
        io_.poll();
    }

    // The one that came back last, unless somebody waits.
    counted* next() {
        if (idle_.empty() || closed_) return nullptr;
        counted* const last = idle_.back();
        idle_.pop_back();
        return last;
    }

    void borrow() {
        done_ += " borrow";
        counted* const expected = next();
        auto lease = pool_->try_acquire();
        wrong_ |= lease.get() != expected;
        if (lease) leases_.push_back(std::move(lease));
    }

    void ask() {
        done_ += " ask";
        auto& one = *requests_.emplace_back(std::make_unique<request>());
        one.should_get = next();
        one.should_be_done = one.should_get || closed_;
        if (!one.should_be_done) waiting_.push_back(&one);
        auto answered = [this, &one](error_code, pool::lease lease) {
            one.done = true;
            one.got = lease.get();
            if (lease) leases_.push_back(std::move(lease));
        };
        pool_->async_acquire(asio::bind_cancellation_slot(one.signal.slot(), answered));
    }

    void cancel() {
        if (waiting_.empty()) return;
        done_ += " cancel";
        auto const at = static_cast<std::ptrdiff_t>(test::below(random_, waiting_.size()));
        request& one = *waiting_[static_cast<std::size_t>(at)];
        waiting_.erase(waiting_.begin() + at);
        one.should_be_done = true;
        one.signal.emit(asio::cancellation_type::total);
    }

    void give_back() {
        if (leases_.empty()) return;
        done_ += " back";
        std::swap(leases_[test::below(random_, leases_.size())], leases_.back());
        auto const lease = std::move(leases_.back());
        leases_.pop_back();
        if (waiting_.empty()) return idle_.push_back(lease.get());
        waiting_.front()->should_be_done = true;
        waiting_.front()->should_get = lease.get();
        waiting_.pop_front();
    }

    void close() {
        done_ += " close";
        closed_ = true;
        for (auto* const one : waiting_) one->should_be_done = true;
        waiting_.clear();
        pool_->close();
    }

    bool agree() const {
        auto const as_it_should = [](auto const& one) {
            return one->done == one->should_be_done && one->got == one->should_get;
        };
        return !wrong_ && std::ranges::all_of(requests_, as_it_should) &&
               pool_->waiting() == waiting_.size() &&
               pool_->idle() == (closed_ ? 0 : idle_.size()) &&
               pool_->size() == pool_->idle() + leases_.size();
    }

    test::random& random_;
    asio::io_context io_{1};
    std::atomic<int> alive_{0};
    std::vector<pool::lease> leases_; // may outlive the pool
    std::optional<pool> pool_;
    std::vector<std::unique_ptr<request>> requests_;
    std::vector<counted*> idle_;
    std::deque<request*> waiting_;
    bool closed_ = false;
    bool wrong_ = false;
    std::string done_;
};

// One thread of a race: borrows and waits, and keeps some leases until the pool is gone.
struct borrower {
    void act(pool& objects, std::uint64_t seed) {
        test::random random(seed);
        for (int i = 0; i < 12; ++i) {
            switch (test::below(random, 3)) {
            case 0: keep(objects.try_acquire()); break;
            case 1:
                ++asked;
                objects.async_acquire(
                    asio::bind_executor(io.get_executor(), [this](error_code, pool::lease lease) {
                        ++answered;
                        keep(std::move(lease));
                    }));
                break;
            default: kept.clear();
            }
            io.restart();
            io.poll();
        }
    }
    void keep(pool::lease lease) {
        if (!lease) return;
        if (++lease->users != 1) ++shared;
        --lease->users;
        kept.push_back(std::move(lease));
    }
    void finish() {
        kept.clear();
        io.restart();
        io.run();
        kept.clear();
    }

    asio::io_context io{1};
    std::vector<pool::lease> kept;
    int asked = 0, answered = 0, shared = 0;
};

} // namespace pool_schedules

using namespace pool_schedules;

TEST_CASE("a pool does what a simple model of it does", "[stress]") {
    for (auto const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random random(seed);
        for (std::size_t i = 0; i < test::schedules(); ++i) {
            auto const wrong = schedule(random).steps(40);
            if (!wrong.empty()) FAIL("schedule " << i << ":" << wrong);
        }
    }
}

TEST_CASE("nobody waits while an object is idle, and no object has two borrowers, whoever races",
          "[stress]") {
    for (auto const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random random(seed);
        std::size_t const count = std::min<std::size_t>(test::schedules(1000), 100'000);
        for (std::size_t i = 0; i < count; ++i) {
            std::atomic<int> alive{0};
            asio::io_context home{1};
            std::optional<pool> objects(std::in_place, home, 2,
                                        [&] { return std::make_unique<counted>(alive); });
            borrower a, b;
            std::thread other([&, s = random()] { b.act(*objects, s); });
            a.act(*objects, random());
            other.join();
            if (i % 2) { // what was asked for is answered, one way or the other
                a.kept.clear();
                b.kept.clear();
                if (objects->waiting() != 0 && objects->idle() != 0) FAIL("schedule " << i);
            }
            objects.reset();
            std::thread last([&] { b.finish(); });
            a.finish();
            last.join();
            if (a.shared + b.shared + alive != 0 || a.asked != a.answered || b.asked != b.answered)
                FAIL("schedule " << i);
        }
    }
}
