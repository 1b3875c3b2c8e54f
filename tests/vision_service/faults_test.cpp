// SPDX-License-Identifier: BSL-1.0
// What goes wrong inside harms one job at most.
#include "running_site.hpp"
#include "tiny_onnx.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/post.hpp>
#include <boost/json/serialize.hpp>

#include <atomic>
#include <csignal>
#include <latch>
#include <limits>
#include <regex>
#include <stdexcept>
#include <sys/resource.h>

using test::running_site;
using test::shapes_video;

namespace {

// While it lives, no file of this process grows beyond that, as on a disk that is full.
class files_at_most {
public:
    explicit files_at_most(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        getrlimit(RLIMIT_FSIZE, &before_);
        rlimit const now{bytes, before_.rlim_max};
        setrlimit(RLIMIT_FSIZE, &now);
    }
    ~files_at_most() {
        setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }
    files_at_most(const files_at_most&) = delete;
    files_at_most& operator=(const files_at_most&) = delete;

private:
    void (*handler_)(int);
    rlimit before_{};
};

} // namespace

TEST_CASE("an inference that fails now and then is tried again") {
    std::atomic<int> calls{0};
    auto options = test::usual_options();
    options.engine.before_inference = [&calls] {
        if (++calls % 7 == 0) throw std::runtime_error("the device was lost");
    };
    running_site site(options);
    auto const ended = site.end_of(site.submit(shapes_video()));
    CHECK(ended.at("state").as_string() == "succeeded");
    CHECK(ended.at("frames_done").as_int64() == 300);
    CHECK(calls == 349); // every seventh of these failed
}

TEST_CASE("a backend that is down fails the job, and is tried again for the next") {
    std::atomic<bool> down{true};
    auto options = test::usual_options();
    options.engine.before_inference = [&down] {
        if (down) throw std::runtime_error("no device");
    };
    std::string told; // on the site's thread
    options.on_failure = [&told](const vision::service::job_failure& one) {
        told.append(one.job).append(" ").append(one.stage).append(" ").append(one.what);
        throw std::domain_error("what it throws harms nobody");
    };
    running_site site(options);
    auto const id = site.submit(shapes_video());
    auto const ended = site.end_of(id);
    CHECK(ended.at("state").as_string() == "failed");
    CHECK(ended.at("error").at("title").as_string() == "backend");
    CHECK(site.ask("GET", "/metrics")
              .body.find("tidegate_vision_jobs_total{state=\"failed\",reason=\"backend\"} 1") !=
          std::string::npos);
    down = false;
    std::string state = "failed";
    while (state == "failed") { // until the breaker lets calls through again
        state = site.end_of(site.submit(shapes_video())).at("state").as_string();
    }
    CHECK(state == "succeeded");
    site.stop();
    CHECK(told.starts_with(id + " backend "));
}

TEST_CASE("a decoder that hangs costs one job and one thread") {
    std::latch let_go(1);
    std::atomic<int> reads{0};
    auto options = test::usual_options();
    options.max_running = 1;
    options.engine.limits.decoding = std::chrono::seconds(2);
    SECTION("while it opens the file") {
        options.engine.before_read = [&] {
            if (++reads == 1) let_go.wait();
        };
    }
    SECTION("in the middle") {
        options.engine.before_read = [&] {
            if (++reads == 20) let_go.wait();
        };
    }
    {
        running_site site(options);
        auto const ended = site.end_of(site.submit(shapes_video()));
        CHECK(ended.at("state").as_string() == "failed");
        CHECK(ended.at("error").at("detail").as_string() == "the video: the decoder hangs");
        CHECK(site.on_site([](auto& s) { return s.engine.lost_decoders(); }) == 1);
        CHECK(site.end_of(site.submit(shapes_video(), "?every_n=2")).at("state").as_string() ==
              "succeeded");
        site.stop();
        let_go.count_down();
    }
}

TEST_CASE("a decoder that hangs in a job that was cancelled costs no other job") {
    std::latch hangs(1), let_go(1);
    std::atomic<int> reads{0};
    auto options = test::usual_options();
    options.max_running = 1;
    options.engine.limits.decoding = std::chrono::seconds(1);
    options.engine.before_read = [&] {
        if (++reads != 20) return;
        hangs.count_down();
        let_go.wait();
    };
    running_site site(options);
    std::string const cancelled = site.submit(shapes_video());
    hangs.wait();
    CHECK(site.ask("DELETE", "/v1/jobs/" + cancelled).status == 204);
    auto const ended = site.end_of(site.submit(shapes_video(), "?every_n=2"));
    CHECK(ended.at("state").as_string() == "succeeded");
    site.stop();
    let_go.count_down();
}

TEST_CASE("a slow decoder does not hang, however many frames lie between two that are wanted") {
    auto options = test::usual_options();
    options.engine.limits.decoding = std::chrono::seconds(1);
    options.engine.before_read = [] {
        auto const end = std::chrono::steady_clock::now() + std::chrono::milliseconds(6);
        while (std::chrono::steady_clock::now() < end) {
        }
    };
    running_site site(options);
    auto const ended = site.end_of(site.submit(shapes_video(), "?every_n=299&annotate=false"));
    CHECK(ended.at("state").as_string() == "succeeded"); // with 1.8 s between the two frames
}

TEST_CASE("a model whose outputs are no numbers is told of in the job and in the metrics") {
    temp_folder const folder;
    tiny_onnx model;
    model.base.assign(5 * 84, 0);
    model.base[4 * 84 + 3] = std::numeric_limits<float>::quiet_NaN(); // one box of each picture
    auto options = test::usual_options();
    options.engine.model.model = folder.put("broken.onnx", model.bytes());
    running_site site(options);
    auto const ended = site.end_of(site.submit(shapes_video(), "?annotate=false"));
    CHECK(ended.at("state").as_string() == "succeeded");
    CHECK(ended.at("detections").as_int64() == 0);
    CHECK(boost::json::serialize(ended.at("warnings")).find("300 boxes were no finite numbers") !=
          std::string::npos);
    CHECK(site.ask("GET", "/metrics").body.find("\ntidegate_vision_dropped_boxes_total 300\n") !=
          std::string::npos);
}

TEST_CASE("a disk that fills up during an upload costs that upload alone") {
    running_site site;
    auto const before = site.submit(shapes_video(), "?annotate=false");
    CHECK(site.end_of(before).at("state").as_string() == "succeeded");
    {
        files_at_most const little(100'000);
        auto const refused = site.ask("POST", "/v1/jobs", std::string(400'000, 'x'));
        CHECK(refused.status == 507);
        CHECK(site.ask("GET", "/livez").status == 200);
    }
    CHECK(std::filesystem::is_empty(site.data() / "uploads"));
    CHECK(
        site.ask("GET", "/metrics").body.find("tidegate_vision_refused_total{reason=\"disk\"} 1") !=
        std::string::npos);
    CHECK(site.end_of(site.submit(shapes_video(), "?annotate=false&every_n=2"))
              .at("state")
              .as_string() == "succeeded");
}

TEST_CASE("what holds up the event loop is seen in the metrics") {
    auto options = test::usual_options();
    options.stall_threshold = std::chrono::milliseconds(1);
    running_site site(options);
    std::regex const counted(R"(tidegate_stall_detector_stalls_total\{[^}]*\} [1-9])");
    auto const seen = [&] { return std::regex_search(site.ask("GET", "/metrics").body, counted); };
    do {
        site.on_site([](auto& service) {
            auto const hog = [] { // in a handler of the service's own executor
                auto const end = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
                while (std::chrono::steady_clock::now() < end) {
                }
            };
            boost::asio::post(service.executor, hog);
            return 0;
        });
    } while (!seen());
}

TEST_CASE("clients that never read their events hold up nobody, nor the end") {
    auto options = test::usual_options();
    options.max_running = 1;
    test::held_up hold(options);
    running_site site(options);
    auto const id = site.submit(shapes_video(), "?annotate=false&chunk=1");
    std::vector<std::unique_ptr<test::http_client>> deaf;
    for (int i = 0; i < 10; ++i) {
        auto const* const how =
            i % 2 == 0 ? "/events HTTP/1.1\r\nHost: x\r\n\r\n"
                       : "/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                         "Sec-WebSocket-Version: 13\r\n\r\n";
        auto& client = *deaf.emplace_back(std::make_unique<test::http_client>(site.port()));
        client.socket().set_option(boost::asio::socket_base::receive_buffer_size(2048));
        client.send_raw("GET /v1/jobs/" + id + how);
    }
    hold.let_go();
    CHECK(site.end_of(id).at("state").as_string() == "succeeded");
    CHECK(site.end_of(site.submit(shapes_video(), "?annotate=false&every_n=3"))
              .at("state")
              .as_string() == "succeeded");
    site.stop(); // ends, with the ten still there
}
