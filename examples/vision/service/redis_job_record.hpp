// SPDX-License-Identifier: BSL-1.0
// A job as the fields and values of a hash in Redis.
#pragma once

#include "job_queue.hpp"

#include <span>
#include <string>
#include <vector>

namespace vision::service {

// What does not change.
[[nodiscard]] std::vector<std::string> fields_of(const job& one);
[[nodiscard]] std::vector<std::string> fields_of(const job_progress& progress);
// All but the state and the result.
[[nodiscard]] std::vector<std::string> fields_of(const job_end& end);

struct job_record {
    job what; // without its source
    std::uint64_t fence = 0;
};

// What is missing or makes no sense has its default.
[[nodiscard]] job_record read_record(std::span<const std::string> fields_and_values);

} // namespace vision::service
