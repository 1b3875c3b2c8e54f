// SPDX-License-Identifier: BSL-1.0
// What a remembered failure owns may use the map, also when the failure is forgotten.
#include <tidegate/lazy_map.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/timer_for.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error_code;
using tidegate::lazy_options;

namespace {

struct failure_tag;
using test_clock = tidegate::testing::basic_manual_clock<failure_tag>;
using map = tidegate::basic_lazy_map<std::string, int, std::hash<std::string>,
                                     std::equal_to<std::string>, test_clock>;

struct user_of_map {
    map& all;
    int& uses;

    user_of_map(map& m, int& n) : all(m), uses(n) {}
    ~user_of_map() {
        all.get_if_ready("key");
        ++uses;
    }
};

struct owning_failure : std::runtime_error {
    std::shared_ptr<user_of_map> owned;

    explicit owning_failure(std::shared_ptr<user_of_map> what)
        : std::runtime_error("it owns something"), owned(std::move(what)) {}
};

} // namespace

TEST_CASE("a failure that is forgotten is not destroyed under the map's lock") {
    asio::io_context io;
    int loads = 0;
    int uses = 0;
    bool fails_again = false;
    bool hangs = false;
    map all(io, lazy_options{}.load_timeout(1s).keep_failure(10s));
    all.register_loader("key", [&]() -> asio::awaitable<int> {
        if (++loads == 1) throw owning_failure(std::make_shared<user_of_map>(all, uses));
        if (fails_again) throw std::runtime_error("once more");
        if (hangs) {
            tidegate::timer_for_t<test_clock, asio::any_io_executor> never(
                co_await asio::this_coro::executor);
            never.expires_after(24h);
            co_await never.async_wait(asio::deferred);
        }
        co_return 7;
    });
    auto const get = [&] {
        bool failed = false;
        all.async_get("key", [&](std::exception_ptr e, std::shared_ptr<int>) { failed = bool(e); });
        io.restart();
        io.poll();
        if (hangs) {
            test_clock::advance(1s);
            io.restart();
            io.poll();
        }
        return !failed;
    };
    CHECK_FALSE(get());
    CHECK(uses == 0); // it is remembered
    test_clock::advance(10s);

    SECTION("when the value is there") { CHECK(get()); }
    SECTION("when another one takes its place") {
        fails_again = true;
        CHECK_FALSE(get());
    }
    SECTION("when another load takes too long") {
        hangs = true;
        CHECK_FALSE(get());
    }
    CHECK(loads == 2);
    CHECK(uses == 1);
}
