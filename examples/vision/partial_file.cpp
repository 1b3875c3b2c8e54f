// SPDX-License-Identifier: BSL-1.0
// A rename within one folder is atomic.
#include "partial_file.hpp"

#include "error.hpp"
#include "output_stream.hpp"

#include <fmt/format.h>
#include <system_error>

namespace vision {

partial_file::partial_file(std::filesystem::path final_path)
    : final_(std::move(final_path)), temporary_(final_) {
    temporary_.replace_filename(final_.stem().string() + ".part" + final_.extension().string());
}

partial_file::~partial_file() {
    if (!committed_) {
        std::error_code ignored;
        std::filesystem::remove(temporary_, ignored);
    }
}

void partial_file::commit() {
    std::error_code problem;
    std::filesystem::rename(temporary_, final_, problem);
    if (problem) {
        throw output_error(
            fmt::format("cannot write '{}': {}", final_.string(), problem.message()));
    }
    committed_ = true;
}

void make_output_folder(const std::filesystem::path& folder) {
    std::error_code problem;
    std::filesystem::create_directories(folder, problem);
    if (problem) {
        throw output_error(fmt::format("cannot make the output folder '{}': {}", folder.string(),
                                       problem.message()));
    }
}

void write_whole_file(const std::filesystem::path& path, std::string_view text) {
    partial_file file(path);
    output_stream out(file);
    out.write(text);
    out.close();
    file.commit();
}

} // namespace vision
