// SPDX-License-Identifier: BSL-1.0
// What people look at: the page, in a real browser, and the dashboard.
#include "running_site.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdio>
#include <memory>
#include <regex>
#include <set>

namespace {

std::string output_of(const std::string& command) {
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> const pipe(popen(command.c_str(), "r"), pclose);
    std::string text;
    for (int c = 0; (c = std::fgetc(pipe.get())) != EOF;) text += static_cast<char>(c);
    return text;
}

} // namespace

TEST_CASE("a browser shows the jobs, and how they ended") {
    if (output_of("command -v chromium").empty()) SKIP("there is no chromium to look at it with");
    test::running_site site;
    std::string const good = site.submit(test::shapes_video(), "?name=three%20shapes.mp4");
    std::string const bad = site.submit("no video", "?name=%3Cb%3Ebold%3C/b%3E");
    site.end_of(good);
    site.end_of(bad);
    temp_folder profile;
    std::string const page = output_of(
        "timeout 60 chromium --headless --no-sandbox --disable-gpu --user-data-dir=" +
        profile.path().string() + " --virtual-time-budget=2000 --dump-dom http://127.0.0.1:" +
        std::to_string(site.port()) + "/ 2>/dev/null");
    CHECK(page.find("three shapes.mp4") != std::string::npos);
    CHECK(page.find(">succeeded<") != std::string::npos);
    CHECK(page.find("/v1/jobs/" + good + "/video") != std::string::npos);
    CHECK(page.find("decode: the video: not a video that can be decoded here") !=
          std::string::npos);
    CHECK(page.find("<td>infer</td>") != std::string::npos);
    // A name is a text, whatever is in it.
    CHECK(page.find("&lt;b&gt;bold&lt;/b&gt;") != std::string::npos);
    CHECK(page.find("<b>bold") == std::string::npos);
}

TEST_CASE("the dashboard asks for metrics that exist") {
    test::running_site site;
    site.end_of(site.submit(test::shapes_video(), "?annotate=false"));
    site.ask("POST", "/v1/jobs", "x", {{"Origin", "http://elsewhere"}}); // one that is refused
    std::string const there = site.ask("GET", "/metrics").body;
    std::string const dashboard = file_text(std::filesystem::path(TIDEGATE_SOURCE_ROOT) /
                                            "examples/vision/dashboards/tidegate-vision.json");
    std::regex const name("tidegate_[a-z0-9_]+");
    std::set<std::string> asked;
    auto const panels = boost::json::parse(dashboard).at("panels").as_array();
    for (auto const& panel : panels) {
        for (auto const& target : panel.at("targets").as_array()) {
            std::string const text(target.at("expr").as_string());
            for (std::sregex_iterator it(text.begin(), text.end(), name), end; it != end; ++it) {
                asked.insert(it->str());
            }
        }
    }
    CHECK(asked.size() >= 10);
    for (std::string const& one : asked) {
        INFO(one);
        CHECK((there.find("\n" + one + " ") != std::string::npos ||
               there.find("\n" + one + "{") != std::string::npos));
    }
}
