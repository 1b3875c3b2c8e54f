// SPDX-License-Identifier: BSL-1.0
// What goes wrong inside harms one job at most.
#include "running_site.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <latch>
#include <stdexcept>

using test::running_site;
using test::shapes_video;

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
    running_site site(options);
    auto const ended = site.end_of(site.submit(shapes_video()));
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
