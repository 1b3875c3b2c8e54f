// SPDX-License-Identifier: BSL-1.0
// The one exception of the vision library: a single line naming the file or value and what is
// allowed.
#pragma once

#include <stdexcept>
#include <string>

namespace vision {

class error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// The video or pictures cannot be used.
class source_error : public error {
public:
    using error::error;
};

// What was found cannot be written.
class output_error : public error {
public:
    using error::error;
};

// A run that ended because its run_control was told to stop; no fault of model or input.
class run_stopped : public error {
public:
    run_stopped() : error("inference was stopped") {}
};

} // namespace vision
