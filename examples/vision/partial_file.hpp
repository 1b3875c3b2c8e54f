// SPDX-License-Identifier: BSL-1.0
// Writes under a temporary name and renames on success: nothing half-written looks whole.
#pragma once

#include <filesystem>
#include <string_view>

namespace vision {

// "out/report.json" is written as "out/report.part.json" (the extension tells some writers the
// format). Destroyed without commit, it removes the temporary file.
class partial_file {
public:
    explicit partial_file(std::filesystem::path final_path);
    ~partial_file();
    partial_file(const partial_file&) = delete;
    partial_file& operator=(const partial_file&) = delete;

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return final_; }
    [[nodiscard]] const std::filesystem::path& temporary() const noexcept { return temporary_; }

    // The writer has closed the file: gives it its name, replacing an older one. Throws
    // vision::error.
    void commit();

private:
    std::filesystem::path final_;
    std::filesystem::path temporary_;
    bool committed_ = false;
};

// Makes `folder` and those above it, unless it is there. Throws vision::error.
void make_output_folder(const std::filesystem::path& folder);

// All of `text` or nothing, for reports. Throws vision::error naming the path and the reason.
void write_whole_file(const std::filesystem::path& path, std::string_view text);

} // namespace vision
