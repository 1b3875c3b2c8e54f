// SPDX-License-Identifier: BSL-1.0
#include "shared_results.hpp"

#include "error.hpp"
#include "partial_file.hpp"

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <fstream>
#include <iterator>

namespace vision::service {

namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

constexpr const char* summary_name = "summary.json";

std::string summary_of(const analysis& made) {
    json::object const all{
        {"frames", made.last.frames_done},
        {"detections", made.last.detections},
        {"fps", made.last.frames_per_second},
        {"video", made.video.filename().string()},
        {"warnings", json::array(made.warnings.begin(), made.warnings.end())},
    };
    return serialize(all);
}

analysis read_summary(const std::string& text, const fs::path& folder) {
    json::object const all = json::parse(text).as_object();
    analysis read;
    read.detections = folder / "detections.jsonl";
    auto const video = all.at("video").as_string();
    if (!video.empty()) read.video = folder / fs::path(std::string(video)).filename();
    read.last.frames_done = all.at("frames").to_number<std::int64_t>();
    read.last.frames_total = read.last.frames_done;
    read.last.detections = all.at("detections").to_number<std::int64_t>();
    read.last.frames_per_second = all.at("fps").to_number<double>();
    for (const json::value& each : all.at("warnings").as_array()) {
        read.warnings.emplace_back(each.as_string());
    }
    return read;
}

} // namespace

std::optional<analysis> load_analysis(const fs::path& folder) {
    std::error_code ignored; // first of all: whoever sweeps looks at that last
    fs::last_write_time(folder, fs::file_time_type::clock::now(), ignored);
    std::ifstream in(folder / summary_name, std::ios::binary);
    if (!in) return std::nullopt;
    std::string const text{std::istreambuf_iterator<char>(in), {}};
    try {
        return read_summary(text, folder);
    } catch (const std::exception& e) {
        throw output_error(
            fmt::format("'{}' is not ours: {}", (folder / summary_name).string(), e.what()));
    }
}

analysis publish_analysis(const analysis& made, const fs::path& folder) {
    fs::path const own = made.detections.parent_path();
    write_whole_file(own / summary_name, summary_of(made));
    std::error_code ec;
    std::error_code ignored;
    fs::rename(own, folder, ec); // onto one that is not empty it fails
    if (ec && !age_of_analysis(folder)) {
        fs::rename(folder, new_run_of(folder), ignored);
        fs::rename(own, folder, ec);
    }
    if (ec) fs::remove_all(own, ignored);
    if (auto there = load_analysis(folder)) return std::move(*there);
    throw output_error(fmt::format("cannot make '{}': {}", folder.string(), ec.message()));
}

std::optional<std::chrono::seconds> age_of_analysis(const fs::path& folder) {
    std::error_code ec;
    auto const made = fs::last_write_time(folder / summary_name, ec);
    if (ec) return std::nullopt;
    return std::chrono::duration_cast<std::chrono::seconds>(fs::file_time_type::clock::now() -
                                                            made);
}

std::vector<fs::path> runs_of(const fs::path& results, const std::string& key) {
    std::vector<fs::path> runs;
    std::error_code problem; // then there is nothing to go on from
    for (fs::directory_iterator entry(results, problem), last; !problem && entry != last;
         entry.increment(problem)) {
        if (entry->path().filename().string().starts_with(key + '.')) runs.push_back(entry->path());
    }
    return runs;
}

fs::path new_run_of(const fs::path& result) {
    fs::path run = result;
    run += '.' + make_job_id();
    return run;
}

} // namespace vision::service
