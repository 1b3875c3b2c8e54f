// SPDX-License-Identifier: BSL-1.0
// Several models side by side: each job keeps the one it began with, and the current one changes
// under load without a frame lost.
#include "real_data.hpp"
#include "running_site.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/json/serialize.hpp>

#include <algorithm>
#include <fmt/format.h>
#include <future>

namespace json = boost::json;
using test::running_site;
using test::shapes_video;

namespace {

vision::service::service_options two_models() {
    auto options = test::usual_options();
    options.engine.model_name = "a";
    options.engine.more_models = {{"b", test::assets / "shapes.onnx"}};
    return options;
}

json::object model(running_site& site, std::string_view name) {
    json::object const answer = site.ask("GET", "/v1/models").json();
    for (const auto& one : answer.at("models").as_array()) {
        if (one.at("name").as_string() == name) return one.as_object();
    }
    throw std::runtime_error("no such model");
}

std::string result_of(running_site& site, const json::object& job) {
    auto const id = std::string(job.at("id").as_string());
    return site.ask("GET", "/v1/jobs/" + id + "/result").body;
}

} // namespace

TEST_CASE("a job is looked at with the model it names, or with the current one") {
    running_site site(two_models());
    auto const plain = site.end_of(site.submit(shapes_video(), "?annotate=false"));
    auto const named = site.end_of(site.submit(shapes_video(), "?annotate=false&model=b"));
    CHECK(plain.at("model").as_string() == "a");
    CHECK(named.at("model").as_string() == "b");
    CHECK(named.at("state").as_string() == "succeeded");
    CHECK(model(site, "a").at("current").as_bool());
    CHECK(model(site, "b").at("ready").as_bool());
    CHECK(model(site, "b").at("execution_provider").as_string() == "cpu");
    CHECK(site.on_site([](auto& s) { return s.engine.models.budget().statistics().loads; }) == 2);
    auto const unknown = site.ask("POST", "/v1/jobs?model=c", "x");
    CHECK(unknown.status == 400);
    CHECK(unknown.body.find("there is no model 'c'") != std::string::npos);
}

TEST_CASE("the current model changes under load, and no frame fails") {
    auto options = two_models();
    options.max_running = 4;
    options.queue.max_queued = 100;
    running_site site(options);
    std::vector<std::string> ids;
    for (int i = 0; i < 12; ++i) { // each with a threshold of its own: no two are the same run
        ids.push_back(
            site.submit(shapes_video(), fmt::format("?annotate=false&confidence=0.2500{:02}", i)));
        auto const* const other = i % 2 == 0 ? "b" : "a";
        auto const answer = site.ask("POST", fmt::format("/v1/models/{}/activate", other));
        CHECK(answer.status == 200);
        CHECK(model(site, other).at("current").as_bool());
    }
    std::string const expected = result_of(site, site.end_of(ids.front()));
    for (std::size_t i = 0; i < ids.size(); ++i) {
        auto const job = site.end_of(ids[i]);
        INFO(json::serialize(job));
        CHECK(job.at("state").as_string() == "succeeded");
        CHECK(job.at("frames_done").as_int64() == 300);
        CHECK(job.at("attempt").as_int64() == 1);
        CHECK(job.at("model").as_string() == (i % 2 == 0 ? "a" : "b"));
        CHECK(result_of(site, job) == expected);
    }
}

TEST_CASE("a model that cannot be loaded does not become the current one") {
    auto options = two_models();
    options.engine.more_models.push_back({"broken", test::assets / "shapes.mp4"});
    running_site site(options);
    auto const answer = site.ask("POST", "/v1/models/broken/activate");
    CHECK(answer.status == 503);
    CHECK(model(site, "a").at("current").as_bool());
    CHECK_FALSE(model(site, "broken").at("ready").as_bool());
    CHECK(site.ask("POST", "/v1/models/unknown/activate").status == 404);
    CHECK(site.ask("POST", "/v1/models/b/activate", "", {{"Origin", "http://elsewhere"}}).status ==
          403);
    auto const failed = site.end_of(site.submit(shapes_video(), "?model=broken"));
    CHECK(failed.at("state").as_string() == "failed");
    CHECK(site.end_of(site.submit(shapes_video())).at("state").as_string() == "succeeded");
}

TEST_CASE("models share a budget of memory: what is idle makes room") {
    std::int64_t bytes = 0;
    {
        running_site site(two_models());
        site.end_of(site.submit(shapes_video(), "?annotate=false&every_n=100"));
        bytes = model(site, "a").at("bytes").as_int64();
    }
    auto options = two_models();
    options.engine.more_models.push_back({"c", test::assets / "shapes.onnx"});
    options.engine.model_memory = static_cast<std::uint64_t>(5 * bytes / 2); // for two of them
    running_site site(options);
    for (auto const* const name : {"a", "b", "c"}) {
        auto const how = fmt::format("?annotate=false&every_n=100&model={}", name);
        CHECK(site.end_of(site.submit(shapes_video(), how)).at("state").as_string() == "succeeded");
    }
    CHECK(model(site, "a").at("ready").as_bool()); // it is current, and stays
    CHECK_FALSE(model(site, "b").at("ready").as_bool());
    CHECK(model(site, "c").at("ready").as_bool());
}

TEST_CASE("a hundred first requests at once load the model once") {
    auto options = test::usual_options();
    options.max_running = 10;
    options.queue.max_queued = 200;
    options.engine.decoders = 10;
    running_site site(options);
    std::string const video = shapes_video();
    std::vector<std::future<std::string>> clients;
    for (int i = 0; i < 100; ++i) {
        clients.push_back(std::async(std::launch::async, [&site, &video, i] {
            auto const how = fmt::format("?annotate=false&every_n={}", 50 + i);
            auto const id = site.submit(video, how);
            return std::string(site.end_of(id).at("state").as_string());
        }));
    }
    for (auto& client : clients) CHECK(client.get() == "succeeded");
    auto const loads = [](auto& s) { return s.engine.models.budget().statistics().loads; };
    CHECK(site.on_site(loads) == 1);
}
