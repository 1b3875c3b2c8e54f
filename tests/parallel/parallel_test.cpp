// SPDX-License-Identifier: BSL-1.0
// Items: each once, so many at a time, results in order, and how it ends early.
#include <tidegate/parallel.hpp>
#include <tidegate/sleep.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>

#include <algorithm>
#include <exception>
#include <memory>
#include <numeric>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using tidegate::on_error;
using tidegate::parallel_for_each;
using tidegate::parallel_map;

namespace {

struct parallel_clock {};
using clock_type = tidegate::testing::basic_manual_clock<parallel_clock>;

asio::awaitable<void> pause(std::chrono::milliseconds time) {
    return tidegate::sleep_for<clock_type>(time);
}

std::vector<int> numbers(int n) {
    std::vector<int> all(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), 0);
    return all;
}

std::string text_of(std::exception_ptr e) {
    try {
        if (e) std::rethrow_exception(e);
        return "";
    } catch (boost::system::system_error const& s) {
        return s.code() == asio::error::operation_aborted ? "cancelled" : s.what();
    } catch (std::exception const& s) {
        return s.what();
    }
}

/// Runs a coroutine to its end, moving the clock whenever nothing else is left to do.
template <class T>
class running {
public:
    explicit running(asio::awaitable<T> work) {
        auto finish = [this](std::exception_ptr e, auto... value) {
            failure = text_of(e);
            ended = true;
            (result.push_back(std::move(value)), ...);
        };
        asio::co_spawn(io, std::move(work), asio::bind_cancellation_slot(signal.slot(), finish));
    }
    void turn() {
        io.restart();
        io.poll();
    }
    running& to_the_end() {
        for (turn(); !ended; turn()) {
            auto const next = clock_type::next_expiry();
            REQUIRE(next);
            clock_type::advance(*next - clock_type::now());
        }
        return *this;
    }

    asio::io_context io{1};
    asio::cancellation_signal signal;
    bool ended = false;
    std::string failure;
    std::vector<std::conditional_t<std::is_void_v<T>, int, T>> result;
};

/// How many run at once, and which have been started.
struct counted {
    int now = 0, most = 0;
    std::vector<int> started;
    int cancelled = 0;

    asio::awaitable<int> operator()(int i) {
        started.push_back(i);
        most = std::max(most, ++now);
        try {
            co_await pause(std::chrono::milliseconds(1 + i * 7 % 5));
        } catch (...) {
            ++cancelled;
            --now;
            throw;
        }
        --now;
        if (i == fail_at) throw std::runtime_error("item " + std::to_string(i));
        co_return 10 * i;
    }
    int fail_at = -1;
};

} // namespace

TEST_CASE("results come in the order of the items, never more than the limit at once") {
    for (int const limit : {1, 3, 8, 100}) {
        counted f;
        auto const items = numbers(20);
        running run(parallel_map(items, limit, std::ref(f)));
        run.to_the_end();
        REQUIRE(run.result.size() == 1);
        std::vector<int> expected;
        for (int i : items) expected.push_back(10 * i);
        CHECK(run.result[0] == expected);
        CHECK(f.most == std::min(limit, 20));
        CHECK(f.started.size() == 20);
    }
}

TEST_CASE("no items are done at once") {
    counted f;
    running mapped(parallel_map(std::vector<int>(), 4, std::ref(f)));
    mapped.to_the_end();
    CHECK(mapped.result.at(0).empty());
    auto nothing = [](int) -> asio::awaitable<void> { co_return; };
    running each(parallel_for_each(std::vector<int>(), 4, nothing));
    each.to_the_end();
    CHECK(each.failure.empty());
    running collected(parallel_map<on_error::collect>(std::vector<int>(), 4, std::ref(f)));
    collected.to_the_end();
    CHECK(collected.result.at(0).empty());
}

TEST_CASE("stop: the first failure is thrown, nothing more starts, what runs is cancelled") {
    counted f;
    f.fail_at = 5; // takes 1 ms, and is the first with that
    running run(parallel_map(numbers(100), 6, std::ref(f)));
    run.to_the_end();
    CHECK(run.failure == "item 5");
    CHECK(f.started.size() < 20);
    CHECK(f.cancelled > 0);
    CHECK(f.now == 0); // all of them were waited for
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("stop: a failure during the cancellation does not replace the first") {
    int cleaned = 0;
    auto f = [&](int i) -> asio::awaitable<void> {
        if (i == 0) {
            co_await pause(1ms);
            throw std::runtime_error("first");
        }
        try {
            co_await pause(1h);
        } catch (...) {
            ++cleaned;
        }
        throw std::runtime_error("second");
    };
    running run(parallel_for_each(numbers(5), 3, f));
    run.to_the_end();
    CHECK(run.failure == "first");
    CHECK(cleaned == 2);
}

TEST_CASE("collect: all items run, and each has its result or its failure") {
    auto f = [](int i) -> asio::awaitable<std::string> {
        co_await pause(1ms);
        if (i % 3 == 0) throw std::runtime_error("item " + std::to_string(i));
        co_return std::to_string(i);
    };
    running run(parallel_map<on_error::collect>(numbers(10), 4, f));
    run.to_the_end();
    auto& each = run.result.at(0);
    REQUIRE(each.size() == 10);
    for (std::size_t i = 0; i < 10; ++i) {
        CHECK(each[i].has_value() == (i % 3 != 0));
        if (each[i]) CHECK(each[i].value() == std::to_string(i));
        else CHECK(text_of(each[i].why().exception()) == "item " + std::to_string(i));
    }
}

TEST_CASE("collect: parallel_for_each returns the failures with their index, in order") {
    auto f = [](int i) -> asio::awaitable<void> {
        co_await pause(std::chrono::milliseconds(20 - i));
        if (i % 4 == 1) throw std::runtime_error("item " + std::to_string(i));
    };
    running run(parallel_for_each<on_error::collect>(numbers(10), 10, f));
    run.to_the_end();
    auto const& failed = run.result.at(0);
    REQUIRE(failed.size() == 3);
    CHECK(failed[0].index == 1);
    CHECK(failed[1].index == 5);
    CHECK(failed[2].index == 9);
    CHECK(text_of(failed[2].why.exception()) == "item 9");
}

TEST_CASE("cancelling the caller stops it, and waits for what runs") {
    for (bool const collecting : {false, true}) {
        int started = 0, cleaned = 0;
        auto f = [&](int) -> asio::awaitable<void> {
            ++started;
            try {
                co_await pause(1h);
            } catch (...) {
                ++cleaned;
            }
            co_await asio::this_coro::reset_cancellation_state();
            co_await pause(5ms); // a clean-up that takes time
            ++cleaned;
        };
        auto test = [&]<on_error mode>() {
            running run(parallel_for_each<mode>(numbers(9), 3, f));
            run.turn();
            CHECK(started == 3);
            run.signal.emit(asio::cancellation_type::terminal);
            run.turn();
            CHECK(cleaned == 3);
            CHECK_FALSE(run.ended);
            run.to_the_end();
            CHECK(run.failure == "cancelled");
            CHECK(started == 3);
            CHECK(cleaned == 6);
        };
        if (collecting) test.operator()<on_error::collect>();
        else test.operator()<on_error::stop>();
    }
}

TEST_CASE("a function that throws before there is a coroutine fails its item") {
    auto f = [](int i) -> asio::awaitable<int> {
        if (i == 2) throw std::runtime_error("at once");
        return [](int v) -> asio::awaitable<int> { co_return v; }(i);
    };
    running run(parallel_map(numbers(5), 2, f));
    run.to_the_end();
    CHECK(run.failure == "at once");
    running collected(parallel_map<on_error::collect>(numbers(5), 2, f));
    collected.to_the_end();
    CHECK_FALSE(collected.result.at(0).at(2));
    CHECK(collected.result.at(0).at(4).value() == 4);
}

TEST_CASE("an iterator that throws ends it, in any mode") {
    auto const items = numbers(10);
    auto broken = items | std::views::transform([](int i) {
                      if (i == 6) throw std::runtime_error("range");
                      return i;
                  });
    auto f = [](int i) -> asio::awaitable<int> {
        co_await pause(1ms);
        co_return i;
    };
    running stopped(parallel_map(broken, 3, f));
    CHECK(stopped.to_the_end().failure == "range");
    running collected(parallel_map<on_error::collect>(broken, 3, f));
    CHECK(collected.to_the_end().failure == "range");
}

TEST_CASE("a range that can be passed through once gives its values, as there is room") {
    std::istringstream text("1 2 3 4 5 6 7 8");
    int most = 0, now = 0;
    auto f = [&](int i) -> asio::awaitable<int> {
        most = std::max(most, ++now);
        co_await pause(1ms);
        --now;
        co_return i* i;
    };
    running run(parallel_map(std::views::istream<int>(text), 3, f));
    run.to_the_end();
    CHECK(run.result.at(0) == std::vector{1, 4, 9, 16, 25, 36, 49, 64});
    CHECK(most == 3);
}

TEST_CASE("items and results may be of any movable type, and items can be changed in place") {
    struct answer {
        explicit answer(std::unique_ptr<int> v) : value(std::move(v)) {}
        std::unique_ptr<int> value;
    };
    std::vector<std::unique_ptr<int>> boxes;
    for (int i = 0; i < 4; ++i) boxes.push_back(std::make_unique<int>(i));
    auto take = [](std::unique_ptr<int>& box) -> asio::awaitable<answer> {
        auto mine = std::move(box);
        co_await pause(1ms);
        co_return answer(std::move(mine));
    };
    running run(parallel_map(boxes, 2, take));
    run.to_the_end();
    CHECK(*run.result.at(0).at(3).value == 3);
    CHECK_FALSE(boxes[0]);
    auto flags = [](int i) -> asio::awaitable<bool> { co_return i == 1; };
    running bools(parallel_map(std::views::iota(0, 3), 2, flags));
    bools.to_the_end();
    CHECK(bools.result.at(0) == std::vector<bool>{false, true, false});
}

TEST_CASE("a context that goes takes caller and items with it") {
    auto const alive = std::make_shared<int>(0);
    {
        asio::io_context io;
        auto f = [alive](int) -> asio::awaitable<void> { co_await pause(1h); };
        asio::co_spawn(asio::make_strand(io), parallel_for_each(numbers(9), 4, f),
                       [alive](std::exception_ptr) { FAIL("nobody may be called"); });
        io.poll();
        CHECK(alive.use_count() > 1);
    }
    CHECK(clock_type::pending() == 0);
    CHECK(alive.use_count() == 1);
}

TEST_CASE("a bad limit is refused by name") {
    auto f = [](int) -> asio::awaitable<void> { co_return; };
    CHECK_THROWS_WITH(parallel_for_each(numbers(2), 0, f),
                      ContainsSubstring("parallel limit is 0, allowed is 1 to 65536"));
    CHECK_THROWS_WITH(parallel_for_each(numbers(2), -1, f), ContainsSubstring("is -1"));
}
