// SPDX-License-Identifier: BSL-1.0
// What is answered to requests of all kinds, and when the service has enough.
#include "running_site.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/json/parse.hpp>

#include <cstdlib>
#include <sys/wait.h>

namespace json = boost::json;
using test::running_site;
using test::shapes_video;

TEST_CASE("requests that make no sense are told why") {
    running_site site;
    auto const why = [](const test::reply& r) {
        return std::string(r.json().at("detail").as_string());
    };
    auto r = site.ask("POST", "/v1/jobs?every_n=0", "x");
    CHECK(r.status == 400);
    CHECK(r.field("Content-Type") == "application/problem+json");
    CHECK(why(r) == "every_n is '0', allowed is 1 to 100000");
    r = site.ask("POST", "/v1/jobs?confidence=nan", "x");
    CHECK(r.status == 400);
    CHECK(why(r) == "confidence is 'nan', allowed is 0 to 1");
    r = site.ask("POST", "/v1/jobs?colour=red", "x");
    CHECK(r.status == 400);
    CHECK(why(r).starts_with("there is no option 'colour', but name, every_n"));
    r = site.ask("POST", "/v1/jobs");
    CHECK(r.status == 400);
    r = site.ask("POST", "/v1/jobs?chunk=%ff%01", "x");
    CHECK(r.status == 400);
    CHECK(why(r) == "chunk is '? ', allowed is 1 to 100000");
    CHECK(site.ask("GET", "/v1/jobs?limit=0").status == 400);
    CHECK(site.ask("GET", "/v1/nothing").status == 404);
    CHECK(site.ask("GET", "/v1/jobs/" + std::string(32, 'a')).status == 404);
    CHECK(site.ask("GET", "/v1/jobs/..%2f..%2fetc%2fpasswd").status == 404);
    CHECK(site.ask("GET", "/v1/jobs/%00").status == 400);
    r = site.ask("PUT", "/v1/jobs");
    CHECK(r.status == 405);
    CHECK(r.field("Allow") == "GET, HEAD, POST");
    CHECK(site.ask("POST", "/livez").status == 405);
    CHECK(site.ask("POST", "/v1/jobs", "x", {{"Origin", "http://elsewhere"}}).status == 403);
    CHECK(std::filesystem::is_empty(site.data() / "uploads"));
}

TEST_CASE("what is no HTTP, or too much of it, is refused") {
    running_site site;
    test::http_client garbage(site.port());
    garbage.send_raw("\x16\x03\x01 hello\r\n\r\n");
    CHECK(garbage.receive().status == 400);
    test::http_client long_header(site.port());
    long_header.send_raw("GET / HTTP/1.1\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n");
    CHECK(long_header.receive().status == 431);
    test::http_client other_site(site.port());
    other_site.send_raw("GET //elsewhere/ HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(other_site.receive().status == 400);
}

TEST_CASE("too large an upload is refused, announced or not, and leaves nothing") {
    auto options = test::usual_options();
    options.http.body_bytes = 100'000;
    running_site site(options);
    CHECK(site.ask("POST", "/v1/jobs", std::string(100'001, 'x')).status == 413);
    test::http_client chunked(site.port());
    chunked.send_raw("POST /v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 11; ++i) chunked.send_raw("2710\r\n" + std::string(10'000, 'x') + "\r\n");
    CHECK(chunked.receive().status == 413);
    CHECK(site.ask("GET", "/v1/jobs").json().at("jobs").as_array().empty());
    site.stop();
    CHECK(std::filesystem::is_empty(site.data() / "uploads"));
}

TEST_CASE("a client that leaves in the middle of an upload leaves nothing") {
    running_site site;
    {
        test::http_client client(site.port());
        client.send_raw("POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
    }
    CHECK(site.end_of(site.submit(shapes_video())).at("state").as_string() == "succeeded");
    site.stop();
    CHECK(std::filesystem::is_empty(site.data() / "uploads"));
}

TEST_CASE("a client that waits for leave to send gets it") {
    running_site site;
    test::http_client client(site.port());
    client.send_raw("POST /v1/jobs HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                    "Content-Length: 5\r\n\r\n");
    CHECK(client.receive(true).status == 100);
    client.send_raw("hello");
    CHECK(client.receive().status == 202);
}

TEST_CASE("a client that submits too fast is told when to come again, before its upload") {
    auto options = test::usual_options();
    options.rate = 1;
    options.burst = 2;
    running_site site(options);
    CHECK(site.ask("POST", "/v1/jobs", "a").status == 202);
    CHECK(site.ask("POST", "/v1/jobs", "b").status == 202);
    test::http_client third(site.port());
    third.send_raw("POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    auto const r = third.receive();
    CHECK(r.status == 429);
    CHECK(r.field("Retry-After") == "1");
    CHECK(r.field("Connection") == "close");
    CHECK(site.ask("GET", "/v1/jobs").status == 200); // looking is free
}

TEST_CASE("a queue that is full refuses before the upload") {
    auto options = test::usual_options();
    options.max_running = 1;
    options.queue.max_queued = 1;
    test::held_up inference(options);
    running_site site(options);
    // One runs, one waits; the first may not have been taken yet.
    unsigned status = 202;
    for (int i = 0; i < 4 && status == 202; ++i) {
        status = site.ask("POST", "/v1/jobs?chunk=" + std::to_string(i + 1), shapes_video()).status;
    }
    CHECK(status == 503);
    test::http_client late(site.port());
    late.send_raw("POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    auto const r = late.receive();
    CHECK(r.status == 503);
    CHECK(!r.field("Retry-After").empty());
    inference.let_go();
}

TEST_CASE("several requests may share a connection, HEAD among them") {
    running_site site;
    test::http_client client(site.port());
    CHECK(client.send("GET", "/livez").body == "live\n");
    auto const head = client.send("HEAD", "/livez");
    CHECK(head.status == 200);
    CHECK(head.body.empty());
    CHECK(client.send("GET", "/v1/config").json().at("max_running").as_int64() == 2);
    auto const page = client.send("GET", "/");
    CHECK(page.field("Content-Type").starts_with("text/html"));
    CHECK(page.body.find("<!doctype html>") == 0);
    CHECK(page.body.find("http://") == std::string::npos); // nothing from elsewhere
}

TEST_CASE("a job that did not change is not sent again") {
    running_site site;
    std::string const id = site.submit("no video");
    site.end_of(id);
    auto const first = site.ask("GET", "/v1/jobs/" + id);
    auto const second =
        site.ask("GET", "/v1/jobs/" + id, {}, {{"If-None-Match", first.field("ETag")}});
    CHECK(second.status == 304);
    CHECK(second.body.empty());
}

TEST_CASE("metrics tell of jobs and of the library's parts, and name no job") {
    running_site site;
    std::string const id = site.submit(shapes_video());
    site.end_of(id);
    auto const r = site.ask("GET", "/metrics");
    CHECK(r.status == 200);
    CHECK(r.field("Content-Type").starts_with("text/plain; version=0.0.4"));
    CHECK(r.body.find("tidegate_vision_jobs_total{state=\"succeeded\",reason=\"none\"} 1") !=
          std::string::npos);
    CHECK(r.body.find("tidegate_worker_pool_started_total{name=\"compute\"}") != std::string::npos);
    CHECK(r.body.find("tidegate_cache_entries{name=\"results\"} 1") != std::string::npos);
    CHECK(r.body.find("tidegate_background_tasks_live{name=\"jobs\"}") != std::string::npos);
    CHECK(r.body.find(id) == std::string::npos);
}

TEST_CASE("the metrics keep the rules of Prometheus, as its own parser reads them") {
    running_site site;
    site.end_of(site.submit(shapes_video(), "?annotate=false"));
    site.ask("POST", "/v1/jobs", "x", {{"Origin", "http://elsewhere"}}); // one that is refused
    temp_folder const folder;
    auto const page = folder.put("metrics.txt", site.ask("GET", "/metrics").body);
    auto const lint = std::string("/usr/bin/python3 '") + TIDEGATE_METRICS_LINT + "' < '" +
                      page.string() + "' > '" + (folder / "said").string() + "' 2>&1";
    int const status = std::system(lint.c_str());
    INFO(file_text(folder / "said"));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) SKIP("no prometheus_client here");
    CHECK(status == 0);
}

TEST_CASE("it is ready once its model is, and the models tell what they are") {
    running_site site;
    site.end_of(site.submit(shapes_video()));
    CHECK(site.ask("GET", "/readyz").status == 200);
    json::object const model = site.ask("GET", "/v1/models").json().at("models").at(0).as_object();
    CHECK(model.at("file").as_string() == "shapes.onnx");
    CHECK(model.at("ready").as_bool());
}

TEST_CASE("without its model it lives, but is not ready, and what waits is not lost") {
    temp_folder folder;
    auto options = test::usual_options();
    options.engine.model.model = folder / "later.onnx";
    options.drain = std::chrono::seconds(0);
    running_site site(options);
    CHECK(site.ask("GET", "/livez").status == 200);
    CHECK(site.ask("GET", "/readyz").status == 503);
    SECTION("it is loaded as soon as it is there") {
        std::filesystem::copy_file(test::assets / "shapes.onnx", folder / "later.onnx");
        unsigned status = 503;
        while (status == 503) status = site.ask("GET", "/readyz").status;
        CHECK(status == 200);
        CHECK(site.end_of(site.submit(shapes_video())).at("state").as_string() == "succeeded");
    }
    SECTION("it can be stopped all the same") { site.stop(); }
}
