// SPDX-License-Identifier: BSL-1.0
// Faults of all kinds at random, with jobs between them: each job ends as its own faults say, and
// the service is whole afterwards.
#include "error.hpp"
#include "running_site.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/json/serialize.hpp>

#include <atomic>
#include <list>
#include <map>
#include <regex>
#include <stdexcept>

using test::running_site;
using test::shapes_video;

namespace {

// What goes wrong inside, for all jobs.
struct weather {
    std::atomic<std::uint64_t> inferences{0};
    std::atomic<std::uint64_t> failing_inference{0}; // every n-th; never: 0
    std::atomic<int> failures_left{0};               // fewer than the tries that a frame has
    std::atomic<bool> backend_down{false};
    std::atomic<std::int64_t> readable{-1}; // frames until the decoder fails once; never: -1

    void calm() {
        failing_inference = 0;
        failures_left = 4;
        backend_down = false;
        readable = -1;
    }
    void change(test::random& random) {
        calm();
        switch (test::below(random, 4)) {
        case 0: failing_inference = 5 + test::below(random, 20); break;
        case 1: backend_down = true; break;
        case 2: readable = static_cast<std::int64_t>(test::below(random, 1000)); break;
        default: break;
        }
    }

    std::string in_words() const {
        return "inferences: " + std::to_string(inferences) + ", failing: every " +
               std::to_string(failing_inference) +
               ", failures left: " + std::to_string(failures_left) +
               (backend_down ? ", backend down" : "") + ", readable: " + std::to_string(readable);
    }

    bool fails_this_time() {
        auto const every = failing_inference.load();
        return every && ++inferences % every == 0 && failures_left-- > 0;
    }

    vision::service::service_options options() {
        auto o = test::usual_options();
        o.engine.decoders = 2;
        o.engine.before_inference = [this] {
            if (backend_down || fails_this_time()) throw std::runtime_error("planted");
        };
        o.engine.before_read = [this] {
            if (readable >= 0 && readable-- == 0) throw vision::source_error("planted");
        };
        return o;
    }
};

struct sent_job {
    std::string id;
    bool is_video = true;
    bool cancelled = false;
};

// "failed decode", and the like.
std::string how_it_ended(running_site& site, const std::string& id) {
    auto const end = site.end_of(id);
    std::string const state(end.at("state").as_string());
    if (state != "failed") return state;
    return state + " " + std::string(end.at("error").at("title").as_string());
}

class fault_schedule {
public:
    fault_schedule(running_site& site, weather& outside, std::uint64_t seed)
        : site_(site), weather_(outside), random_(seed) {}

    // The states and reasons that its jobs ended with.
    std::map<std::string, int> play() {
        weather_.change(random_);
        for (int i = 0; i < 3; ++i) act();
        std::map<std::string, int> ends;
        for (auto const& one : sent_) ++ends[end_of(one)];
        return ends;
    }

private:
    void act() {
        switch (test::below(random_, 7)) {
        case 0: submit("no video at all").is_video = false; break;
        case 1:
            submit(video_.substr(0, test::below(random_, video_.size()))).is_video = false;
            break;
        case 2: cancel(submit(video_)); break;
        case 3: vanish_in_upload(); break;
        case 4: watch_without_reading(submit(video_)); break;
        default: submit(video_);
        }
    }

    sent_job& submit(const std::string& bytes) {
        // Mostly other options than before, so that no earlier result answers.
        auto const options = "?annotate=false&every_n=" + std::to_string(20 + below(10)) +
                             "&confidence=0.2" + std::to_string(below(1000));
        return sent_.emplace_back(sent_job{site_.submit(bytes, options)});
    }

    void cancel(sent_job& one) {
        for (auto polls = below(5); polls > 0; --polls) site_.ask("GET", "/v1/jobs/" + one.id);
        site_.ask("DELETE", "/v1/jobs/" + one.id);
        one.cancelled = true;
    }

    void vanish_in_upload() {
        test::http_client client(site_.port());
        client.send_raw("POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: " +
                        std::to_string(video_.size()) + "\r\n\r\n" +
                        video_.substr(0, below(video_.size())));
    }

    void watch_without_reading(const sent_job& one) {
        auto& client = *deaf_.emplace_back(std::make_unique<test::http_client>(site_.port()));
        client.send_raw("GET /v1/jobs/" + one.id + "/events HTTP/1.1\r\nHost: x\r\n\r\n");
    }

    std::string end_of(const sent_job& one) {
        auto const how = how_it_ended(site_, one.id);
        INFO(boost::json::serialize(site_.end_of(one.id)));
        INFO(weather_.in_words());
        INFO(how << (one.is_video ? ", a video" : "") << (one.cancelled ? ", cancelled" : ""));
        bool const by_itself = one.is_video ? how == "succeeded" : how == "failed decode";
        bool const by_weather = (weather_.backend_down && how == "failed backend") ||
                                (weather_.readable == -1 && how == "failed decode");
        CHECK((by_itself || by_weather || (one.cancelled && how == "cancelled")));
        return how;
    }

    std::size_t below(std::size_t limit) { return test::below(random_, limit); }

    running_site& site_;
    weather& weather_;
    test::random random_;
    std::string const video_ = shapes_video();
    std::vector<std::unique_ptr<test::http_client>> deaf_;
    std::list<sent_job> sent_;
};

using ends_by_name = std::map<std::string, int>;

// Asks again where the backend was down, until the breaker lets calls through.
std::string result_in_fair_weather(running_site& site, std::size_t number, ends_by_name& ends) {
    // A threshold that no other job has, so that no earlier result answers; by so little that the
    // result is the same.
    auto const options = "?annotate=false&every_n=10&confidence=" +
                         std::to_string(0.3 + 1e-6 * static_cast<double>(number));
    for (;;) {
        auto const id = site.submit(shapes_video(), options);
        auto const how = how_it_ended(site, id);
        ++ends[how];
        if (how == "succeeded") return site.ask("GET", "/v1/jobs/" + id + "/result").body;
        REQUIRE(how == "failed backend");
    }
}

ends_by_name ends_in_metrics(const std::string& page) {
    std::regex const line(
        R"re(tidegate_vision_jobs_total\{state="(\w+)",reason="(\w+)"\} (\d+)\n)re");
    ends_by_name ends;
    for (std::sregex_iterator at(page.begin(), page.end(), line), end; at != end; ++at) {
        std::string const reason = (*at)[2];
        ends[(*at)[1].str() + (reason == "none" ? "" : " " + reason)] = std::stoi((*at)[3]);
    }
    return ends;
}

std::string in_words(const ends_by_name& ends) {
    std::string text;
    for (auto const& [how, times] : ends) text += how + ": " + std::to_string(times) + ", ";
    return text;
}

} // namespace

TEST_CASE("random faults harm nobody else, and are told with their reasons") {
    weather outside;
    running_site site(outside.options());
    ends_by_name all;
    auto const undisturbed = result_in_fair_weather(site, 0, all);
    std::uint64_t const first = test::seeds().back();
    for (std::size_t i = 0; i < test::schedules(200); ++i) {
        INFO("TIDEGATE_STRESS_SEED=" << first + i);
        for (auto const& [how, times] : fault_schedule(site, outside, first + i).play()) {
            all[how] += times;
        }
        bool const was_down = outside.backend_down;
        outside.calm();
        if (was_down) result_in_fair_weather(site, 1 + i, all);
    }
    CHECK(site.ask("GET", "/livez").status == 200);
    CHECK(result_in_fair_weather(site, 1 + test::schedules(200), all) == undisturbed);
    CHECK(std::filesystem::is_empty(site.data() / "uploads"));
    std::string counted;
    for (int i = 0; i < 1000 && counted != in_words(all); ++i) { // just after it is told
        counted = in_words(ends_in_metrics(site.ask("GET", "/metrics").body));
    }
    CHECK(counted == in_words(all));
    for (auto const* const how : {"succeeded", "cancelled", "failed decode", "failed backend"}) {
        CHECK(all[how] > 0);
    }
}
