// SPDX-License-Identifier: BSL-1.0
// What a program says on stderr.
#pragma once

#include <cstdio>
#include <stdexcept>
#include <string>

#include <unistd.h>

namespace test {

/// While it lives, what is written to stderr goes into a file of its own.
class captured_stderr {
public:
    captured_stderr() : file_(std::tmpfile()), before_(::dup(STDERR_FILENO)) {
        if (!file_ || before_ < 0) throw std::runtime_error("no file for what is said");
        std::fflush(stderr);
        ::dup2(::fileno(file_), STDERR_FILENO);
    }
    captured_stderr(captured_stderr const&) = delete;
    captured_stderr& operator=(captured_stderr const&) = delete;
    ~captured_stderr() {
        std::fflush(stderr);
        ::dup2(before_, STDERR_FILENO);
        ::close(before_);
        std::fclose(file_);
    }

    /// So far.
    std::string text() const {
        std::fflush(stderr);
        std::string all;
        char some[256];
        ssize_t n = 0;
        while ((n = ::pread(::fileno(file_), some, sizeof some, static_cast<off_t>(all.size()))) >
               0)
            all.append(some, static_cast<std::size_t>(n));
        return all;
    }

private:
    std::FILE* file_;
    int before_;
};

} // namespace test
