// SPDX-License-Identifier: BSL-1.0
// Files while the device makes them durable: what is cut short then, and what has to be.
#include "support/folder.hpp"
#include "tiered_cache/support.hpp"

#include <tidegate/file_cache_tier.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/tiered_cache.hpp>
#include <tidegate/worker_pool.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace asio = boost::asio;
namespace fs = std::filesystem;
using namespace std::chrono_literals;
using tidegate::file_cache_tier;

namespace {

struct durable_tag;
using clock_type = tidegate::testing::basic_manual_clock<durable_tag>;
using texts = tidegate::basic_tiered_cache<std::string, std::string, clock_type>;

// Called on the thread that waits for the device, with what it waits for.
std::function<void(fs::path const&)> on_sync;

struct fixture {
    test::folder folder;
    asio::io_context io{1};
    tidegate::worker_pool pool{io, tidegate::worker_pool_options().threads(1)};
    bool ended = false; // what `code_of` runs

    std::shared_ptr<file_cache_tier> open(fs::path const& path) {
        return test::run(io, file_cache_tier::open(
                                 pool, path, tidegate::file_cache_tier_options().durable(true)));
    }
    std::shared_ptr<file_cache_tier> open() { return open(folder.path()); }
    std::vector<std::string> values_of(file_cache_tier& tier, std::vector<std::string> keys) {
        std::vector<std::string> values;
        for (auto const& one : test::run(io, tier.get_many(std::move(keys))))
            values.push_back(one ? one->bytes : "none");
        return values;
    }

    /// While the first file is waited for, the loop calls `what` and all that follows from it.
    void during_first_sync(std::function<void()> what) {
        on_sync = [this, what](fs::path const&) {
            on_sync = nullptr;
            std::promise<void> done;
            asio::post(io, what);
            after_turns(20, done);
            done.get_future().wait();
        };
    }

    /// What `work`, which `signal` cancels, ends with.
    template <class T>
    tidegate::error_code code_of(asio::awaitable<T> work, asio::cancellation_signal& signal) {
        tidegate::error_code code;
        ended = false;
        auto running = [&]() -> asio::awaitable<void> {
            co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
            try {
                co_await std::move(work);
            } catch (boost::system::system_error const& e) {
                code = e.code();
            }
            ended = true;
        };
        asio::co_spawn(io, running(),
                       asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
        io.restart();
        io.run();
        return code;
    }

    ~fixture() { on_sync = nullptr; }

private:
    void after_turns(int n, std::promise<void>& done) {
        asio::post(io, [this, n, &done] {
            if (n == 0) done.set_value();
            else after_turns(n - 1, done);
        });
    }
};

} // namespace

// In front of libc's.
extern "C" int fsync(int descriptor) {
    if (auto const call = on_sync) // which may replace itself
        call(fs::read_symlink("/proc/self/fd/" + std::to_string(descriptor)));
    return static_cast<int>(::syscall(SYS_fsync, descriptor));
}

TEST_CASE_METHOD(fixture, "values that were not all written are an error") {
    auto const tier = open();
    test::run(io, tier->put_many({{"a", {"old"}}, {"b", {"old"}}}));
    asio::cancellation_signal signal;
    during_first_sync([&] { signal.emit(asio::cancellation_type::total); });
    CHECK(code_of(tier->put_many({{"a", {"new"}}, {"b", {"new"}}}), signal) ==
          asio::error::operation_aborted);
    CHECK(values_of(*tier, {"a", "b"}) == std::vector<std::string>{"new", "old"});
}

TEST_CASE_METHOD(fixture, "a write that is cancelled after its last value is done") {
    auto const tier = open();
    asio::cancellation_signal signal;
    during_first_sync([&] { signal.emit(asio::cancellation_type::total); });
    CHECK_FALSE(code_of(tier->put_many({{"a", {"new"}}}), signal));
    CHECK(values_of(*tier, {"a"}) == std::vector<std::string>{"new"});
}

TEST_CASE_METHOD(fixture, "values that were not all read are an error, and no misses") {
    auto const tier = open();
    // Who opens a pipe to read waits for somebody who writes.
    std::vector<fs::path> pipes;
    for (auto const key : {"a", "b"}) {
        test::run(io, tier->put_many({{key, {"value"}}}));
        for (auto const& one : fs::recursive_directory_iterator(folder.path())) {
            if (one.is_regular_file()) pipes.push_back(one.path());
        }
        fs::remove(pipes.back());
        REQUIRE(::mkfifo(pipes.back().c_str(), 0600) == 0);
    }
    test::run(io, tier->put_many({{"c", {"value"}}}));
    asio::cancellation_signal signal;
    std::vector<int> writers;
    std::function<void()> write = [&] {
        if (ended || writers.size() == pipes.size()) return;
        int const writer = ::open(pipes[writers.size()].c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        if (writer >= 0) writers.push_back(writer); // it is being read
        if (writers.size() == 1) signal.emit(asio::cancellation_type::total);
        asio::post(io, write);
    };
    asio::post(io, write);
    CHECK(code_of(tier->get_many({"a", "b", "c"}), signal) == asio::error::operation_aborted);
    CHECK_FALSE(writers.empty());
    CHECK(values_of(*tier, {"a", "c"}) == std::vector<std::string>{"none", "value"});
    for (int const one : writers) ::close(one);
}

TEST_CASE_METHOD(fixture, "a batch that takes too long leaves no older value to be found") {
    auto const tier = open();
    std::vector<std::string> const keys{"a", "b", "c", "d"};
    {
        texts cache(io, tidegate::cache_options<std::string, std::string>().max_entries(10), tier);
        for (auto const& key : keys) cache.put(key, "old");
        test::run(io, cache.flush());
        REQUIRE(values_of(*tier, keys) == std::vector<std::string>(4, "old"));
        for (auto const& key : keys) cache.put(key, "new");
        during_first_sync([] { clock_type::advance(1s); });
        test::run(io, cache.flush());
        REQUIRE_FALSE(on_sync);
    }
    for (auto const& value : values_of(*tier, keys)) CHECK(value != "old");
}

TEST_CASE_METHOD(fixture, "a folder that is made for a durable value is durable, too") {
    auto const tier = open();
    std::vector<fs::path> synced;
    on_sync = [&](fs::path const& what) { synced.push_back(what); };
    test::run(io, tier->put_many({{"a", {"one"}}}));
    REQUIRE(synced.size() == 3);
    fs::path const values = fs::directory_iterator(folder.path())->path();
    CHECK(synced[0] == folder.path()); // before there is a value in it
    CHECK(synced[1].parent_path() == values);
    CHECK(synced[2] == values);
    synced.clear();
    test::run(io, tier->put_many({{"a", {"two"}}}));
    REQUIRE(synced.size() == 2);
    CHECK(synced[0].parent_path() == values);
    CHECK(synced[1] == values);
}

TEST_CASE_METHOD(fixture, "folders that are made to open a durable one are durable, too") {
    std::vector<fs::path> synced;
    on_sync = [&](fs::path const& what) { synced.push_back(what); };
    open(folder.path() / "a" / "b");
    CHECK(synced == std::vector<fs::path>{folder.path() / "a", folder.path()});
    synced.clear();
    open(folder.path() / "a" / "b");
    CHECK(synced.empty());
}
