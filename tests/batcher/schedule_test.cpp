// SPDX-License-Identifier: BSL-1.0
// Random schedules of items of several keys, sources and priorities beside a plain model.
#include <tidegate/batcher.hpp>
#include <tidegate/core/ageing.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "batcher/support.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;
using tidegate::job_priority;
using tidegate::when_full;
using options = tidegate::batcher_options;
using test::call;
using test::code_of;

namespace {

int key_of(int item) { return item / 100 % 3; }
int source_of(int item) { return item / 1000 % 3; }
std::size_t level_of(int item) { return static_cast<std::size_t>(item / 10000 % 3); }

/// How random items are told apart.
struct traits {
    bool keyed, sourced, prioritized;

    int key(int item) const { return keyed ? key_of(item) : 0; }
    int source(int item) const { return sourced ? source_of(item) : 0; }
    std::size_t level(int item) const { return prioritized ? level_of(item) : 1; }
};

using ageing = tidegate::core::ageing<tidegate::job_priorities>;

/// One worker that is busy with the first item, so that everything else is queued; which items are
/// then in which batch is for the model to say.
class model {
public:
    model(options settings, traits t) : settings_(settings), traits_(t) {}

    void submit(int item) {
        if (queue_.size() < settings_.queue()) return enqueue(item);
        if (settings_.full() == when_full::reject) {
            refused_[item] = error::queue_full;
        } else if (settings_.full() == when_full::wait) {
            waiting_.push_back(item);
        } else {
            enqueue(item);
            int const dropped = most_expendable();
            refused_[dropped] = error::dropped;
            remove(dropped);
        }
    }
    void cancel(int item) {
        if (std::erase(waiting_, item) > 0) {
            refused_[item] = asio::error::operation_aborted;
            forget_if_unused(key(item));
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
            std::size_t const level =
                batch_age_.choose([this](std::size_t l) { return keys_[l].empty(); });
            batches.push_back(take_batch(keys_[level].front()));
            admit();
        }
        return batches;
    }

    std::map<int, error_code> const& refused() const { return refused_; }

private:
    int key(int item) const { return traits_.key(item); }
    int source(int item) const { return traits_.source(item); }
    std::size_t level(int item) const { return traits_.level(item); }

    std::vector<int> take_batch(int k) {
        std::vector<int> batch;
        while (batch.size() < settings_.max_size() && has_any(k)) {
            auto& age = ages_.try_emplace(k, settings_.patience()).first->second;
            std::size_t const l = age.choose([&](std::size_t at) { return !has_any(k, at); });
            auto& turns = turns_[{k, l}];
            int const s = turns.front();
            auto const is_next = [&](int i) { return is_of(i, k, l, s); };
            batch.push_back(*std::ranges::find_if(queue_, is_next));
            std::erase(queue_, batch.back());
            turns.pop_front();
            if (has_any(k, l, s)) turns.push_back(s);
        }
        for (std::size_t l = 0; l < 3; ++l) {
            if (std::erase(keys_[l], k) > 0 && has_any(k, l)) keys_[l].push_back(k);
        }
        forget_if_unused(k);
        return batch;
    }

    void enqueue(int item) {
        int const k = key(item);
        std::size_t const l = level(item);
        if (!has_any(k, l)) keys_[l].push_back(k);
        if (!has_any(k, l, source(item))) turns_[{k, l}].push_back(source(item));
        queue_.push_back(item);
    }
    void admit() {
        while (!waiting_.empty() && queue_.size() < settings_.queue()) {
            std::size_t const l = line_age_.choose([this](std::size_t at) {
                return std::ranges::none_of(waiting_, [&](int i) { return level(i) == at; });
            });
            auto const next = std::ranges::find(waiting_, l, [this](int i) { return level(i); });
            enqueue(*next);
            waiting_.erase(next);
        }
    }
    int most_expendable() const {
        return *std::ranges::max_element(queue_, {}, [this](int i) { return level(i); });
    }

    bool is_of(int i, int k, std::size_t l, int s) const {
        return key(i) == k && level(i) == l && source(i) == s;
    }
    bool has_any(int k) const {
        return std::ranges::any_of(queue_, [&](int i) { return key(i) == k; });
    }
    bool has_any(int k, std::size_t l) const {
        return std::ranges::any_of(queue_, [&](int i) { return key(i) == k && level(i) == l; });
    }
    bool has_any(int k, std::size_t l, int s) const {
        return std::ranges::any_of(queue_, [&](int i) { return is_of(i, k, l, s); });
    }
    void remove(int item) {
        int const k = key(item), s = source(item);
        std::size_t const l = level(item);
        std::erase(queue_, item);
        if (!has_any(k, l, s)) std::erase(turns_[{k, l}], s);
        if (!has_any(k, l)) std::erase(keys_[l], k);
        forget_if_unused(k);
    }
    void forget_if_unused(int k) {
        if (has_any(k)) return;
        if (std::ranges::none_of(waiting_, [&](int i) { return key(i) == k; })) ages_.erase(k);
    }

    options settings_;
    traits traits_;
    std::deque<int> queue_, waiting_;     // in the order of arrival
    std::array<std::deque<int>, 3> keys_; // those with such items, in the order of their turns
    std::map<std::pair<int, std::size_t>, std::deque<int>> turns_; // of sources
    std::map<int, ageing> ages_;                                   // by key
    ageing batch_age_{settings_.patience()}, line_age_{settings_.patience()};
    std::map<int, error_code> refused_;
};

/// A worker pool that many schedules use, which is cheaper than one each.
struct shared_pool {
    asio::io_context io;
    tidegate::worker_pool pool{io, tidegate::worker_pool_options().threads(1)};
};

void play(test::random& random, shared_pool& shared) {
    auto const settings = options()
                              .max_size(1 + test::below(random, 4))
                              .queue(1 + test::below(random, 8))
                              .full(static_cast<when_full>(test::below(random, 3)))
                              .patience(static_cast<std::uint32_t>(1 + test::below(random, 4)))
                              .max_in_flight(1);
    auto const some = [&] { return test::below(random, 2) == 0; };
    traits const t{some(), some(), some()};
    model expected(settings, t);

    auto const step = std::make_shared<test::stepped>();
    auto const run = [step](std::span<int> items) { return (*step)(items); };
    auto const key = [t](int item) { return t.key(item); };
    auto const source = [t](int item) { return t.source(item); };
    auto const priority = [t](int item) {
        return item < 0 ? job_priority::normal : static_cast<job_priority>(t.level(item));
    };
    tidegate::batcher<int, int> b(shared.pool, settings, run, key, source, priority);
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
            auto const digit = [&] { return static_cast<int>(test::below(random, 3)); };
            int const item = 100000 * i + 10000 * digit() + 1000 * digit() + 100 * digit();
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

TEST_CASE("batches of keys, sources and priorities go as the model says", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        shared_pool shared;
        for (std::size_t i = 0; i < test::schedules(); ++i) play(random, shared);
    }
}
