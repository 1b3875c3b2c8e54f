// SPDX-License-Identifier: BSL-1.0
// What a client may say of a job: in the query, or in JSON.
#pragma once

#include "job.hpp"

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vision::service {

// Each option may be named once in all. Throws bad_request naming the option, its value and what is
// allowed.
class job_wishes {
public:
    job_wishes(job& one, std::function<bool(const std::string&)> is_model)
        : one_(one), is_model_(std::move(is_model)) {}

    void read_query(const std::vector<std::pair<std::string, std::string>>& query);
    // An object: its numbers are numbers, not strings.
    void read_json(std::string_view text);

private:
    void set(std::string_view name, std::string_view text);

    job& one_;
    std::function<bool(const std::string&)> is_model_;
    std::vector<std::string> named_;
};

} // namespace vision::service
