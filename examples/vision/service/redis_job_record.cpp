// SPDX-License-Identifier: BSL-1.0
#include "redis_job_record.hpp"

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <charconv>
#include <string_view>

namespace vision::service {

namespace json = boost::json;

namespace {

template <class Number>
Number number(std::string_view text, Number otherwise = {}) {
    Number value{};
    auto const [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    return ec == std::errc() && end == text.data() + text.size() ? value : otherwise;
}

template <class Number>
std::optional<Number> number_or_none(std::string_view text) {
    if (text.empty()) return std::nullopt;
    return number<Number>(text);
}

template <class Number>
std::string text_or_none(const std::optional<Number>& value) {
    return value ? fmt::format("{}", *value) : std::string();
}

job::clock::time_point time(std::string_view ms) {
    return job::clock::time_point(std::chrono::milliseconds(number<std::int64_t>(ms)));
}

job_state state(std::string_view text) {
    using enum job_state;
    for (job_state const each : {running, succeeded, failed, cancelled}) {
        if (text == to_string(each)) return each;
    }
    return queued;
}

std::vector<std::string> list(std::string_view text) {
    std::vector<std::string> all;
    boost::system::error_code ec;
    json::value const parsed = json::parse(text, ec);
    if (ec || !parsed.is_array()) return all;
    for (const json::value& each : parsed.get_array()) {
        if (each.is_string()) all.emplace_back(each.get_string());
    }
    return all;
}

void set(job_record& to, std::string_view field, const std::string& value) {
    job& one = to.what;
    job_options& wants = one.options;
    if (field == "id") one.id = value;
    else if (field == "name") one.name = value;
    else if (field == "content") one.content = value;
    else if (field == "model") wants.model = value;
    else if (field == "every_n") wants.every_n = number<std::size_t>(value, 1);
    else if (field == "chunk") wants.chunk = number<std::size_t>(value, 30);
    else if (field == "confidence") wants.confidence = number_or_none<float>(value);
    else if (field == "iou") wants.iou = number_or_none<float>(value);
    else if (field == "annotate") wants.annotate = value == "1";
    else if (field == "urgent") wants.urgent = value == "1";
    else if (field == "state") one.state = state(value);
    else if (field == "frames_done") one.frames_done = number<std::int64_t>(value);
    else if (field == "frames_total") one.frames_total = number_or_none<std::int64_t>(value);
    else if (field == "detections") one.detections = number<std::int64_t>(value);
    else if (field == "fps") one.frames_per_second = number<double>(value);
    else if (field == "attempt") one.attempt = number<std::uint32_t>(value);
    else if (field == "warnings") one.warnings = list(value);
    else if (field == "result") one.result = value;
    else if (field == "created") one.created = time(value);
    else if (field == "started") one.started = time(value);
    else if (field == "ended") one.ended = time(value);
    else if (field == "version") one.version = number<std::uint64_t>(value, 1);
    else if (field == "fence") to.fence = number<std::uint64_t>(value);
    else if (field == "problem" && !value.empty()) {
        if (!one.problem) one.problem.emplace();
        one.problem->reason = value;
    } else if (field == "detail" && !value.empty()) {
        if (!one.problem) one.problem.emplace();
        one.problem->detail = value;
    }
}

} // namespace

std::vector<std::string> fields_of(const job& one) {
    const job_options& wants = one.options;
    return {"id",         one.id,
            "name",       one.name,
            "content",    one.content,
            "wants",      wants.text(),
            "model",      wants.model,
            "every_n",    std::to_string(wants.every_n),
            "chunk",      std::to_string(wants.chunk),
            "confidence", text_or_none(wants.confidence),
            "iou",        text_or_none(wants.iou),
            "annotate",   wants.annotate ? "1" : "0",
            "urgent",     wants.urgent ? "1" : "0"};
}

std::vector<std::string> fields_of(const job_progress& progress) {
    return {"frames_done",  std::to_string(progress.frames_done),
            "frames_total", text_or_none(progress.frames_total),
            "detections",   std::to_string(progress.detections),
            "fps",          fmt::format("{}", progress.frames_per_second)};
}

std::vector<std::string> fields_of(const job_end& end) {
    json::array const warnings(end.warnings.begin(), end.warnings.end());
    return {"warnings", serialize(warnings),                    //
            "problem",  end.problem ? end.problem->reason : "", //
            "detail",   end.problem ? end.problem->detail : ""};
}

job_record read_record(std::span<const std::string> all) {
    job_record one;
    for (std::size_t i = 0; i + 1 < all.size(); i += 2) set(one, all[i], all[i + 1]);
    return one;
}

} // namespace vision::service
