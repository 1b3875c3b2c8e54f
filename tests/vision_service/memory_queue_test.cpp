// SPDX-License-Identifier: BSL-1.0
// The queue of one process, alone: what restarts, full disks and impatient clients do to it.
#include "error.hpp"
#include "memory_job_queue.hpp"
#include "temp_folder.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include <future>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace asio = boost::asio;
namespace fs = std::filesystem;
using namespace vision::service;

namespace {

job some_job(char name, const fs::path& source = {}) {
    job one;
    one.id = std::string(32, name);
    one.content = std::string(64, '0');
    one.source = source;
    one.created = job::clock::now();
    return one;
}

// A queue that keeps its jobs in a folder.
class kept_queue {
    fs::path folder_;
    asio::io_context io_{1};
    tidegate::worker_pool disk_{io_.get_executor(), tidegate::worker_pool_options().threads(1)};

public:
    memory_job_queue queue;

    explicit kept_queue(const fs::path& folder, memory_job_queue_options options = {})
        : folder_(folder),
          queue(io_.get_executor(), options,
                std::make_unique<job_history>(io_.get_executor(), disk_, folder)) {}

    template <class T>
    std::future<T> begin(asio::awaitable<T> what) {
        return asio::co_spawn(io_, std::move(what), asio::use_future);
    }
    // All that was begun, as far as it gets.
    void run() {
        io_.restart();
        io_.run();
    }
    template <class T>
    T get(asio::awaitable<T> what) {
        auto result = begin(std::move(what));
        run();
        return result.get();
    }

    // What the process after this one would find of a job.
    job_state on_disk(const job& one) {
        auto const damaged = [](const fs::path& file, const std::string& why) {
            FAIL(file.string() + ": " + why);
        };
        for (const auto& each : job_history(io_.get_executor(), disk_, folder_).load(damaged)) {
            if (each.what.id == one.id) return each.what.state;
        }
        FAIL("no record of " + one.id);
        return {};
    }
};

} // namespace

TEST_CASE("all jobs of an earlier process are taken, also more than may wait") {
    temp_folder const folder;
    auto const video = folder.put("video", "x");
    memory_job_queue_options options;
    options.max_queued = 1;
    asio::io_context io(1);
    memory_job_queue queue(io.get_executor(), options);
    queue.restore(
        {{some_job('a', video), ""}, {some_job('b', video), ""}, {some_job('c', video), ""}});
    std::vector<std::future<taken_job>> taking;
    for (int i = 0; i < 3; ++i) {
        taking.push_back(asio::co_spawn(io, queue.take(), asio::use_future));
    }
    io.poll();
    CHECK(queue.running() == 3);
    queue.close(); // ends what waits
    io.run();
}

TEST_CASE("an end that could not be written is written as soon as the disk allows") {
    temp_folder const folder;
    auto const one = some_job('a', folder.put("video", "x"));
    kept_queue site(folder / "jobs");
    fs::create_directory(folder / "jobs");
    CHECK(site.get(site.queue.submit(one, "")).what == submitted::outcome::accepted);
    fs::rename(folder / "jobs", folder / "away"); // from here on nothing can be written
    bool const succeeds = GENERATE(true, false);
    if (succeeds) {
        auto const taken = site.get(site.queue.take());
        site.get(site.queue.finish(taken.lease, {job_state::succeeded, {}, {}, "r"}));
    } else {
        site.get(site.queue.cancel(one.id));
    }
    fs::rename(folder / "away", folder / "jobs");
    CHECK(site.on_disk(one) == job_state::queued);
    SECTION("with the next job") { site.get(site.queue.submit(some_job('b'), "")); }
    SECTION("when the process ends") { site.get(site.queue.save_rest()); }
    CHECK(site.on_disk(one) == (succeeds ? job_state::succeeded : job_state::cancelled));
}

TEST_CASE("who repeats a submission is not told that it is known before it is written") {
    temp_folder const folder;
    kept_queue site(folder / "jobs");
    SECTION("it cannot be written") {
        auto first = site.begin(site.queue.submit(some_job('a'), "key"));
        auto second = site.begin(site.queue.submit(some_job('b'), "key"));
        site.run();
        CHECK_THROWS_AS(first.get(), vision::output_error);
        CHECK_THROWS_AS(second.get(), vision::output_error);
        CHECK(site.get(site.queue.list(10)).empty());
        CHECK(site.queue.queued() == 0);
    }
    SECTION("it is written") {
        fs::create_directory(folder / "jobs");
        auto first = site.begin(site.queue.submit(some_job('a'), "key"));
        auto second = site.begin(site.queue.submit(some_job('b'), "key"));
        site.run();
        CHECK(first.get().what == submitted::outcome::accepted);
        auto const known = second.get();
        CHECK(known.what == submitted::outcome::known);
        CHECK(known.entry->id == some_job('a').id);
    }
}

TEST_CASE("of two records with one idempotency key the younger has it") {
    temp_folder const folder;
    memory_job_queue_options options;
    options.keep = std::chrono::seconds(60);
    kept_queue site(folder.path(), options);
    job older = some_job('a'), younger = some_job('b');
    older.state = younger.state = job_state::succeeded;
    older.content = std::string(64, '1');
    older.created = older.ended = younger.created - std::chrono::seconds(30);
    younger.ended = younger.created;
    SECTION("both are remembered") {}
    SECTION("the older one is forgotten") { older.created = older.ended -= std::chrono::hours(1); }
    site.queue.restore({{older, "key"}, {younger, "key"}});
    auto const again = site.get(site.queue.submit(some_job('c'), "key"));
    CHECK(again.what == submitted::outcome::known);
    CHECK(again.entry->id == younger.id);
}

#if defined(__GLIBC__)
TEST_CASE("who watched a job that waits and has left takes no memory") {
    temp_folder const folder;
    kept_queue site(folder.path());
    site.queue.restore({{some_job('a', folder.put("video", "x")), ""}});
    auto const watch_often = [&]() -> asio::awaitable<void> {
        for (int i = 0; i < 10000; ++i) {
            auto watching = site.queue.watch(some_job('a').id);
            auto const watcher = co_await std::move(watching);
            REQUIRE(watcher != nullptr);
        }
    };
    site.get(watch_often());
    auto const before = mallinfo2().uordblks;
    site.get(watch_often());
    CHECK(mallinfo2().uordblks < before + 100'000); // bytes
}
#endif
