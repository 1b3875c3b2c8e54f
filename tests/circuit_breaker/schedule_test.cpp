// SPDX-License-Identifier: BSL-1.0
// Random schedules of everything that can happen to a breaker, step by step beside a model.
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/testing/manual_clock.hpp>

#include "circuit_breaker/model.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <string>
#include <utility>
#include <vector>

namespace {

using tidegate::breaker_state;

struct schedule_tag;
using schedule_clock = tidegate::testing::basic_manual_clock<schedule_tag>;
using breaker = tidegate::basic_circuit_breaker<schedule_clock>;
using permit = breaker::permit;
using std::chrono::nanoseconds;

std::int64_t number(test::random& random, std::size_t limit) {
    return static_cast<std::int64_t>(test::below(random, limit));
}

test::breaker_rules some_rules(test::random& random) {
    test::breaker_rules rules;
    rules.failure_rate = static_cast<double>(10 + test::below(random, 91));
    if (random() % 3 == 0) rules.slow_rate = static_cast<double>(10 + test::below(random, 91));
    rules.slow_after = 1 + number(random, 40);
    if (random() % 3 == 0) rules.consecutive = 1 + test::below(random, 4);
    rules.length = 1 + test::below(random, 8);
    if (random() % 3 == 0) rules.slice = 1 + number(random, 50);
    rules.slices = 1 + test::below(random, 4);
    rules.minimum = 1 + test::below(random, 10);
    rules.permitted = 1 + test::below(random, 4);
    rules.probe_timeout = 1 + number(random, 100);
    rules.open_time = 1 + number(random, 15);
    rules.growth = 1 + static_cast<int>(test::below(random, 3));
    rules.cap = 1 + number(random, 60);
    return rules;
}

// A breaker and its model, which have to agree after each step.
class run {
public:
    explicit run(test::random& random) : random_(random), rules_(some_rules(random)) {}

    // What happened, or nothing if they always agreed.
    std::string steps(int count) {
        for (int i = 0; i < count; ++i) {
            step();
            if (!agree()) return done_ + " <- here";
        }
        return {};
    }

private:
    struct held {
        permit real;
        test::breaker_model::permit expected;
    };

    static std::int64_t now() { return schedule_clock::now().time_since_epoch().count(); }

    tidegate::circuit_breaker_options listening(test::breaker_rules const& rules) {
        return rules.options().on_transition(
            [this](breaker_state from, breaker_state to) { heard_.emplace_back(from, to); });
    }

    void note(char const* what, std::int64_t value = 0) {
        done_.append(" ").append(what).append(":").append(std::to_string(value));
    }

    void step() {
        std::size_t const choice = test::below(random_, 100);
        if (choice < 40 || out_.empty()) acquire();
        else if (choice < 65) report(test::below(random_, 2) == 0);
        else if (choice < 72) drop();
        else if (choice < 95) advance();
        else if (choice < 98) operate();
        else reconfigure();
    }

    void acquire() {
        note("acquire");
        permit real = breaker_.try_acquire();
        auto const expected = model_.acquire(now());
        admitted_alike_ = bool(real) == expected.has_value();
        if (real && expected) out_.push_back({std::move(real), *expected});
    }

    held take_one() {
        std::size_t const which = test::below(random_, out_.size());
        std::swap(out_[which], out_.back());
        held one = std::move(out_.back());
        out_.pop_back();
        return one;
    }

    void report(bool failed) {
        held one = take_one();
        std::int64_t const wait = random_() % 8 ? 0 : 1 + number(random_, 50);
        note(failed ? "failure" : "success", wait);
        model_.report(one.expected, failed, failed ? wait : 0, now());
        if (!failed) one.real.success();
        else if (wait) one.real.failure({}, nanoseconds(wait));
        else one.real.failure();
    }

    void drop() {
        held const one = take_one();
        note("drop");
        model_.drop(one.expected, now());
    }

    void advance() {
        std::int64_t by = number(random_, random_() % 8 ? 30 : 300);
        std::int64_t const wait = model_.retry_after(now());
        if (random_() % 2 && wait > 0 && wait < 1000) by = wait - number(random_, 2);
        note("advance", by);
        schedule_clock::advance(nanoseconds(by));
    }

    void operate() {
        std::size_t const choice = test::below(random_, 5);
        note("operate", static_cast<std::int64_t>(choice));
        switch (choice) {
        case 0: breaker_.force_open(), model_.become(breaker_state::forced_open, now()); break;
        case 1: breaker_.disable(), model_.become(breaker_state::disabled, now()); break;
        case 2: breaker_.metrics_only(), model_.become(breaker_state::metrics_only, now()); break;
        case 3: breaker_.close(), model_.become(breaker_state::closed, now()); break;
        case 4: breaker_.trip(), model_.open(0, now()); break;
        }
    }

    void reconfigure() {
        note("reconfigure");
        auto rules = some_rules(random_);
        if (random_() % 2) { // the same window
            rules.length = rules_.length;
            rules.slice = rules_.slice;
            rules.slices = rules_.slices;
        }
        most_permitted_ = model_.current() == breaker_state::half_open
                              ? std::max(most_permitted_, rules.permitted)
                              : 0;
        rules_ = rules;
        breaker_.reconfigure(listening(rules));
        model_.reconfigure(rules);
    }

    bool agree() {
        if (model_.current() != breaker_state::half_open) most_permitted_ = 0;
        most_permitted_ = std::max(most_permitted_, model_.permitted());
        return admitted_alike_ && breaker_.state() == model_.current() &&
               breaker_.counts() == model_.counts(now()) &&
               breaker_.retry_after().count() == model_.retry_after(now()) &&
               heard_ == model_.transitions && model_.in_flight(now()) <= most_permitted_;
    }

    test::random& random_;
    test::breaker_rules rules_;
    std::vector<std::pair<breaker_state, breaker_state>> heard_;
    breaker breaker_{listening(rules_)};
    test::breaker_model model_{rules_};
    std::vector<held> out_; // goes before the breaker
    bool admitted_alike_ = true;
    std::size_t most_permitted_ = 0; // in this half-open era
    std::string done_;
};

} // namespace

TEST_CASE("whatever happens in whatever order, a breaker does what the model does", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::string wrong;
        for (std::size_t i = 0; i < test::schedules() && wrong.empty(); ++i) {
            wrong = run(random).steps(50);
        }
        CHECK(wrong == "");
    }
}
