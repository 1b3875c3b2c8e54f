// SPDX-License-Identifier: BSL-1.0
// Random schedules of items of several keys and sources beside a plain model.
#include <tidegate/batcher.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "batcher/support.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;
using tidegate::when_full;
using options = tidegate::batcher_options;
using test::call;
using test::code_of;

namespace {

int key_of(int item) { return item / 100 % 3; }
int source_of(int item) { return item / 1000 % 3; }

/// One worker that is busy with the first item, so that everything else is queued; which items are
/// then in which batch is for the model to say.
class model {
public:
    model(std::size_t max_size, std::size_t capacity, when_full policy, bool keyed, bool sourced)
        : max_size_(max_size),
          capacity_(capacity),
          policy_(policy),
          keyed_(keyed),
          sourced_(sourced) {}

    void submit(int item) {
        if (queue_.size() < capacity_) return enqueue(item);
        if (policy_ == when_full::reject) {
            refused_[item] = error::queue_full;
        } else if (policy_ == when_full::wait) {
            waiting_.push_back(item);
        } else {
            enqueue(item);
            refused_[queue_.front()] = error::dropped;
            remove(queue_.front());
        }
    }
    void cancel(int item) {
        if (std::erase(waiting_, item) > 0) {
            refused_[item] = asio::error::operation_aborted;
        } else if (std::ranges::find(queue_, item) != queue_.end()) {
            refused_[item] = asio::error::operation_aborted;
            remove(item);
            admit();
        }
    }

    /// All that is left, batch by batch.
    std::vector<std::vector<int>> run_all() {
        std::vector<std::vector<int>> batches;
        while (!queue_.empty()) {
            int const key = keys_.front();
            keys_.pop_front();
            batches.emplace_back();
            while (batches.back().size() < max_size_) {
                auto const item = next_of(key);
                if (!item) break;
                batches.back().push_back(*item);
                remove_from_queue(*item);
                end_turn(key, *item);
            }
            if (has_any(key)) keys_.push_back(key);
            admit();
        }
        return batches;
    }

    std::map<int, error_code> const& refused() const { return refused_; }

private:
    int key(int item) const { return keyed_ ? key_of(item) : 0; }
    int source(int item) const { return sourced_ ? source_of(item) : 0; }

    void enqueue(int item) {
        if (!has_any(key(item))) keys_.push_back(key(item));
        auto& turns = turns_[key(item)];
        if (!has_any(key(item), source(item))) turns.push_back(source(item));
        queue_.push_back(item);
    }
    void admit() {
        while (!waiting_.empty() && queue_.size() < capacity_) {
            enqueue(waiting_.front());
            waiting_.pop_front();
        }
    }
    bool has_any(int k) const {
        return std::ranges::any_of(queue_, [&](int i) { return key(i) == k; });
    }
    bool has_any(int k, int s) const {
        return std::ranges::any_of(queue_, [&](int i) { return key(i) == k && source(i) == s; });
    }
    std::optional<int> next_of(int k) const {
        if (!has_any(k)) return std::nullopt;
        int const s = turns_.at(k).front();
        return *std::ranges::find_if(queue_, [&](int i) { return key(i) == k && source(i) == s; });
    }
    void remove_from_queue(int item) { std::erase(queue_, item); }
    void remove(int item) {
        int const k = key(item), s = source(item);
        remove_from_queue(item);
        if (!has_any(k, s)) std::erase(turns_[k], s);
        if (!has_any(k)) std::erase(keys_, k);
    }
    void end_turn(int k, int item) {
        auto& turns = turns_[k];
        turns.pop_front();
        if (has_any(k, source(item))) turns.push_back(source(item));
    }

    std::size_t max_size_, capacity_;
    when_full policy_;
    bool keyed_, sourced_;
    std::deque<int> queue_, waiting_; // in the order of arrival
    std::deque<int> keys_;            // those with items, in the order of their turns
    std::map<int, std::deque<int>> turns_;
    std::map<int, error_code> refused_;
};

/// A worker pool that many schedules use, which is cheaper than one each.
struct shared_pool {
    asio::io_context io;
    tidegate::worker_pool pool{io, tidegate::worker_pool_options().threads(1)};
};

void play(test::random& random, shared_pool& shared) {
    std::size_t const max_size = 1 + test::below(random, 4);
    std::size_t const capacity = 1 + test::below(random, 8);
    auto const policy = static_cast<when_full>(test::below(random, 3));
    bool const keyed = test::below(random, 2) == 0;
    bool const sourced = test::below(random, 2) == 0;
    model expected(max_size, capacity, policy, keyed, sourced);

    auto const step = std::make_shared<test::stepped>();
    auto const run = [step](std::span<int> items) { return (*step)(items); };
    auto const key = [keyed](int item) { return keyed ? key_of(item) : 0; };
    auto const source = [sourced](int item) { return sourced ? source_of(item) : 0; };
    tidegate::batcher<int, int> b(
        shared.pool, options().max_size(max_size).queue(capacity).full(policy).max_in_flight(1),
        run, key, source);
    call first;
    first.start(b, -1);
    step->entered.wait();
    std::map<int, call> calls;
    for (int i = 0; i < 16; ++i) {
        if (!calls.empty() && test::below(random, 4) == 0) {
            auto const it = std::next(
                calls.begin(), static_cast<std::ptrdiff_t>(test::below(random, calls.size())));
            it->second.signal.emit(asio::cancellation_type::total);
            expected.cancel(it->first);
        } else {
            int const item = 10000 * i + 1000 * static_cast<int>(test::below(random, 3)) +
                             100 * static_cast<int>(test::below(random, 3));
            calls[item].start(b, item);
            expected.submit(item);
        }
    }
    step->go.set_value();
    shared.io.restart();
    shared.io.run();
    REQUIRE(std::vector(step->batches.begin() + 1, step->batches.end()) == expected.run_all());
    for (auto const& [item, c] : calls) {
        REQUIRE(c.completions == 1);
        auto const refused = expected.refused().find(item);
        if (refused == expected.refused().end()) REQUIRE(c.result == 2 * item);
        else REQUIRE(code_of(c.failure) == refused->second);
    }
    REQUIRE(b.queued() == 0);
}

} // namespace

TEST_CASE("batches of keys and sources go as the model says", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        shared_pool shared;
        for (std::size_t i = 0; i < test::schedules(); ++i) play(random, shared);
    }
}
