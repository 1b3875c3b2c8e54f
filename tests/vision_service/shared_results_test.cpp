// SPDX-License-Identifier: BSL-1.0
// Results in a folder that processes share, of which some die, and some are slow.
#include "shared_results.hpp"

#include "shared_folder.hpp"
#include "temp_folder.hpp"
#include "vision_queue/shared_queue.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/deferred.hpp>
#include <boost/asio/post.hpp>

#include <fstream>
#include <iterator>

using test::redis_server;
namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace service = vision::service;

namespace {

constexpr auto hour = std::chrono::hours(1);

void write(const fs::path& file, const std::string& text) {
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
}

// Its files are in a folder of their own.
service::analysis run_in(const fs::path& folder, const std::string& found) {
    service::analysis made;
    made.detections = folder / "detections.jsonl";
    write(made.detections, found);
    return made;
}

std::string text_of(const fs::path& file) {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
}

} // namespace

TEST_CASE("a result takes the place of one that somebody died removing") {
    temp_folder const folder;
    fs::path const place = folder / "key";
    write(place / "detections.jsonl", "left");
    auto const made = run_in(folder / "key.run", "new");
    auto const published = service::publish_analysis(made, place);
    CHECK(published.detections == place / "detections.jsonl");
    CHECK(text_of(published.detections) == "new");
    CHECK(service::load_analysis(place));
    CHECK_FALSE(fs::exists(folder / "key.run"));
    auto const aside = service::runs_of(folder.path(), "key"); // as a run, it is swept
    REQUIRE(aside.size() == 1);
    CHECK(text_of(aside[0] / "detections.jsonl") == "left");
}

TEST_CASE("a result that is whole stays when another one comes") {
    temp_folder const folder;
    fs::path const place = folder / "key";
    auto const first = service::publish_analysis(run_in(folder / "key.1", "first"), place);
    auto const second = service::publish_analysis(run_in(folder / "key.2", "second"), place);
    CHECK(text_of(second.detections) == "first");
    CHECK(service::runs_of(folder.path(), "key").empty());
}

TEST_CASE("a result that is asked for while it is swept away stays") {
    NEEDS_REDIS();
    redis_server const server;
    temp_folder const folder;
    service::data_folder const data(folder.path(), service::data_folder::owner::many);
    fs::path const asked_for = data.results() / std::string(64, 'a');
    fs::path const gone = data.results() / std::string(64, 'b');
    for (const fs::path& each : {asked_for, gone}) {
        fs::path const run = service::new_run_of(each);
        static_cast<void>(service::publish_analysis(run_in(run, "found"), each));
    }
    for (auto const& entry : fs::recursive_directory_iterator(folder.path())) {
        fs::last_write_time(entry.path(), fs::file_time_type::clock::now() - 2 * hour);
    }
    test::worker one(server);
    tidegate::worker_pool disk(one.io.get_executor(), tidegate::worker_pool_options().threads(1));
    auto load = [&] { return service::load_analysis(asked_for); };
    auto ask = [&]() -> asio::awaitable<void> {
        // Comes after the list of what is old, and before it is known what of that is needed.
        co_await asio::post(one.io, asio::deferred);
        auto const found = co_await disk.submit(load);
        CHECK(found);
    };
    auto sweep = [&]() -> asio::awaitable<std::size_t> {
        asio::co_spawn(one.io, ask(), asio::detached);
        auto sweeping = service::sweep_shared_folder(data, one.queue, disk, hour);
        co_return co_await std::move(sweeping);
    };
    CHECK(one.run(sweep()) == 1);
    CHECK(service::load_analysis(asked_for));
    CHECK_FALSE(fs::exists(gone));
    CHECK(std::distance(fs::directory_iterator(data.results()), {}) == 1);
    disk.drain();
    disk.join();
}
