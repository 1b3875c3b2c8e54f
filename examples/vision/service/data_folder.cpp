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
std::vector<fs::path> ours_in(const fs::path& folder, std::size_t digits) {
    std::vector<fs::path> ours;
    std::error_code problem;
    for (fs::directory_iterator entry(folder, problem), last; !problem && entry != last;
         entry.increment(problem)) {
        std::string const name = entry->path().stem().string();
        if (name.size() == digits && is_hexadecimal(name)) ours.push_back(entry->path());
    }
    if (problem) {
        throw output_error(fmt::format("cannot list '{}': {}", folder.string(), problem.message()));
    }
    return ours;
}

void touch(const fs::path& file) {
    if (!std::ofstream(file, std::ios::app)) {
        throw output_error(fmt::format("cannot write '{}'", file.string()));
    }
}

boost::interprocess::file_lock lock(const fs::path& file, data_folder::owner whose) {
    touch(file);
    boost::interprocess::file_lock taken(file.string().c_str());
    if (whose == data_folder::owner::many ? !taken.try_lock_sharable() : !taken.try_lock()) {
        throw error(
            fmt::format("the folder '{}' is used by another process", file.parent_path().string()));
    }
    return taken;
}

// Says that jobs elsewhere know the files, also while no process runs.
constexpr const char* mark = "shared";

} // namespace

fs::file_time_type last_written(const fs::path& path) {
    std::error_code ignored;
    auto newest = fs::last_write_time(path, ignored);
    for (fs::directory_iterator entry(path, ignored), last; !ignored && entry != last;
         entry.increment(ignored)) {
        newest = std::max(newest, fs::last_write_time(entry->path(), ignored));
    }
    return newest;
}

data_folder::data_folder(const fs::path& path, owner whose) : path_(path) {
    make_output_folder(uploads());
    make_output_folder(results());
    lock_ = lock(path_ / "lock", whose);
    if (whose == owner::many) {
        touch(path_ / mark); // by all of them, at the same time
        return;
    }
    if (fs::exists(path_ / mark)) {
        throw error(fmt::format("the folder '{}' belongs to jobs in Redis: use another one, or "
                                "remove the file '{}' in it to give them up",
                                path_.string(), mark));
    }
    make_output_folder(jobs());
}

std::vector<fs::path> data_folder::files_older_than(std::chrono::seconds age) const {
    auto old = ours_in(uploads(), 32);
    auto const more = ours_in(results(), 64);
    old.insert(old.end(), more.begin(), more.end());
    auto const now = fs::file_time_type::clock::now();
    std::erase_if(old, [&](const fs::path& each) { return now - last_written(each) < age; });
    return old;
}

} // namespace vision::service
