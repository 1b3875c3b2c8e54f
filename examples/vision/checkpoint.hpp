// SPDX-License-Identifier: BSL-1.0
// What a run has found so far, in a file that outlives its process: another run goes on from there.
#pragma once

#include "detection.hpp"
#include "output_stream.hpp"

#include <boost/hash2/xxhash.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vision {

// A frame that needs no more looking at.
struct known_frame {
    std::int64_t index = 0; // in the source
    std::vector<detection> found;
    std::size_t dropped = 0; // boxes that were no finite numbers
};

// One JSON line a frame, each behind a hash of all lines up to it: what a crash, a full disk or
// another process did to the file's end is noticed. Numbers come back bit for bit. The first line
// is the recipe: all that decides what is found in a frame, in words.
//
// All that follows blocks.

class checkpoint_reader {
public:
    // A file that is not there, or has another recipe, has no frames.
    checkpoint_reader(const std::filesystem::path& file, std::string_view recipe);

    // In the order of their indices; nothing at the end of what is whole.
    [[nodiscard]] std::optional<known_frame> next();

    // How much of the file was read and is whole.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] const boost::hash2::xxhash_64& hash() const noexcept { return hash_; }

private:
    std::optional<std::string> next_line();

    std::ifstream in_;
    boost::hash2::xxhash_64 hash_;
    std::uint64_t bytes_ = 0;
    std::int64_t last_ = -1;
};

// Failures throw vision::output_error.
class checkpoint_writer {
public:
    // `file` begins with what is known best: by itself or by one of `earlier`, which stay as they
    // are, may grow meanwhile, or vanish.
    checkpoint_writer(const std::filesystem::path& file, const std::string& recipe,
                      std::span<const std::filesystem::path> earlier);

    // Frames that it begins with.
    [[nodiscard]] std::int64_t frames() const noexcept { return frames_; }

    void add(const known_frame& one);
    // What was added survives this process; once a second it is made to survive a loss of power.
    void save();
    void make_durable();

private:
    using steady = std::chrono::steady_clock;
    void begin(const std::filesystem::path& file, const std::string& recipe);
    void add_line(std::string_view text);

    std::optional<output_stream> out_;
    boost::hash2::xxhash_64 hash_;
    std::int64_t frames_ = 0;
    bool saved_ = true;
    steady::time_point durable_;
};

// The frames that a run begins with, for who reads its source.
class known_frames {
public:
    known_frames(const std::filesystem::path& file, std::string_view recipe, std::int64_t frames)
        : from_(file, recipe), left_(frames) {
        advance();
    }

    // Whether frames of this index or above are known. Then one that is not could not be decoded.
    [[nodiscard]] bool reach(std::int64_t index) const noexcept {
        return ahead_ && ahead_->index >= index;
    }
    // Indices have to ascend.
    [[nodiscard]] std::optional<known_frame> take(std::int64_t index) {
        while (ahead_ && ahead_->index < index) advance();
        if (!ahead_ || ahead_->index != index) return std::nullopt;
        auto found = std::move(ahead_);
        advance();
        return found;
    }

private:
    void advance() {
        ahead_.reset();
        if (left_ > 0) ahead_ = from_.next();
        --left_;
    }

    checkpoint_reader from_;
    std::int64_t left_;
    std::optional<known_frame> ahead_;
};

} // namespace vision
