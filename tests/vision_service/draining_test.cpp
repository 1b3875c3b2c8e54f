// SPDX-License-Identifier: BSL-1.0
// How the service ends.
#include "running_site.hpp"
#include "served_process.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <cstdlib>
#include <sys/wait.h>

using test::running_site;
using test::shapes_video;
using vision::service::job_state;

namespace {

// Events of a job, read while other things happen.
class watching {
public:
    watching(running_site& site, const std::string& id) : client_(site.port()) {
        client_.send_raw("GET /v1/jobs/" + id + "/events HTTP/1.0\r\nHost: a\r\n\r\n");
        read_until("event: snapshot");
    }
    void read_until(const std::string& text) {
        while (seen_.find(text) == std::string::npos) {
            std::array<char, 4096> some{};
            boost::system::error_code ec;
            std::size_t const n = client_.socket().read_some(boost::asio::buffer(some), ec);
            seen_.append(some.data(), n);
            if (ec) break;
        }
        CHECK(seen_.find(text) != std::string::npos);
    }

private:
    test::http_client client_;
    std::string seen_;
};

void until_decoding(running_site& site) {
    while (site.on_site([](auto& s) { return s.engine.frames_decoded.load(); }) == 0) {
        std::this_thread::yield();
    }
}

} // namespace

TEST_CASE("a service that is to end stops what runs at a checkpoint, takes no more, and says so") {
    temp_folder const folder;
    auto options = test::usual_options();
    options.data = folder / "data";
    options.max_running = 1;
    std::string running, waiting;
    std::uint64_t inferred = 0;
    {
        auto held = options;
        held.engine.frames_in_flight = 8;
        test::held_up inference(held);
        running_site site(held);
        running = site.submit(shapes_video(), "?chunk=1");
        waiting = site.submit(shapes_video(), "?every_n=2");
        watching client(site, running);
        client.read_until("\"running\"");
        watching other(site, waiting);
        until_decoding(site);
        site.begin_to_stop();
        inference.let_go();
        site.stop();
        other.read_until("event: draining");
        CHECK(site.job_at_the_end(running).state == job_state::queued);
        CHECK(site.job_at_the_end(running).attempt == 0);
        CHECK(site.job_at_the_end(waiting).state == job_state::queued);
        // What was under way was finished, and no more was begun.
        inferred = site.engine().frames_inferred;
        CHECK(inferred > 0);
        CHECK(inferred <= 8);
        CHECK(site.engine().frames_decoded == inferred);
    }
    running_site site(options);
    auto const ended = site.end_of(running);
    CHECK(ended.at("state").as_string() == "succeeded");
    CHECK(ended.at("attempt").to_number<int>() == 1);
    CHECK(site.end_of(waiting).at("state").as_string() == "succeeded");
    CHECK(site.on_site([](auto& s) { return s.engine.frames_resumed; }) == inferred);
    std::string const result = site.ask("GET", "/v1/jobs/" + running + "/result").body;
    CHECK(result == test::undisturbed("?chunk=1"));
}

TEST_CASE("a job all of whose frames are read when the service is to end ends before it") {
    auto options = test::usual_options();
    options.engine.frames_in_flight = 301; // all, and what finds the end
    std::atomic<int> reads{0};
    options.engine.before_read = [&reads] { ++reads; };
    test::held_up inference(options);
    running_site site(options);
    std::string const id = site.submit(shapes_video(), "?annotate=false");
    while (reads < 1 + 300 + 1) std::this_thread::yield(); // to open it, its frames, and the end
    site.begin_to_stop();
    inference.let_go();
    site.stop();
    CHECK(site.job_at_the_end(id).state == job_state::succeeded);
}

TEST_CASE("a service tells which jobs it sees to, and how far they are") {
    auto options = test::usual_options();
    options.max_running = 1;
    test::held_up inference(options);
    running_site site(options);
    std::string const running = site.submit(shapes_video(), "?annotate=false");
    site.submit(shapes_video(), "?every_n=2"); // waits, and is no task yet
    until_decoding(site);
    auto const before =
        site.on_site([](auto& s) { return vision::service::describe(s.under_way); });
    REQUIRE(before.size() == 1);
    CHECK(before[0].at("job").as_string() == running);
    CHECK(before[0].at("frames").as_int64() == 0);
    inference.let_go();
    auto const first = [](auto& s) { return s.under_way.list().front(); };
    while (!has_ended(site.on_site(first).state)) std::this_thread::yield();
    auto const ended = site.on_site(first);
    CHECK(ended.name == running);
    CHECK(ended.state == tidegate::task_state::done);
    CHECK(ended.progress == 300);
    CHECK(ended.progress_of == 300);
    site.stop();
}

TEST_CASE("without patience for what runs it ends at once, and the job waits for the next one") {
    auto options = test::usual_options();
    options.drain = std::chrono::seconds(0);
    running_site site(options);
    std::string const running = site.submit(shapes_video(), "?chunk=1");
    watching client(site, running);
    client.read_until("\"running\"");
    site.stop();
    auto const left = site.job_at_the_end(running);
    CHECK((left.state == job_state::queued || left.state == job_state::succeeded));
}

TEST_CASE("the data folder is one service's, and files of others in it stay") {
    temp_folder folder;
    auto options = test::usual_options();
    options.data = folder.path();
    std::filesystem::create_directories(folder / "results");
    std::ofstream(folder / "results/mine.txt") << "mine";
    std::filesystem::create_directories(folder / ("results/" + std::string(64, 'a')));
    std::filesystem::create_directories(folder / "uploads");
    std::ofstream(folder / ("uploads/" + std::string(32, '0') + ".part")) << "left behind";
    boost::asio::io_context io;
    vision::service::service const first(io, options);
    CHECK(file_text(folder / "results/mine.txt") == "mine");
    CHECK(!std::filesystem::exists(folder / ("results/" + std::string(64, 'a'))));
    CHECK(std::filesystem::is_empty(folder / "uploads"));
}

TEST_CASE("the program ends well at a signal, and at once at a second one") {
    temp_folder const folder;
    auto const data = folder / "data";
    test::served_process site(data, folder / "log");
    SECTION("idle") {
        CHECK(site.ask("GET", "/livez").status == 200);
        std::string const second = std::string(TIDEGATE_VISION_PROGRAM) +
                                   " serve --port 0 --model " +
                                   (test::assets / "shapes.onnx").string() + " --data " +
                                   data.string() + " 2>" + (folder / "err").string();
        CHECK(WEXITSTATUS(std::system(second.c_str())) == 1);
        CHECK(file_text(folder / "err") ==
              "tidegate-vision: the folder '" + data.string() + "' is used by another process\n");
        CHECK(site.end() == 0);
    }
    SECTION("busy, and then again") {
        site.submit(shapes_video(), "?chunk=1");
        auto const status = site.end(true);
        CHECK((status == 130 || status == 0));
    }
}
