// SPDX-License-Identifier: BSL-1.0
// Built with TIDEGATE_NO_TRACE: nothing is left of the hooks but a refusal.
#if !defined(TIDEGATE_NO_TRACE)
#error "to be built with TIDEGATE_NO_TRACE"
#endif

#include <tidegate/tidegate.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <boost/asio/io_context.hpp>

#include <stdexcept>
#include <string>
#include <type_traits>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

struct deaf final : tidegate::trace_observer {
    void on_event(tidegate::trace_record const&) noexcept override { FAIL_CHECK("heard"); }
};

// A member that takes no room.
struct empty_beside_a_word {
    [[no_unique_address]] tidegate::detail::trace_source trace;
    void* word;
};
static_assert(std::is_empty_v<tidegate::detail::trace_source>);
static_assert(sizeof(empty_beside_a_word) == sizeof(void*));
static_assert(!tidegate::detail::trace_source::is_heard());
static_assert(std::is_same_v<tidegate::error, tidegate::v0_no_trace::error>,
              "mixed with code that has the hooks it would not link");

template <class Primitive>
void check_refused(Primitive& primitive, std::string const& name) {
    CHECK_THROWS_MATCHES(
        primitive.observe(std::make_shared<deaf>(), "x"), std::logic_error,
        Catch::Matchers::Message("tidegate: " + name + " observe: built with TIDEGATE_NO_TRACE"));
    CHECK_THROWS_AS(primitive.observe(nullptr, "x"), std::invalid_argument);
}

} // namespace

TEST_CASE("compiled out, observers are refused, and the primitives work") {
    asio::io_context io;
    tidegate::semaphore s(io, 1);
    check_refused(s, "semaphore");
    auto held = s.try_acquire();
    CHECK_FALSE(s.try_acquire());
    bool granted = false;
    s.async_acquire([&](tidegate::error_code ec, tidegate::semaphore::permit) { granted = !ec; });
    held.release();
    io.run();
    CHECK(granted);

    tidegate::rate_limiter r(io, tidegate::rate_limiter_options().rate(1, 1h));
    check_refused(r, "rate_limiter");
    CHECK(r.try_acquire());
    CHECK_FALSE(r.try_acquire());

    tidegate::circuit_breaker b;
    check_refused(b, "circuit_breaker");
    tidegate::retry again;
    check_refused(again, "retry");
    tidegate::cache<int, int> c(io, tidegate::cache_options<int, int>().max_entries(1));
    check_refused(c, "cache");
    c.put(1, 1);
    CHECK(c.get_if_present(1));
    tidegate::worker_pool pool(io);
    check_refused(pool, "worker_pool");
    tidegate::task_scope scope(io);
    check_refused(scope, "task_scope");
    tidegate::background_tasks<int> tasks(io);
    check_refused(tasks, "background_tasks");
    tidegate::lazy<int> one(pool, [] { return 1; });
    check_refused(one, "lazy");
    tidegate::lazy_map<int, int> values(io);
    check_refused(values, "lazy_map");
    tidegate::resource_budget<int, int> budget(io, {1});
    check_refused(budget, "resource_budget");
    auto open = []() -> asio::awaitable<int> { co_return 1; };
    auto check = [](int&) -> asio::awaitable<bool> { co_return true; };
    tidegate::connection_pool<int> sessions(io, {}, open, check);
    check_refused(sessions, "connection_pool");
}
