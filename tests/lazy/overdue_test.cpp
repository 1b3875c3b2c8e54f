// SPDX-License-Identifier: BSL-1.0
// A load that takes too long has failed, and that is remembered as any failure is.
#include <tidegate/lazy.hpp>
#include <tidegate/lazy_map.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/timer_for.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>

#include <memory>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;
using tidegate::lazy_options;

namespace {

struct overdue_tag;
using test_clock = tidegate::testing::basic_manual_clock<overdue_tag>;

struct fixture {
    asio::io_context io;
    int loads = 0;
    bool hangs = true;

    asio::awaitable<int> load() {
        int const mine = ++loads;
        if (hangs) {
            tidegate::timer_for_t<test_clock, asio::any_io_executor> never(
                co_await asio::this_coro::executor);
            never.expires_after(24h);
            co_await never.async_wait(asio::deferred);
        }
        co_return mine;
    }
};

struct lazy_value : fixture {
    tidegate::basic_lazy<int, test_clock> value{io, [this] { return load(); },
                                                lazy_options{}.load_timeout(1s).keep_failure(10s)};

    template <class Handler>
    void get(Handler handler) {
        value.async_get(std::move(handler));
    }
    template <class Handler>
    void reload(Handler handler) {
        value.async_reload(std::move(handler));
    }
    void reset() { value.reset(); }
};

struct lazy_entry : fixture {
    tidegate::basic_lazy_map<std::string, int, std::hash<std::string>, std::equal_to<std::string>,
                             test_clock>
        values{io, lazy_options{}.load_timeout(1s).keep_failure(10s)};

    lazy_entry() {
        values.register_loader("key", [this] { return load(); });
    }
    template <class Handler>
    void get(Handler handler) {
        values.async_get("key", std::move(handler));
    }
    template <class Handler>
    void reload(Handler handler) {
        values.async_reload("key", std::move(handler));
    }
    void reset() { values.reset("key"); }
};

// What became of one call.
struct result {
    bool done = false;
    error_code failure;
    int value = 0;

    auto handler() {
        return [this](std::exception_ptr e, std::shared_ptr<int> v) {
            done = true;
            value = v ? *v : 0;
            try {
                if (e) std::rethrow_exception(e);
            } catch (boost::system::system_error const& why) {
                failure = why.code();
            }
        };
    }
};

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

} // namespace

TEMPLATE_TEST_CASE("a load that takes too long is a failure that is kept", "", lazy_value,
                   lazy_entry) {
    TestType f;
    result slow, meanwhile, later;
    f.get(slow.handler());
    run(f.io);
    test_clock::advance(1s);
    run(f.io);
    CHECK(slow.failure == error::deadline_exceeded);
    f.hangs = false;

    f.get(meanwhile.handler());
    run(f.io);
    CHECK(meanwhile.failure == error::deadline_exceeded);
    CHECK(f.loads == 1);
    SECTION("until the time is over") {
        test_clock::advance(10s);
        f.get(later.handler());
    }
    SECTION("until it is reset") {
        f.reset();
        f.get(later.handler());
    }
    SECTION("until it is reloaded") { f.reload(later.handler()); }
    run(f.io);
    CHECK(later.value == 2);
}

TEMPLATE_TEST_CASE("a load that was reset and takes too long is not remembered", "", lazy_value,
                   lazy_entry) {
    TestType f;
    result slow, later;
    f.get(slow.handler());
    run(f.io);
    f.reset();
    test_clock::advance(1s);
    run(f.io);
    CHECK(slow.failure == error::deadline_exceeded);
    f.hangs = false;
    f.get(later.handler());
    run(f.io);
    CHECK(later.value == 2);
}
