// SPDX-License-Identifier: BSL-1.0
#include "data_folder.hpp"

#include "error.hpp"
#include "partial_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <string_view>

namespace vision::service {

namespace fs = std::filesystem;

namespace {

bool is_hexadecimal(std::string_view text) {
    return std::ranges::all_of(
        text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// Only what has a name that we give.
void sweep(const fs::path& folder, std::size_t digits) {
    std::error_code problem;
    for (fs::directory_iterator entry(folder, problem), last; !problem && entry != last;
         entry.increment(problem)) {
        std::string const name = entry->path().stem().string();
        if (name.size() != digits || !is_hexadecimal(name)) continue;
        std::error_code ignored; // it takes room, and nothing else
        fs::remove_all(entry->path(), ignored);
    }
    if (problem) {
        throw output_error(fmt::format("cannot list '{}': {}", folder.string(), problem.message()));
    }
}

boost::interprocess::file_lock lock(const fs::path& file) {
    if (!std::ofstream(file, std::ios::app)) {
        throw output_error(fmt::format("cannot write '{}'", file.string()));
    }
    boost::interprocess::file_lock taken(file.string().c_str());
    if (!taken.try_lock()) {
        throw error(
            fmt::format("the folder '{}' is used by another process", file.parent_path().string()));
    }
    return taken;
}

} // namespace

data_folder::data_folder(const fs::path& path) : path_(path) {
    make_output_folder(path_ / "uploads");
    make_output_folder(results());
    lock_ = lock(path_ / "lock");
    sweep(path_ / "uploads", 32);
    sweep(results(), 64);
}

} // namespace vision::service
