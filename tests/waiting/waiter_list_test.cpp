// SPDX-License-Identifier: BSL-1.0
// The parts of the waiting room that need no executor.
#include <tidegate/detail/deadline_queue.hpp>
#include <tidegate/detail/waiter_directory.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <map>
#include <memory>
#include <set>

using namespace tidegate::detail;

namespace {

struct counts {
    int completed = 0, aborted = 0, destroyed = 0;
};

class counted_waiter : public waiter {
public:
    explicit counted_waiter(counts& c, int n = 0)
        : waiter(&counted_waiter::end), number(n), c_(c) {}
    int const number;

private:
    static void end(waiter* w, outcome how, void*) {
        auto* const self = static_cast<counted_waiter*>(w);
        if (how == outcome::destroy) ++self->c_.destroyed;
        else if (how == outcome::abort) ++self->c_.aborted;
        else ++self->c_.completed;
        delete self;
    }
    counts& c_;
};

int number_of(waiter* w) { return static_cast<counted_waiter*>(w)->number; }

} // namespace

TEST_CASE("a waiter list keeps the order in which waiters came") {
    counts c;
    waiter_list list;
    for (int i = 0; i < 3; ++i) list.push_back(*new counted_waiter(c, i));
    REQUIRE(list.size() == 3);
    for (int i = 0; i < 3; ++i) {
        waiter* const w = list.pop_front();
        CHECK(number_of(w) == i);
        w->abort({});
    }
    CHECK(list.empty());
    CHECK(list.pop_front() == nullptr);
    CHECK(c.aborted == 3);
}

TEST_CASE("a waiter leaves a list from the front, the middle and the back") {
    counts c;
    waiter_list list;
    counted_waiter* w[4];
    for (int i = 0; i < 4; ++i) list.push_back(*(w[i] = new counted_waiter(c, i)));
    list.erase(*w[1]);
    list.erase(*w[3]);
    list.erase(*w[0]);
    REQUIRE(list.size() == 1);
    CHECK(list.front() == w[2]);
    for (int i : {0, 1, 3}) w[i]->destroy();
}

TEST_CASE("a list destroys the waiters that it still has") {
    counts c;
    {
        waiter_list list;
        list.push_back(*new counted_waiter(c));
        list.push_back(*new counted_waiter(c));
    }
    CHECK(c.destroyed == 2);
}

TEST_CASE("appending moves all of a list behind another") {
    counts c;
    waiter_list a, b;
    a.push_back(*new counted_waiter(c, 0));
    b.push_back(*new counted_waiter(c, 1));
    b.push_back(*new counted_waiter(c, 2));
    a.append(b);
    CHECK(b.empty());
    REQUIRE(a.size() == 3);
    for (int i = 0; i < 3; ++i) {
        waiter* const w = a.pop_front();
        CHECK(number_of(w) == i);
        w->destroy();
    }
}

TEST_CASE("an id that was given back names nobody, also when its place is used again") {
    counts c;
    waiter_directory directory;
    auto* const first = new counted_waiter(c);
    auto* const second = new counted_waiter(c);
    waiter_id const old = directory.enlist(*first);
    CHECK(directory.find(old) == first);
    directory.strike(*first);
    CHECK(directory.find(old) == nullptr);
    waiter_id const now = directory.enlist(*second);
    CHECK(now.slot == old.slot);
    CHECK(directory.find(old) == nullptr);
    CHECK(directory.find(now) == second);
    CHECK(directory.find({}) == nullptr);
    directory.strike(*second);
    directory.strike(*second); // an id is given back once
    first->destroy();
    second->destroy();
}

TEST_CASE("the deadline queue agrees with a sorted map over random comings and goings") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random random(seed);
        counts c;
        waiter_directory directory;
        deadline_queue<int> queue;
        std::map<waiter*, int> waiting;
        auto const leave = [&](waiter* w) {
            waiting.erase(w);
            directory.strike(*w);
            queue.forget_one(directory);
            w->destroy();
        };
        int now = 0;
        for (int step = 0; step < 20000; ++step) {
            switch (test::below(random, 4)) {
            case 0:
            case 1: {
                waiter* const w = new counted_waiter(c);
                int const deadline = now + static_cast<int>(test::below(random, 50));
                queue.add(deadline, directory.enlist(*w));
                waiting[w] = deadline;
                break;
            }
            case 2:
                if (!waiting.empty()) {
                    auto chosen = waiting.begin();
                    std::advance(chosen, static_cast<long>(test::below(random, waiting.size())));
                    leave(chosen->first);
                }
                break;
            case 3:
                now += static_cast<int>(test::below(random, 20));
                while (waiter* const w = queue.due(now, directory)) {
                    REQUIRE(waiting.at(w) <= now);
                    leave(w);
                }
                break;
            }
            REQUIRE(queue.any() == !waiting.empty());
            if (!queue.any()) continue;
            int earliest = waiting.begin()->second;
            for (auto const& [w, deadline] : waiting) earliest = std::min(earliest, deadline);
            REQUIRE(queue.earliest(directory) == earliest);
        }
        while (!waiting.empty()) leave(waiting.begin()->first);
    }
}
