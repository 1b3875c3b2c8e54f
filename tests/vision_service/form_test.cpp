// SPDX-License-Identifier: BSL-1.0
// Submissions as forms: the video, and the options of its job beside it.
#include "running_site.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <cstdlib>
#include <fmt/format.h>
#include <sys/wait.h>

namespace json = boost::json;
using test::running_site;
using test::shapes_video;

namespace {

struct part {
    std::string name;
    std::string content;
};

std::string form_of(const std::vector<part>& parts) {
    std::string body;
    for (const part& each : parts) {
        body += "--a-boundary\r\nContent-Disposition: form-data; name=\"" + each.name +
                "\"; filename=\"C:\\\\a.mp4\"\r\nContent-Type: any/thing\r\n\r\n" + each.content +
                "\r\n";
    }
    return body + "--a-boundary--\r\n";
}

const test::headers is_form{{"Content-Type", "multipart/form-data; boundary=a-boundary"}};

test::reply submit_form(running_site& site, const std::vector<part>& parts,
                        const std::string& query = {}, test::headers more = {}) {
    more.insert(more.end(), is_form.begin(), is_form.end());
    return site.ask("POST", "/v1/jobs" + query, form_of(parts), more);
}

std::string why(const test::reply& r) {
    CHECK(r.field("Content-Type") == "application/problem+json");
    return std::string(r.json().at("detail").as_string());
}

} // namespace

TEST_CASE("a form with options and a video is a job like one by query and body") {
    running_site site;
    std::string const query = "?name=a%20name&every_n=7&chunk=5&confidence=0.3&iou=0.5&"
                              "annotate=false&urgent=true&model=shapes";
    std::string const options = R"({"name": "a name", "every_n": 7, "chunk": 5, "confidence": 0.3,
        "iou": 0.5, "annotate": false, "urgent": true, "model": "shapes"})";
    std::vector<part> parts{{"options", options}, {"video", shapes_video()}};
    if (GENERATE(true, false)) std::swap(parts[0], parts[1]);
    test::headers const key{{"Idempotency-Key", "k"}};
    auto const first = submit_form(site, parts, "", key);
    REQUIRE(first.status == 202);
    std::string const id(first.json().at("id").as_string());
    CHECK(first.json().at("name").as_string() == "a name");
    CHECK(first.json().at("model").as_string() == "shapes");
    CHECK(site.end_of(id).at("state").as_string() == "succeeded");
    CHECK(site.end_of(id).at("frames_done").to_number<int>() == 43);
    // The same content, with the same options.
    auto const again = site.ask("POST", "/v1/jobs" + query, shapes_video(), key);
    CHECK(again.status == 202);
    CHECK(again.json().at("id").as_string() == id);
    CHECK(site.ask("POST", "/v1/jobs", shapes_video(), key).status == 422);
    std::string const equal = site.submit(shapes_video(), query);
    CHECK(site.end_of(equal).at("state").as_string() == "succeeded");
    CHECK(site.on_site([](auto& s) { return s.results.cache().statistics().loads; }) == 1);
    site.stop();
    CHECK(std::filesystem::is_empty(site.data() / "uploads"));
}

TEST_CASE("options may be in the query and in the form, but each in one of them") {
    running_site site;
    part const video{"video", shapes_video()};
    auto const both = submit_form(site, {{"options", R"({"every_n": 50})"}, video}, "?chunk=3");
    REQUIRE(both.status == 202);
    auto const ended = site.end_of(std::string(both.json().at("id").as_string()));
    CHECK(ended.at("frames_done").to_number<int>() == 6);
    auto r = submit_form(site, {{"options", R"({"every_n": 50})"}, video}, "?every_n=50");
    CHECK(r.status == 400);
    CHECK(why(r) == "every_n is given twice");
    r = site.ask("POST", "/v1/jobs?every_n=50&every_n=50", "x");
    CHECK(r.status == 400);
    CHECK(why(r) == "every_n is given twice");
    CHECK(submit_form(site, {video}, "?every_n=50").status == 202);
}

TEST_CASE("options in JSON are checked as those in the query") {
    running_site site;
    auto const complaint = [&](const std::string& options) {
        auto const r = submit_form(site, {{"options", options}, {"video", "x"}});
        CHECK(r.status == 400);
        return why(r);
    };
    CHECK(complaint(R"({"every_n": 0})") == "every_n is '0', allowed is 1 to 100000");
    CHECK(complaint(R"({"every_n": 1.5})") == "every_n is '1.5', allowed is 1 to 100000");
    CHECK(complaint(R"({"chunk": 1e30})") == "chunk is '1e+30', allowed is 1 to 100000");
    CHECK(complaint(R"({"confidence": -0.5})") == "confidence is '-0.5', allowed is 0 to 1");
    CHECK(complaint(R"({"iou": 1e999})") == "iou is 'inf', allowed is 0 to 1");
    CHECK(complaint(R"({"every_n": "3"})") == "every_n is \"3\", allowed is a number");
    CHECK(complaint(R"({"annotate": 1})") == "annotate is 1, allowed is true or false");
    CHECK(complaint(R"({"name": null})") == "name is null, allowed is a string");
    CHECK(complaint(R"({"model": "none"})") == "there is no model 'none'");
    CHECK(complaint(R"({"colour": 1})").starts_with("there is no option 'colour', but name, "));
    CHECK(complaint("[1]") == "the options are [1], allowed is an object");
    CHECK(complaint("{\"chunk\": 1").starts_with("the options are no JSON: "));
    CHECK(complaint(std::string(100, '[')).starts_with("the options are no JSON: "));
    CHECK(complaint(std::string(20'000, ' ')) == "the options are more than 16384 bytes long");
    CHECK(std::filesystem::is_empty(site.data() / "uploads"));
}

TEST_CASE("forms that make no sense are told why, and leave nothing") {
    running_site site;
    part const video{"video", std::string(200'000, 'x')};
    auto r = submit_form(site, {{"options", "{}"}});
    CHECK(r.status == 400);
    CHECK(why(r) == "there is no video: send it as the body, or as the part video of a form");
    CHECK(submit_form(site, {{"video", ""}}).status == 400);
    CHECK(why(submit_form(site, {video, video})) == "the part video is there twice");
    CHECK(why(submit_form(site, {{"options", "{}"}, {"options", "{}"}, video})) ==
          "the part options is there twice");
    CHECK(why(submit_form(site, {{"file", "x"}})) ==
          "there is no part 'file', but options and video");
    std::string const cut = form_of({video}).substr(0, 200'000);
    r = site.ask("POST", "/v1/jobs", cut, is_form);
    CHECK(r.status == 400);
    CHECK(why(r) == "the body ends before its last boundary");
    CHECK(site.ask("POST", "/v1/jobs", cut, {{"Content-Type", "multipart/form-data"}}).status ==
          400);
    r = site.ask("POST", "/v1/jobs", "{}", {{"Content-Type", "application/json"}});
    CHECK(r.status == 400);
    CHECK(why(r).starts_with("the body is JSON, allowed is the video, or multipart/form-data"));
    CHECK(std::filesystem::is_empty(site.data() / "uploads"));
    CHECK(site.ask("GET", "/v1/jobs").json().at("jobs").as_array().empty());
}

TEST_CASE("too large a form is refused, announced or not, and leaves nothing") {
    auto options = test::usual_options();
    options.http.body_bytes = 100'000;
    running_site site(options);
    CHECK(submit_form(site, {{"video", std::string(100'001, 'x')}}).status == 413);
    test::http_client chunked(site.port());
    chunked.send_raw("POST /v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                     "Content-Type: multipart/form-data; boundary=b\r\n\r\n");
    std::string const begin = "--b\r\nContent-Disposition: form-data; name=video\r\n\r\n";
    chunked.send_raw(fmt::format("{:x}\r\n{}\r\n", begin.size(), begin));
    for (int i = 0; i < 11; ++i) chunked.send_raw("2710\r\n" + std::string(10'000, 'x') + "\r\n");
    CHECK(chunked.receive().status == 413);
    site.stop();
    CHECK(std::filesystem::is_empty(site.data() / "uploads"));
}

TEST_CASE("curl sends such forms") {
    if (std::system("curl --version > /dev/null 2>&1") != 0) SKIP("no curl here");
    running_site site;
    temp_folder const folder;
    auto const post = [&](const std::string& options) {
        std::string const command = "curl --silent --show-error " + options + " --form video=@" +
                                    (test::assets / "shapes.mp4").string() + " --output " +
                                    (folder / "said").string() +
                                    " http://127.0.0.1:" + std::to_string(site.port()) + "/v1/jobs";
        CHECK(WEXITSTATUS(std::system(command.c_str())) == 0);
        return json::parse(file_text(folder / "said")).as_object();
    };
    auto const job = post(R"(--form 'options={"name": "by curl", "every_n": 50};)"
                          R"(type=application/json')");
    CHECK(job.at("name").as_string() == "by curl");
    auto const ended = site.end_of(std::string(job.at("id").as_string()));
    CHECK(ended.at("state").as_string() == "succeeded");
    CHECK(ended.at("frames_done").to_number<int>() == 6);
    CHECK(post("--form 'options={\"every_n\": 0}'").at("detail").as_string() ==
          "every_n is '0', allowed is 1 to 100000");
}
