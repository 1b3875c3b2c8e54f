// SPDX-License-Identifier: BSL-1.0
// One video that a client wants looked at: what was asked, and what has become of it.
#pragma once

#include <boost/json/object.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vision::service {

enum class job_state { queued, running, succeeded, failed, cancelled };

[[nodiscard]] std::string_view to_string(job_state state) noexcept;
[[nodiscard]] constexpr bool is_final(job_state state) noexcept {
    return state != job_state::queued && state != job_state::running;
}

struct job_options {
    std::size_t every_n = 1;         // 1..100000, look at every n-th frame only
    std::size_t chunk = 30;          // 1..100000, frames between two reports
    std::optional<float> confidence; // 0..1; unset: the model's
    std::optional<float> iou;        // 0..1; unset: the model's
    bool annotate = true;            // make the video with boxes
    bool urgent = false;             // before jobs that are not
    std::string model;               // by name

    // Two jobs with equal texts and equal videos have equal results.
    [[nodiscard]] std::string text() const;
};

// Why a job failed. `reason` is one of a few words, fit for a metric: decode, backend, disk, other.
struct job_problem {
    std::string reason;
    std::string detail;
};

struct job {
    using clock = std::chrono::system_clock;

    std::string id;   // 32 hexadecimal digits, made here
    std::string name; // what the client calls it: a label, never a path
    job_options options;
    std::string content;          // SHA-256 of the video, hexadecimal
    std::filesystem::path source; // the upload

    job_state state = job_state::queued;
    std::int64_t frames_done = 0;
    std::optional<std::int64_t> frames_total; // what the file says, which may be wrong
    std::int64_t detections = 0;
    double frames_per_second = 0;
    std::uint32_t attempt = 0;
    std::vector<std::string> warnings;
    std::optional<job_problem> problem;
    std::string result; // names its files, once succeeded
    clock::time_point created{};
    clock::time_point started{};
    clock::time_point ended{};
    std::uint64_t version = 1; // counts its changes: the id of its events
};

[[nodiscard]] boost::json::object to_json(const job& one);

// 128 random bits, in hexadecimal.
[[nodiscard]] std::string make_job_id();
[[nodiscard]] bool is_job_id(std::string_view text) noexcept;

// "2026-11-21T15:04:05.123Z"
[[nodiscard]] std::string to_rfc3339(job::clock::time_point time);

} // namespace vision::service
