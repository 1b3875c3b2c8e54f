// SPDX-License-Identifier: BSL-1.0
#include "own_folder.hpp"

#include "error.hpp"
#include "shared_results.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace vision::service {

namespace fs = std::filesystem;

namespace {

// Also from the future: a clock may have been wrong.
constexpr std::chrono::seconds any_age = -std::chrono::years(100);

std::vector<fs::path> files_in(const fs::path& folder) {
    std::vector<fs::path> all;
    std::error_code problem;
    for (fs::directory_iterator entry(folder, problem), last; !problem && entry != last;
         entry.increment(problem)) {
        all.push_back(entry->path());
    }
    if (problem) {
        throw output_error(fmt::format("cannot list '{}': {}", folder.string(), problem.message()));
    }
    return all;
}

// False: it is too old, or not whole.
bool restore_result(const fs::path& folder, analyses& results, std::chrono::seconds keep) {
    auto const age = age_of_analysis(folder);
    if (!age || *age >= keep) return false;
    try {
        auto found = load_analysis(folder);
        if (!found || !fs::exists(found->detections)) return false;
        if (!found->video.empty() && !fs::exists(found->video)) return false;
        auto const left = std::min(keep, keep - *age); // not more, if from the future
        results.restore(folder.filename().string(), std::move(*found), left);
        return true;
    } catch (const std::exception&) {
        return false; // damaged: it is made again when it is asked for
    }
}

// Jobs whose records nobody understands: another version of the program might.
std::set<std::string> unknown_jobs(const data_folder& data, const memory_job_queue& jobs) {
    std::set<std::string> unknown;
    for (const fs::path& each : files_in(data.jobs())) {
        std::string const id = each.stem().string();
        if (each.extension() == ".json" && !jobs.knows(id)) unknown.insert(id);
    }
    return unknown;
}

// What a process that died was writing there.
void remove_unfinished_records(const data_folder& data) {
    for (const fs::path& each : files_in(data.jobs())) {
        std::string const name = each.filename().string(); // .ID.json.*.tmp
        bool const is_unfinished = name.starts_with('.') && is_job_id(name.substr(1, 32)) &&
                                   name.substr(33).starts_with(".json.") && name.ends_with(".tmp");
        std::error_code ignored; // it takes room, and nothing else
        if (is_unfinished) fs::remove(each, ignored);
    }
}

} // namespace

void recognise_success(remembered_job& one, const data_folder& data) {
    job& what = one.what;
    std::error_code ec;
    if (is_final(what.state) || fs::exists(what.source, ec)) return;
    std::string const key = analyses::key(what);
    std::optional<analysis> found;
    try {
        found = load_analysis(data.results() / key);
    } catch (const output_error&) {
        return; // damaged: as good as none
    }
    if (!found) return;
    what.state = job_state::succeeded;
    what.result = key;
    what.warnings = found->warnings;
    what.frames_done = found->last.frames_done;
    what.frames_total = found->last.frames_total;
    what.detections = found->last.detections;
    what.frames_per_second = found->last.frames_per_second;
    what.ended = job::clock::now();
    ++what.version;
    one.is_written = false;
}

void restore_own_folder(const data_folder& data, const memory_job_queue& jobs, analyses& results,
                        std::chrono::seconds keep) {
    remove_unfinished_records(data);
    std::set<std::string> needed = unknown_jobs(data, jobs);
    // By open jobs: uploads, and what their runs left.
    for (const job& one : jobs.open_jobs()) {
        needed.insert(one.id);
        needed.insert(results.key(one));
    }
    for (const fs::path& each : data.files_older_than(any_age)) {
        bool const is_result = each.parent_path() == data.results() && !each.has_extension();
        bool const is_run = each.parent_path() == data.results() && each.has_extension();
        bool const is_upload = each.parent_path() == data.uploads() && !each.has_extension();
        bool stays = (is_run || is_upload) && needed.contains(each.stem().string());
        if (is_result) stays = restore_result(each, results, keep);
        std::error_code ignored; // it takes room, and nothing else
        if (!stays) fs::remove_all(each, ignored);
    }
}

} // namespace vision::service
