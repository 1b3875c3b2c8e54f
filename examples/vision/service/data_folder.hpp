// SPDX-License-Identifier: BSL-1.0
// Where the service keeps its files: one process at a time, and nobody else's files are touched.
#pragma once

#include <boost/interprocess/sync/file_lock.hpp>

#include <filesystem>
#include <string>

namespace vision::service {

class data_folder {
public:
    // Makes what is missing, and removes what an earlier process left behind, whose jobs are
    // forgotten. Throws vision::error, also while another process uses the folder.
    explicit data_folder(const std::filesystem::path& path);

    [[nodiscard]] std::filesystem::path upload(const std::string& job_id) const {
        return path_ / "uploads" / job_id;
    }
    [[nodiscard]] std::filesystem::path results() const { return path_ / "results"; }

private:
    std::filesystem::path path_;
    boost::interprocess::file_lock lock_; // until the process ends
};

} // namespace vision::service
