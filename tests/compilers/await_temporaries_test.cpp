// SPDX-License-Identifier: BSL-1.0
// What docs/compilers.md says of g++ 12.0 to 12.2 is so, on these compilers and on no other.
#include <tidegate/detail/compat.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <catch2/catch_test_macros.hpp>

#include <exception>
#include <memory>
#include <string>
#include <utility>

namespace asio = boost::asio;

namespace {

// Counts how often it is constructed and destroyed, and breaks nothing when the two differ.
struct counted {
    explicit counted(int& balance) : balance_(&balance) { ++*balance_; }
    counted(counted const& other) : balance_(other.balance_) { ++*balance_; }
    counted& operator=(counted const&) = delete;
    ~counted() { --*balance_; }

private:
    int* balance_;
};

struct aggregate {
    counted part;
};

template <class Callable>
asio::awaitable<void> call(Callable callable) {
    callable();
    co_return;
}

asio::awaitable<void> take(aggregate) { co_return; }

asio::awaitable<void> awaits_temporary_lambda(int& balance) {
    counted const data(balance);
    co_await call([data] { (void)data; });
}

asio::awaitable<void> awaits_named_lambda(int& balance) {
    counted const data(balance);
    auto named = [data] { (void)data; };
    co_await call(named);
}

asio::awaitable<void> awaits_temporary_aggregate(int& balance) {
    co_await take({counted(balance)});
}

asio::awaitable<void> awaits_named_aggregate(int& balance) {
    aggregate const named{counted(balance)};
    co_await take(named);
}

// Objects that are left when the coroutine has ended; below zero if one died twice.
template <class Coroutine>
int balance_after(Coroutine coroutine) {
    int balance = 0;
    asio::io_context io;
    asio::co_spawn(io, coroutine(balance), [](std::exception_ptr e) { CHECK_FALSE(e); });
    io.run();
    return balance;
}

#if defined(TIDEGATE_DOUBLE_DESTROYS_AWAIT_TEMPORARIES)
constexpr int after_a_temporary = -1;
#else
constexpr int after_a_temporary = 0;
#endif

} // namespace

TEST_CASE("a lambda or aggregate written into an awaited call dies twice on g++ 12.2 only") {
    CHECK(balance_after(awaits_temporary_lambda) == after_a_temporary);
    CHECK(balance_after(awaits_temporary_aggregate) == after_a_temporary);
}

TEST_CASE("a lambda or aggregate that was named first dies once everywhere") {
    CHECK(balance_after(awaits_named_lambda) == 0);
    CHECK(balance_after(awaits_named_aggregate) == 0);
}

TEST_CASE("temporaries are refused where the compiler would destroy them twice") {
    auto owner = [data = std::make_shared<int>(1)] { return *data; };
    auto plain = [number = 1] { return number; };
    using tidegate::detail::survives_await_as_temporary;
    CHECK(survives_await_as_temporary<decltype(owner)&>);
    CHECK(survives_await_as_temporary<decltype(plain)>);
    CHECK(survives_await_as_temporary<decltype(owner)> == (after_a_temporary == 0));
}
