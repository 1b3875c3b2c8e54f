// SPDX-License-Identifier: BSL-1.0
// A job from its submission to its result, as clients see it.
#include "real_data.hpp"
#include "running_site.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <algorithm>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/websocket.hpp>

namespace json = boost::json;
using test::running_site;
using test::shapes_video;

namespace {

std::size_t lines_in(const std::string& text) {
    return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

std::string state_of(running_site& site, const std::string& id) {
    return std::string(site.ask("GET", "/v1/jobs/" + id).json().at("state").as_string());
}

} // namespace

TEST_CASE("a video gets an id at once, and in the end its detections and a video with boxes") {
    running_site site;
    auto const accepted = site.ask("POST", "/v1/jobs?name=shapes&chunk=10", shapes_video());
    REQUIRE(accepted.status == 202);
    json::object const job = accepted.json();
    std::string const id(job.at("id").as_string());
    CHECK(accepted.field("Location") == "/v1/jobs/" + id);
    CHECK(accepted.field("Retry-After") == "1");
    CHECK(job.at("state").as_string() == "queued");
    CHECK(job.at("name").as_string() == "shapes");

    json::object const ended = site.end_of(id);
    REQUIRE(ended.at("state").as_string() == "succeeded");
    std::size_t const frames = lines_in(file_text(test::assets / "shapes_truth.jsonl"));
    CHECK(ended.at("frames_done").to_number<std::size_t>() == frames);
    CHECK(ended.at("frames_total").to_number<std::size_t>() == frames);
    CHECK(ended.at("attempt").to_number<int>() == 1);

    auto const result = site.ask("GET", "/v1/jobs/" + id + "/result");
    CHECK(result.status == 200);
    CHECK(result.field("Content-Type") == "application/x-ndjson");
    CHECK(lines_in(result.body) == frames);
    CHECK(json::parse(result.body.substr(0, result.body.find('\n'))).at("frame").as_int64() == 0);
    auto const video = site.ask("GET", "/v1/jobs/" + id + "/video");
    CHECK(video.status == 200);
    CHECK(video.body.substr(4, 4) == "ftyp");
    CHECK(std::filesystem::is_empty(site.data() / "uploads"));
}

TEST_CASE("events are a snapshot, progress that grows, and the end") {
    running_site site;
    std::string const id = site.submit(shapes_video(), "?chunk=5&annotate=false");
    auto const events = test::parse_events(site.ask("GET", "/v1/jobs/" + id + "/events").body);
    REQUIRE(events.size() >= 2);
    CHECK(events.front().name == "snapshot");
    CHECK(events.back().name == "end");
    CHECK(events.back().data.at("state").as_string() == "succeeded");
    std::int64_t done = 0;
    std::uint64_t version = 0;
    for (const auto& event : events) {
        auto const now = event.data.at("frames_done").as_int64();
        CHECK(now >= done);
        done = now;
        CHECK(std::stoull(event.id) > version);
        version = std::stoull(event.id);
    }
    SECTION("who comes late, or again, gets the end once") {
        auto const late = test::parse_events(
            site.ask("GET", "/v1/jobs/" + id + "/events", {}, {{"Last-Event-ID", events.back().id}})
                .body);
        REQUIRE(late.size() == 1);
        CHECK(late[0].data.at("state").as_string() == "succeeded");
    }
}

TEST_CASE("a WebSocket gets the same events, and is closed after the last") {
    running_site site;
    std::string const id = site.submit(shapes_video(), "?annotate=false");
    boost::asio::io_context io;
    boost::beast::websocket::stream<boost::asio::ip::tcp::socket> client(io);
    client.next_layer().connect({boost::asio::ip::address_v4::loopback(), site.port()});
    client.handshake("127.0.0.1:" + std::to_string(site.port()), "/v1/jobs/" + id + "/ws");
    std::vector<std::string> names;
    json::object last;
    boost::system::error_code ec;
    for (;;) {
        boost::beast::flat_buffer buffer;
        client.read(buffer, ec);
        if (ec) break;
        last = json::parse(boost::beast::buffers_to_string(buffer.data())).as_object();
        names.emplace_back(last.at("event").as_string());
    }
    CHECK(ec == boost::beast::websocket::error::closed);
    REQUIRE(names.size() >= 2);
    CHECK(names.front() == "snapshot");
    CHECK(names.back() == "end");
    CHECK(last.at("job").at("state").as_string() == "succeeded");
}

TEST_CASE("a key makes a submission safe to repeat") {
    running_site site;
    std::string const video = shapes_video();
    test::headers const key{{"Idempotency-Key", "mine-1"}};
    auto const first = site.ask("POST", "/v1/jobs", video, key);
    auto const again = site.ask("POST", "/v1/jobs", video, key);
    REQUIRE(first.status == 202);
    CHECK(again.status == 202);
    CHECK(again.json().at("id") == first.json().at("id"));
    CHECK(site.ask("POST", "/v1/jobs?every_n=2", video, key).status == 422);
    CHECK(site.ask("POST", "/v1/jobs", video + "x", key).status == 422);
    CHECK(site.ask("GET", "/v1/jobs").json().at("jobs").as_array().size() == 1);
}

TEST_CASE("equal videos are looked at once, and each job has the result") {
    running_site site;
    std::string const video = shapes_video();
    std::vector<std::string> ids;
    for (int i = 0; i < 4; ++i) ids.push_back(site.submit(video));
    for (const std::string& id : ids) {
        CHECK(site.end_of(id).at("state").as_string() == "succeeded");
        CHECK(site.ask("GET", "/v1/jobs/" + id + "/result").status == 200);
    }
    CHECK(site.on_site([](auto& s) { return s.results.cache().statistics().loads; }) == 1);
    SECTION("other options are another look") {
        CHECK(site.end_of(site.submit(video, "?every_n=3")).at("state").as_string() == "succeeded");
        CHECK(site.on_site([](auto& s) { return s.results.cache().statistics().loads; }) == 2);
    }
}

TEST_CASE("an urgent job overtakes one that runs, and both are right") {
    auto options = test::usual_options();
    options.engine.before_inference = [] { // slower than all else
        auto const end = std::chrono::steady_clock::now() + std::chrono::milliseconds(4);
        while (std::chrono::steady_clock::now() < end) {
        }
    };
    running_site site(options);
    std::string const ordinary = site.submit(shapes_video(), "?chunk=1&annotate=false");
    while (state_of(site, ordinary) != "running") std::this_thread::yield();
    std::string const urgent = site.submit(shapes_video(), "?chunk=1&urgent=true&every_n=2");
    CHECK(site.end_of(urgent).at("state").as_string() == "succeeded");
    CHECK(state_of(site, ordinary) == "running"); // it began first, but has hardly got on
    CHECK(site.end_of(ordinary).at("state").as_string() == "succeeded");
    for (auto const& [id, query] : {std::pair(ordinary, "?every_n=1"), {urgent, "?every_n=2"}}) {
        CHECK(site.ask("GET", "/v1/jobs/" + id + "/result").body == test::undisturbed(query));
    }
}

TEST_CASE("thresholds are the job's own") {
    running_site site;
    std::string const all = site.submit(shapes_video(), "?annotate=false");
    std::string const none = site.submit(shapes_video(), "?annotate=false&confidence=1");
    CHECK(site.end_of(all).at("detections").as_int64() > 0);
    CHECK(site.end_of(none).at("detections").as_int64() == 0);
}

TEST_CASE("a job can be cancelled, again and again, while it waits, runs, or has ended") {
    auto options = test::usual_options();
    options.max_running = 1;
    test::held_up inference(options);
    running_site site(options);
    std::string const running = site.submit(shapes_video(), "?chunk=1");
    std::string const waiting = site.submit(shapes_video(), "?every_n=2");
    for (int i = 0; i < 3; ++i) {
        CHECK(site.ask("DELETE", "/v1/jobs/" + waiting).status == 204);
        CHECK(site.ask("DELETE", "/v1/jobs/" + running).status == 204);
    }
    CHECK(state_of(site, waiting) == "cancelled");
    CHECK(state_of(site, running) == "cancelled");
    CHECK(site.ask("GET", "/v1/jobs/" + running + "/result").status == 409);
    inference.let_go();
    // The worker is free again, and the same video can be asked for anew.
    CHECK(site.end_of(site.submit(shapes_video(), "?chunk=1")).at("state").as_string() ==
          "succeeded");
    site.stop();
    CHECK(std::filesystem::is_empty(site.data() / "uploads"));
}

TEST_CASE("who cancels one of two equal jobs leaves the other alone") {
    running_site site;
    std::string const one = site.submit(shapes_video());
    std::string const other = site.submit(shapes_video());
    CHECK(site.ask("DELETE", "/v1/jobs/" + one).status == 204);
    CHECK(site.end_of(other).at("state").as_string() == "succeeded");
}

TEST_CASE("what is no video fails with its reason, and harms nobody") {
    running_site site;
    SECTION("bytes of any kind") {
        for (std::string const& bytes : {std::string("hello"), std::string(100'000, '\x7f')}) {
            json::object const ended = site.end_of(site.submit(bytes));
            CHECK(ended.at("state").as_string() == "failed");
            CHECK(ended.at("error").at("title").as_string() == "decode");
            std::string const detail(ended.at("error").at("detail").as_string());
            CHECK(detail.find("the video") == 0);
            CHECK(detail.find(site.data().string()) == std::string::npos);
        }
    }
    SECTION("the folder of broken videos") {
        NEEDS_REAL_DATA();
        for (auto const& entry : std::filesystem::directory_iterator(real_data() / "video_bad")) {
            INFO(entry.path().filename());
            std::string const bytes = file_text(entry.path());
            if (bytes.empty()) {
                CHECK(site.ask("POST", "/v1/jobs").status == 400);
                continue;
            }
            json::object const ended = site.end_of(site.submit(bytes, "?annotate=false"));
            if (ended.at("state").as_string() == "failed") {
                CHECK(ended.at("error").at("title").as_string() == "decode");
            } else {
                CHECK(ended.at("state").as_string() == "succeeded");
            }
        }
    }
    CHECK(site.end_of(site.submit(shapes_video())).at("state").as_string() == "succeeded");
}

TEST_CASE("a video longer than allowed is refused where it gets too long") {
    auto options = test::usual_options();
    options.results.max_frames = 10;
    running_site site(options);
    json::object const ended = site.end_of(site.submit(shapes_video()));
    CHECK(ended.at("state").as_string() == "failed");
    CHECK(ended.at("error").at("detail").as_string() == "the video: longer than 10 frames");
}
