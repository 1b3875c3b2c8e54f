// SPDX-License-Identifier: BSL-1.0
#include "own_folder.hpp"

#include "error.hpp"
#include "shared_results.hpp"

#include <set>

namespace vision::service {

namespace fs = std::filesystem;

namespace {

// False: it is too old, or not whole.
bool restore_result(const fs::path& folder, analyses& results, std::chrono::seconds keep) {
    auto const age = age_of_analysis(folder);
    if (!age || *age >= keep) return false;
    try {
        auto found = load_analysis(folder);
        if (!found || !fs::exists(found->detections)) return false;
        results.restore(folder.filename().string(), std::move(*found), keep - *age);
        return true;
    } catch (const error&) {
        return false; // damaged: it is made again when it is asked for
    }
}

} // namespace

void restore_own_folder(const data_folder& data, const memory_job_queue& jobs, analyses& results,
                        std::chrono::seconds keep) {
    std::set<std::string> needed; // by open jobs: uploads, and what their runs left
    for (const job& one : jobs.open_jobs()) {
        needed.insert(one.id);
        needed.insert(results.key(one));
    }
    for (const fs::path& each : data.files_older_than(std::chrono::seconds(0))) {
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
