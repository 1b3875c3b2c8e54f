// SPDX-License-Identifier: BSL-1.0
// A progress bar where there is a terminal, plain lines elsewhere.
#pragma once

#include "pipeline.hpp"

#include <chrono>

namespace vision {

class progress_line {
public:
    progress_line();
    ~progress_line();
    progress_line(const progress_line&) = delete;
    progress_line& operator=(const progress_line&) = delete;

    void show(const partial_result& part);
    // Ends the bar's line, if there is one.
    void finish();

private:
    void draw_bar(const partial_result& part);

    bool terminal_;
    bool drawn_ = false;
    std::chrono::steady_clock::time_point next_line_{};
};

} // namespace vision
