// SPDX-License-Identifier: BSL-1.0
// A service that is started again on its folder knows what it knew, and does what it owes.
#include "running_site.hpp"
#include "served_process.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <boost/json/serialize.hpp>

namespace fs = std::filesystem;
namespace json = boost::json;
using test::running_site;
using test::shapes_video;
using test::undisturbed;

namespace {

auto options_in(const temp_folder& folder) {
    auto options = test::usual_options();
    options.data = folder / "data";
    return options;
}

json::object job_of(running_site& site, const std::string& id) {
    return site.ask("GET", "/v1/jobs/" + id).json();
}

std::string state_of(running_site& site, const std::string& id) {
    return std::string(job_of(site, id).at("state").as_string());
}

void change(const fs::path& record, const std::string& field, const std::string& value) {
    json::object all = json::parse(file_text(record)).as_object();
    all[field] = value;
    std::ofstream(record, std::ios::binary) << json::serialize(all);
}

std::size_t entries(const fs::path& folder) {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), {}));
}

// One job that has ended; its record.
std::string one_job(const temp_folder& folder, const std::string& query = "?every_n=50") {
    running_site site(options_in(folder));
    std::string const id = site.submit(shapes_video(), query);
    CHECK(site.end_of(id).at("state").as_string() == "succeeded");
    return id;
}

fs::path record_of(const temp_folder& folder, const std::string& id) {
    return folder / "data" / "jobs" / (id + ".json");
}

} // namespace

TEST_CASE("jobs that had ended answer after a restart as before it") {
    temp_folder const folder;
    std::string good, bad;
    json::object before, bad_before;
    std::string result, video;
    {
        auto options = options_in(folder);
        running_site site(options);
        good = site.ask("POST", "/v1/jobs?name=a%20name&every_n=10", shapes_video(),
                        {{"Idempotency-Key", "k"}})
                   .json()
                   .at("id")
                   .as_string();
        bad = site.submit("no video at all");
        site.end_of(good);
        site.end_of(bad);
        before = job_of(site, good);
        bad_before = job_of(site, bad);
        CHECK(before.at("state").as_string() == "succeeded");
        CHECK(bad_before.at("state").as_string() == "failed");
        result = site.ask("GET", "/v1/jobs/" + good + "/result").body;
        video = site.ask("GET", "/v1/jobs/" + good + "/video").body;
    }
    running_site site(options_in(folder));
    CHECK(job_of(site, good) == before);
    CHECK(job_of(site, bad) == bad_before);
    CHECK(site.ask("GET", "/v1/jobs").json().at("jobs").as_array().size() == 2);
    auto const again = site.ask("GET", "/v1/jobs/" + good + "/result");
    CHECK(again.status == 200);
    CHECK(again.body == result);
    CHECK((site.ask("GET", "/v1/jobs/" + good + "/video").body == video));
    CHECK(site.end_of(good).at("state").as_string() == "succeeded"); // events: the end at once
    auto const known = site.ask("POST", "/v1/jobs?name=a%20name&every_n=10", shapes_video(),
                                {{"Idempotency-Key", "k"}});
    CHECK(known.status == 202);
    CHECK(known.json().at("id").as_string() == good);
    CHECK(site.on_site([](auto& s) { return s.engine.frames_decoded.load(); }) == 0);
    std::string const equal = site.submit(shapes_video(), "?every_n=10"); // the same result
    CHECK(site.end_of(equal).at("state").as_string() == "succeeded");
    CHECK(site.on_site([](auto& s) { return s.engine.frames_decoded.load(); }) == 0);
}

TEST_CASE("jobs that had not ended go on after a restart, from where they were") {
    std::string const expected = undisturbed("?chunk=10");
    temp_folder const folder;
    std::string ran, waited;
    {
        auto options = options_in(folder);
        options.max_running = 1;
        options.drain = std::chrono::seconds(0);
        running_site site(options);
        ran = site.submit(shapes_video(), "?chunk=10");
        waited = site.submit(shapes_video(), "?every_n=3");
        while (job_of(site, ran).at("frames_done").to_number<int>() < 20) {
            std::this_thread::yield();
        }
        site.stop();
    }
    running_site site(options_in(folder));
    auto const ended = site.end_of(ran);
    CHECK(ended.at("state").as_string() == "succeeded");
    CHECK(ended.at("attempt").to_number<int>() == 1);
    CHECK(site.ask("GET", "/v1/jobs/" + ran + "/result").body == expected);
    CHECK(site.end_of(waited).at("state").as_string() == "succeeded");
    auto const resumed = site.on_site([](auto& s) { return s.engine.frames_resumed; });
    CHECK(resumed >= 20);
    CHECK(site.on_site([](auto& s) { return s.engine.frames_inferred; }) == 300 + 100 - resumed);
    site.stop();
    CHECK(fs::is_empty(folder / "data/uploads"));
    CHECK(entries(folder / "data/results") == 2); // no checkpoints are left
}

TEST_CASE("a killed service is started again and loses nothing that it had accepted") {
    temp_folder const folder;
    test::served_process first(folder / "data", folder / "log", {"--max-running", "2"});
    std::vector<std::string> ids;
    for (int n = 1; n <= 4; ++n) {
        ids.push_back(first.submit(shapes_video(), "?chunk=5&every_n=" + std::to_string(n)));
    }
    first.kill();
    running_site site(options_in(folder));
    for (std::string const& id : ids) {
        auto const ended = site.end_of(id);
        CHECK(ended.at("state").as_string() == "succeeded");
        CHECK(ended.at("attempt").to_number<int>() <= 2);
    }
    CHECK(site.ask("GET", "/v1/jobs/" + ids[0] + "/result").body == undisturbed(""));
}

TEST_CASE("a record that is damaged is passed over, and stays where it is") {
    temp_folder const folder;
    std::string const id = one_job(folder);
    fs::path const record = record_of(folder, id);
    std::string const whole = file_text(record);
    std::string const other(32, 'a');
    auto const text = GENERATE_COPY(
        std::string(), std::string("{"), whole.substr(0, whole.size() / 2), std::string("[1,2]"),
        std::string(1, '\0'), std::string("{\"record\":\"1\"}"), std::string(2 << 20, ' '));
    std::ofstream(record, std::ios::binary) << text;
    fs::path const upload = folder / "data/uploads" / id;
    std::ofstream(upload, std::ios::binary) << "its video";
    std::ofstream(record_of(folder, other), std::ios::binary) << whole; // another job's
    fs::create_directory(record_of(folder, std::string(32, 'b')));
    running_site site(options_in(folder));
    CHECK(site.ask("GET", "/v1/jobs/" + id).status == 404);
    CHECK(site.ask("GET", "/v1/jobs/" + other).status == 404);
    CHECK(site.ask("GET", "/v1/jobs").json().at("jobs").as_array().empty());
    CHECK((file_text(record) == text));
    CHECK(file_text(upload) == "its video"); // for who understands the record
    std::string const next = site.submit(shapes_video(), "?every_n=50");
    CHECK(site.end_of(next).at("state").as_string() == "succeeded");
}

TEST_CASE("what cannot be done any more fails after a restart, and says why") {
    temp_folder const folder;
    std::string const id = one_job(folder);
    std::string reason;
    SECTION("the video is gone") {
        change(record_of(folder, id), "state", "queued");
        fs::remove_all(folder / "data/results");
        reason = "disk";
    }
    SECTION("the processes died of it") {
        change(record_of(folder, id), "state", "running");
        change(record_of(folder, id), "attempt", "6");
        std::ofstream(folder / ("data/uploads/" + id), std::ios::binary) << shapes_video();
        reason = "crash";
    }
    for (int starts = 0; starts < 2; ++starts) {
        running_site site(options_in(folder));
        auto const ended = site.end_of(id);
        CHECK(ended.at("state").as_string() == "failed");
        CHECK(ended.at("error").at("title").as_string() == reason);
    }
    CHECK(fs::is_empty(folder / "data/uploads"));
}

TEST_CASE("a job that was told to have succeeded has done so after a crash, written down or not") {
    temp_folder const folder;
    test::served_process first(folder / "data", folder / "log");
    std::string const id = first.submit(shapes_video(), "?chunk=1");
    fs::rename(folder / "data/jobs", folder / "away"); // from here on nothing can be written
    auto const events = test::parse_events(first.ask("GET", "/v1/jobs/" + id + "/events").body);
    CHECK(events.back().data.at("state").as_string() == "succeeded");
    while (!fs::is_empty(folder / "data/uploads")) std::this_thread::yield();
    first.kill();
    fs::rename(folder / "away", folder / "data/jobs");
    auto const written = [&] {
        return json::parse(file_text(record_of(folder, id))).at("state").as_string();
    };
    CHECK(written() != "succeeded");
    {
        running_site site(options_in(folder));
        auto const ended = job_of(site, id);
        CHECK(ended.at("state").as_string() == "succeeded");
        CHECK(ended.at("frames_done") == events.back().data.at("frames_done"));
        CHECK(ended.at("detections") == events.back().data.at("detections"));
        CHECK(site.ask("GET", "/v1/jobs/" + id + "/result").status == 200);
        CHECK(site.on_site([](auto& s) { return s.engine.frames_decoded.load(); }) == 0);
        site.stop();
    }
    CHECK(written() == "succeeded");
}

TEST_CASE("what is remembered is bounded by number and by age") {
    temp_folder const folder;
    auto options = options_in(folder);
    options.queue.max_remembered = 2;
    std::vector<std::string> ids;
    {
        running_site site(options);
        for (int i = 0; i < 6; ++i) {
            ids.push_back(site.submit(shapes_video(), "?every_n=50"));
            site.end_of(ids.back());
        }
        site.stop();
    }
    CHECK(entries(folder / "data/jobs") <= 3); // and one that came last
    SECTION("by number") {
        {
            running_site site(options);
            CHECK(site.ask("GET", "/v1/jobs").json().at("jobs").as_array().size() == 2);
            CHECK(state_of(site, ids.back()) == "succeeded");
            CHECK(site.ask("GET", "/v1/jobs/" + ids.front()).status == 404);
            while (entries(folder / "data/jobs") > 2) std::this_thread::yield();
            site.stop();
        }
        CHECK(entries(folder / "data/jobs") == 2);
    }
    SECTION("by age") {
        for (auto const& entry : fs::directory_iterator(folder / "data/jobs")) {
            change(entry.path(), "created", "1000");
            change(entry.path(), "ended", "2000");
        }
        for (auto const& entry : fs::recursive_directory_iterator(folder / "data/results")) {
            fs::last_write_time(entry.path(),
                                fs::file_time_type::clock::now() - std::chrono::hours(25));
        }
        {
            running_site site(options);
            CHECK(site.ask("GET", "/v1/jobs").json().at("jobs").as_array().empty());
            while (!fs::is_empty(folder / "data/jobs")) std::this_thread::yield();
            site.stop();
        }
        CHECK(fs::is_empty(folder / "data/jobs"));
        CHECK(fs::is_empty(folder / "data/results"));
    }
}

TEST_CASE("a result from the future is kept as one of now") {
    temp_folder const folder;
    std::string const id = one_job(folder);
    auto const future = fs::file_time_type::clock::now() + std::chrono::hours(24 * 365 * 12);
    for (auto const& entry : fs::recursive_directory_iterator(folder / "data/results")) {
        fs::last_write_time(entry.path(), future);
    }
    running_site site(options_in(folder));
    CHECK(site.ask("GET", "/v1/jobs/" + id + "/result").status == 200);
}

TEST_CASE("a result whose video is gone is made again when it is asked for") {
    temp_folder const folder;
    one_job(folder);
    std::size_t removed = 0;
    std::vector<fs::path> videos;
    for (auto const& entry : fs::recursive_directory_iterator(folder / "data/results")) {
        if (entry.path().extension() == ".mp4") videos.push_back(entry.path());
    }
    for (fs::path const& each : videos) removed += fs::remove(each) ? 1 : 0;
    REQUIRE(removed == 1);
    running_site site(options_in(folder));
    std::string const equal = site.submit(shapes_video(), "?every_n=50");
    CHECK(site.end_of(equal).at("state").as_string() == "succeeded");
    CHECK(site.ask("GET", "/v1/jobs/" + equal + "/video").status == 200);
}

TEST_CASE("records that a crash left half written are removed at the start, and nothing else") {
    temp_folder const folder;
    std::string const id = one_job(folder);
    fs::path const half = folder / "data/jobs" / ("." + id + ".json.0a1b2c.tmp");
    fs::path const other = folder / "data/jobs/.note.tmp";
    std::ofstream(half) << "{";
    std::ofstream(other) << "a user's";
    running_site site(options_in(folder));
    CHECK_FALSE(fs::exists(half));
    CHECK(fs::exists(other));
    CHECK(state_of(site, id) == "succeeded");
}

TEST_CASE("a job that cannot be written is not accepted") {
    temp_folder const folder;
    running_site site(options_in(folder));
    fs::remove_all(folder / "data/jobs");
    CHECK(site.ask("POST", "/v1/jobs", shapes_video()).status == 507);
    CHECK(fs::is_empty(folder / "data/uploads"));
    CHECK(site.ask("GET", "/v1/jobs").json().at("jobs").as_array().empty());
    fs::create_directories(folder / "data/jobs");
    std::string const id = site.submit(shapes_video(), "?every_n=50");
    CHECK(site.end_of(id).at("state").as_string() == "succeeded");
}
