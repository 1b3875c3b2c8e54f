// SPDX-License-Identifier: BSL-1.0
// Where the service keeps its files: one process at a time, or all those of a queue in Redis, and
// nobody else's files are touched.
#pragma once

#include <boost/interprocess/sync/file_lock.hpp>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace vision::service {

// Of a folder: what was written last in it.
[[nodiscard]] std::filesystem::file_time_type last_written(const std::filesystem::path& path);

class data_folder {
public:
    enum class owner {
        this_process,
        many, // processes, whose jobs are remembered elsewhere
    };

    // Makes what is missing. Throws vision::error, also while a process uses the folder that does
    // not share it, and, for one process, where the folder is known to belong to many.
    explicit data_folder(const std::filesystem::path& path, owner whose = owner::this_process);

    [[nodiscard]] std::filesystem::path upload(const std::string& job_id) const {
        return path_ / "uploads" / job_id;
    }
    [[nodiscard]] std::filesystem::path uploads() const { return path_ / "uploads"; }
    [[nodiscard]] std::filesystem::path results() const { return path_ / "results"; }
    // What one process remembers of its jobs.
    [[nodiscard]] std::filesystem::path jobs() const { return path_ / "jobs"; }

    // Uploads and results, unfinished ones too, that nobody has written to since. Blocks; throws
    // vision::error.
    [[nodiscard]] std::vector<std::filesystem::path>
    files_older_than(std::chrono::seconds age) const;

private:
    std::filesystem::path path_;
    boost::interprocess::file_lock lock_; // until the process ends
};

} // namespace vision::service
