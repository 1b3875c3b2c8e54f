// SPDX-License-Identifier: BSL-1.0
#include "job.hpp"

#include <boost/json/array.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <random>

namespace vision::service {

namespace json = boost::json;

namespace {

json::value time_or_null(job::clock::time_point time) {
    if (time == job::clock::time_point{}) return nullptr;
    return json::value(to_rfc3339(time));
}

json::object links_of(const job& one) {
    std::string const self = "/v1/jobs/" + one.id;
    json::object links{{"self", self}, {"events", self + "/events"}};
    if (one.state == job_state::succeeded) {
        links["result"] = self + "/result";
        if (one.options.annotate) links["video"] = self + "/video";
    }
    return links;
}

} // namespace

std::string_view to_string(job_state state) noexcept {
    switch (state) {
    case job_state::queued: return "queued";
    case job_state::running: return "running";
    case job_state::succeeded: return "succeeded";
    case job_state::failed: return "failed";
    case job_state::cancelled: return "cancelled";
    }
    return "unknown";
}

std::string job_options::text() const {
    auto const or_default = [](const std::optional<float>& value) {
        return value ? fmt::format("{}", *value) : std::string("model");
    };
    // Neither the urgency nor the length of a chunk changes a result.
    return fmt::format("model={} every_n={} confidence={} iou={} annotate={}", model, every_n,
                       or_default(confidence), or_default(iou), annotate);
}

json::object to_json(const job& one) {
    json::object all{
        {"id", one.id},
        {"name", one.name},
        {"state", to_string(one.state)},
        {"model", one.options.model},
        {"frames_done", one.frames_done},
        {"frames_total", one.frames_total ? json::value(*one.frames_total) : json::value()},
        {"detections", one.detections},
        {"fps", one.frames_per_second},
        {"attempt", one.attempt},
        {"warnings", json::array(one.warnings.begin(), one.warnings.end())},
        {"created", time_or_null(one.created)},
        {"started", time_or_null(one.started)},
        {"ended", time_or_null(one.ended)},
        {"links", links_of(one)},
    };
    if (one.problem) {
        all["error"] = {{"type", "about:blank"},
                        {"title", one.problem->reason},
                        {"detail", one.problem->detail}};
    }
    return all;
}

std::string make_job_id() {
    std::random_device bits; // the system's, so that nobody guesses another's id
    std::string id;
    for (int i = 0; i < 4; ++i) id += fmt::format("{:08x}", bits());
    return id;
}

bool is_job_id(std::string_view text) noexcept {
    return text.size() == 32 && std::ranges::all_of(text, [](char c) {
               return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
           });
}

std::string to_rfc3339(job::clock::time_point time) {
    auto const whole = std::chrono::floor<std::chrono::seconds>(time);
    auto const rest = std::chrono::duration_cast<std::chrono::milliseconds>(time - whole);
    return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(job::clock::to_time_t(whole)),
                       rest.count());
}

} // namespace vision::service
