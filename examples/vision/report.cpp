// SPDX-License-Identifier: BSL-1.0
#include "report.hpp"

#include "model_metadata.hpp"
#include "partial_file.hpp"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <sys/resource.h>

namespace vision {

namespace json = boost::json;

namespace {

double milliseconds(std::chrono::nanoseconds ns) {
    return std::chrono::duration<double, std::milli>(ns).count();
}

double mean_batch(const tidegate::batcher_statistics& stats) {
    return stats.batches ? static_cast<double>(stats.items) / static_cast<double>(stats.batches)
                         : 0;
}

constexpr const char* reason_names[] = {"full", "idle worker", "delay", "flush"};
static_assert(std::size(reason_names) == tidegate::core::batch_reasons);

std::string batches_text(const tidegate::batcher_statistics& stats) {
    std::string text = fmt::format("batches     {} of {:.2f} frames on average; sizes",
                                   stats.batches, mean_batch(stats));
    for (std::size_t n = 1; n < stats.by_size.size(); ++n) {
        if (stats.by_size[n]) text += fmt::format(" {}x{}", stats.by_size[n], n);
    }
    text += "; closed because";
    for (std::size_t r = 0; r < stats.by_reason.size(); ++r) {
        if (stats.by_reason[r]) text += fmt::format(" {} {}", reason_names[r], stats.by_reason[r]);
    }
    return text + "\n";
}

json::object batches_json(const tidegate::batcher_statistics& stats) {
    json::object sizes;
    for (std::size_t n = 1; n < stats.by_size.size(); ++n) {
        if (stats.by_size[n]) sizes[std::to_string(n)] = stats.by_size[n];
    }
    json::object reasons;
    for (std::size_t r = 0; r < stats.by_reason.size(); ++r) {
        reasons[reason_names[r]] = stats.by_reason[r];
    }
    return {{"batches", stats.batches},
            {"frames", stats.items},
            {"mean_size", mean_batch(stats)},
            {"by_size", std::move(sizes)},
            {"closed_because", std::move(reasons)}};
}

} // namespace

std::string run_report::text() const {
    const source_info& from = video.source;
    std::string out;
    out += fmt::format("source      {}\n            {}x{}, {:.2f} frames/s{}\n", from.path.string(),
                       from.size.width, from.size.height, from.frames_per_second,
                       from.rotation ? fmt::format(", turned by {} degrees", from.rotation) : "");
    out += fmt::format("model       {}\n            {}\n", model, layout);
    out += fmt::format("threads     {} inferences at once, batches up to {}\n",
                       tuned.chosen.workers, tuned.chosen.batch);
    if (!tuned.measured.empty()) out += "calibration\n" + tuned.table();
    out += fmt::format("frames      {} in {:.2f} s: {:.1f} frames/s, {:.2f} CPU ms a frame{}\n",
                       video.frames, video.took.count(), video.frames_per_second(),
                       video.frames ? 1000 * cpu_seconds / static_cast<double>(video.frames) : 0,
                       video.interrupted ? " (interrupted)" : "");
    out += fmt::format("detections  {}\n", video.detections);
    out += batches_text(batches);
    out += fmt::format("memory      {:.1f} MB at most, {} frames under way at most\n\n",
                       static_cast<double>(peak_memory_bytes) / 1e6, video.frames_in_flight);
    out += fmt::format("{:<18}{:>9}{:>10}{:>10}{:>10}{:>10}{:>10}\n", "stage (ms)", "count", "mean",
                       "p50", "p95", "p99", "max");
    for (const auto& s : stages) {
        out += fmt::format("{:<18}{:>9}{:>10.3f}{:>10.3f}{:>10.3f}{:>10.3f}{:>10.3f}\n", s.name,
                           s.count, milliseconds(s.mean), milliseconds(s.p50), milliseconds(s.p95),
                           milliseconds(s.p99), milliseconds(s.max));
    }
    for (const std::string& warning : video.warnings) out += "\nwarning: " + warning;
    if (!video.warnings.empty()) out += "\n";
    return out;
}

std::string run_report::json() const {
    json::array calibration_points;
    for (const tidegate::batch_measurement& p : tuned.measured) {
        calibration_points.push_back(json::object{
            {"workers", p.workers}, {"batch", p.batch}, {"frames_per_second", p.items_per_second}});
    }
    json::array stage_rows;
    for (const auto& s : stages) {
        stage_rows.push_back(json::object{{"name", s.name},
                                          {"count", s.count},
                                          {"mean_ms", milliseconds(s.mean)},
                                          {"p50_ms", milliseconds(s.p50)},
                                          {"p95_ms", milliseconds(s.p95)},
                                          {"p99_ms", milliseconds(s.p99)},
                                          {"max_ms", milliseconds(s.max)}});
    }
    json::array warnings;
    for (const std::string& warning : video.warnings) warnings.emplace_back(valid_utf8(warning));
    json::object all{{"source", valid_utf8(video.source.path.string())},
                     {"width", video.source.size.width},
                     {"height", video.source.size.height},
                     {"rotation", video.source.rotation},
                     {"model", valid_utf8(model)},
                     {"layout", layout},
                     {"workers", tuned.chosen.workers},
                     {"max_batch", tuned.chosen.batch},
                     {"calibration", std::move(calibration_points)},
                     {"frames", video.frames},
                     {"undecodable", video.undecodable},
                     {"dropped_boxes", video.dropped_boxes},
                     {"interrupted", video.interrupted},
                     {"detections", video.detections},
                     {"seconds", video.took.count()},
                     {"frames_per_second", video.frames_per_second()},
                     {"cpu_seconds", cpu_seconds},
                     {"peak_memory_bytes", peak_memory_bytes},
                     {"frames_in_flight", video.frames_in_flight},
                     {"batching", batches_json(batches)},
                     {"stages", std::move(stage_rows)},
                     {"warnings", std::move(warnings)}};
    return json::serialize(all) + "\n";
}

void run_report::write_to(const std::filesystem::path& folder) const {
    write_whole_file(folder / "report.txt", text());
    write_whole_file(folder / "report.json", json());
}

run_report make_report(const std::filesystem::path& model, engine& shared,
                       const loaded_model& loaded, video_summary video) {
    video.warnings.insert(video.warnings.begin(), loaded.model.layout().warnings.begin(),
                          loaded.model.layout().warnings.end());
    return {model.string(),
            loaded.model.layout().description(),
            loaded.tuned,
            std::move(video),
            loaded.batches.statistics(),
            shared.monitor.summary(),
            process_cpu_seconds(),
            process_peak_memory()};
}

double process_cpu_seconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    auto const seconds = [](timeval t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::int64_t process_peak_memory() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
#if defined(__APPLE__)
    return usage.ru_maxrss;
#else
    return std::int64_t{usage.ru_maxrss} * 1024;
#endif
}

} // namespace vision
