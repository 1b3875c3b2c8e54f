// SPDX-License-Identifier: BSL-1.0
// Two services that share their jobs through a real Redis, and their files through a folder.
#include "error.hpp"
#include "running_site.hpp"
#include "shared_folder.hpp"
#include "vision_queue/shared_queue.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdlib>

using test::redis_server;
using test::running_site;
using test::shapes_video;
using vision::service::job_state;
namespace fs = std::filesystem;

namespace {

auto shared_options(const redis_server& server, const temp_folder& folder) {
    auto options = test::usual_options();
    options.data = folder / "data";
    options.redis = server.config();
    options.shared.lease = std::chrono::milliseconds(500);
    options.shared.beat = std::chrono::milliseconds(20);
    return options;
}

void until_ready(running_site& site) {
    while (site.ask("GET", "/readyz").status != 200) std::this_thread::yield();
}

std::uint16_t free_port() {
    boost::asio::io_context io;
    test::tcp::acceptor any(io, {boost::asio::ip::address_v4::loopback(), 0});
    return any.local_endpoint().port();
}

void make_old(const fs::path& path) {
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(2));
}

} // namespace

TEST_CASE("a job that one process takes in and any does has its result from each") {
    NEEDS_REDIS();
    redis_server const server;
    temp_folder const folder;
    running_site one(shared_options(server, folder));
    running_site other(shared_options(server, folder));
    until_ready(one);
    until_ready(other);
    std::vector<std::string> ids;
    for (int n = 1; n <= 4; ++n) {
        ids.push_back(one.submit(shapes_video(), "?chunk=10&every_n=" + std::to_string(n)));
    }
    for (std::string const& id : ids) {
        CHECK(other.end_of(id).at("state").as_string() == "succeeded");
        auto const result = one.ask("GET", "/v1/jobs/" + id + "/result");
        CHECK(result.status == 200);
        CHECK(!result.body.empty());
        CHECK(other.ask("GET", "/v1/jobs/" + id + "/result").body == result.body);
        CHECK(other.ask("GET", "/v1/jobs/" + id + "/video").body.substr(4, 4) == "ftyp");
    }
    SECTION("and an equal one is not looked at again, by whichever process") {
        std::string const again = other.submit(shapes_video(), "?chunk=10&every_n=1");
        CHECK(one.end_of(again).at("state").as_string() == "succeeded");
        CHECK(other.ask("GET", "/v1/jobs/" + again + "/result").status == 200);
        CHECK(std::distance(fs::directory_iterator(folder / "data/results"), {}) == 4);
    }
    one.stop();
    other.stop();
    CHECK(fs::is_empty(folder / "data/uploads"));
}

TEST_CASE("a process that only works for others has metrics and health on a port, and no more") {
    NEEDS_REDIS();
    redis_server const server;
    temp_folder const folder;
    running_site takes_jobs(shared_options(server, folder));
    auto options = shared_options(server, folder);
    options.listens = false;
    options.port = free_port();
    running_site works(options);
    CHECK(works.port() == options.port);
    until_ready(works);
    CHECK(works.ask("GET", "/livez").status == 200);
    std::string const id = takes_jobs.submit(shapes_video(), "?every_n=10");
    CHECK(takes_jobs.end_of(id).at("state").as_string() == "succeeded");
    auto const metrics = works.ask("GET", "/metrics");
    CHECK(metrics.status == 200);
    CHECK(metrics.body.find("tidegate_vision_frames_inferred_total") != std::string::npos);
    for (std::string const target : {"/", "/v1/jobs", "/v1/config", "/v1/models"}) {
        CHECK(works.ask("GET", target).status == 404);
    }
    CHECK(works.ask("POST", "/v1/jobs", shapes_video()).status == 404);
    works.begin_to_stop();
    works.stop();
}

TEST_CASE("a process that has to end gives its jobs to the others at once") {
    NEEDS_REDIS();
    redis_server const server;
    temp_folder const folder;
    auto options = shared_options(server, folder);
    options.shared.lease = std::chrono::hours(1);
    options.drain = std::chrono::seconds(0);
    std::string id;
    {
        auto held = options;
        test::held_up inference(held);
        running_site ends(held);
        until_ready(ends);
        id = ends.submit(shapes_video(), "?chunk=1");
        while (ends.ask("GET", "/v1/jobs/" + id).json().at("state").as_string() != "running") {
            std::this_thread::yield();
        }
        ends.begin_to_stop();
        while (!ends.on_site([](auto& site) { return site.engine.stopped(); })) {
            std::this_thread::yield();
        }
        inference.let_go();
        ends.stop();
    }
    CHECK(fs::exists(folder / ("data/uploads/" + id)));
    running_site other(options);
    until_ready(other);
    auto const ended = other.end_of(id);
    CHECK(ended.at("state").as_string() == "succeeded");
    CHECK(ended.at("attempt").to_number<int>() == 1);
}

TEST_CASE("without its queue the service lives, is not ready, and says so") {
    NEEDS_REDIS();
    redis_server server(redis_server::data::is_kept);
    temp_folder const folder;
    running_site site(shared_options(server, folder));
    until_ready(site);
    std::string const id = site.submit(shapes_video());
    CHECK(site.end_of(id).at("state").as_string() == "succeeded");
    server.kill();
    while (site.ask("GET", "/readyz").status == 200) std::this_thread::yield();
    CHECK(site.ask("GET", "/livez").status == 200);
    auto const refused = site.ask("POST", "/v1/jobs", shapes_video());
    CHECK(refused.status == 503);
    CHECK(refused.field("Retry-After") == "5");
    auto const unknown = site.ask("GET", "/v1/jobs/" + id);
    CHECK(unknown.status == 503);
    CHECK(unknown.field("Retry-After") == "5");
    CHECK(site.ask("GET", "/metrics").body.find("tidegate_vision_queue_reachable 0") !=
          std::string::npos);
    server.start();
    until_ready(site);
    CHECK(site.ask("GET", "/v1/jobs/" + id + "/result").status == 200);
}

TEST_CASE("the folder of jobs in Redis is not for a service without, nor the other way round") {
    NEEDS_REDIS();
    redis_server const server;
    temp_folder const folder;
    auto const shared = shared_options(server, folder);
    auto alone = shared;
    alone.redis.reset();
    boost::asio::io_context io;
    SECTION("at the same time") {
        vision::service::service const first(io, alone);
        std::string const second = std::string(TIDEGATE_VISION_PROGRAM) +
                                   " work --model x.onnx --redis redis://localhost --data " +
                                   shared.data.string() + " 2>" + (folder / "err").string();
        CHECK(WEXITSTATUS(std::system(second.c_str())) == 1);
        CHECK(file_text(folder / "err") == "tidegate-vision: the folder '" + shared.data.string() +
                                               "' is used by another process\n");
    }
    SECTION("or later, when jobs may wait there") {
        {
            vision::service::service const first(io, shared);
            fs::create_directories(folder / "data/uploads");
            std::ofstream(folder / ("data/uploads/" + std::string(32, '1'))) << "needed";
        }
        CHECK_THROWS_AS(vision::service::service(io, alone), vision::error);
        CHECK(fs::exists(folder / ("data/uploads/" + std::string(32, '1'))));
        vision::service::service const again(io, shared);
        CHECK(fs::exists(folder / ("data/uploads/" + std::string(32, '1'))));
    }
}

TEST_CASE("what nobody can ask for leaves a shared folder, once it is old") {
    NEEDS_REDIS();
    redis_server const server;
    temp_folder const folder;
    using vision::service::data_folder;
    data_folder const data(folder.path(), data_folder::owner::many);
    test::worker one(server);
    auto const waits = one.submit(test::some_job());
    auto const ended = one.submit(test::some_job());
    std::string const kept(64, 'a');
    auto first = one.take();
    REQUIRE(first.what.id == waits);
    auto const second = one.take();
    one.succeed(second.lease, kept);
    std::string const gone(64, 'b');
    std::string const id(32, 'c');
    for (std::string const& name : {waits, ended, id + ".part"}) {
        std::ofstream(data.uploads() / name) << "video";
    }
    for (std::string const& name : {kept, gone, kept + "." + id}) {
        fs::create_directories(data.results() / name);
        std::ofstream(data.results() / name / "detections.jsonl") << "{}";
        make_old(data.results() / name);
    }
    fs::create_directories(data.results() / "mine");
    make_old(data.results() / "mine");
    tidegate::worker_pool disk(one.io.get_executor(), tidegate::worker_pool_options().threads(1));
    using vision::service::sweep_shared_folder;
    auto const hour = std::chrono::hours(1);
    CHECK(one.run(sweep_shared_folder(data, one.queue, disk, hour)) == 0); // all is fresh
    for (auto const& entry : fs::recursive_directory_iterator(folder.path())) {
        make_old(entry.path());
    }
    std::ofstream(data.results() / (kept + "." + id) / "annotated.mp4") << "written just now";
    CHECK(one.run(sweep_shared_folder(data, one.queue, disk, hour)) == 3);
    CHECK(fs::exists(data.uploads() / waits));
    CHECK(!fs::exists(data.uploads() / ended));
    CHECK(!fs::exists(data.uploads() / (id + ".part")));
    CHECK(fs::exists(data.results() / kept));
    CHECK(!fs::exists(data.results() / gone));
    CHECK(fs::exists(data.results() / (kept + "." + id)));
    CHECK(fs::exists(data.results() / "mine"));
    disk.drain();
    disk.join();
}

TEST_CASE("the program says what is wrong with an address of Redis, or without one") {
    temp_folder const folder;
    auto const complaint = [&](const std::string& arguments) {
        std::string const command = std::string(TIDEGATE_VISION_PROGRAM) + " " + arguments +
                                    " --model x.onnx --data " + (folder / "data").string() + " 2>" +
                                    (folder / "err").string();
        CHECK(WEXITSTATUS(std::system(command.c_str())) == 1);
        return file_text(folder / "err");
    };
    CHECK(complaint("serve --redis localhost:6379") ==
          "tidegate-vision: --redis: the scheme is 'localhost', allowed is "
          "redis://[user:password@]host[:port][/database]\n");
    CHECK(complaint("work") == "tidegate-vision: --redis is missing: whose jobs to do\n");
    CHECK(complaint("work --redis redis://localhost --lease 0") ==
          "tidegate-vision: --lease in ms is 0, allowed is 100 to 3600000\n");
}
