// SPDX-License-Identifier: BSL-1.0
// A buffered file whose every failure (full disk, no permission) is an exception that names the
// path.
#pragma once

#include "partial_file.hpp"

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string_view>

namespace vision {

class output_stream {
public:
    enum class mode { replace, append };

    // Opens file.temporary() for writing; errors speak of file.path().
    explicit output_stream(const partial_file& file);
    // For a file that may be found half-written.
    output_stream(const std::filesystem::path& file, mode how);

    void write(std::string_view text);
    // What was written survives this process.
    void flush();
    // What was written survives a loss of power, where the system can promise it.
    void make_durable();
    // Throws what the last flush meets, which the destructor would swallow.
    void close();

private:
    struct closer {
        void operator()(std::FILE* file) const noexcept { std::fclose(file); }
    };

    [[noreturn]] void fail() const;

    std::filesystem::path shown_;
    std::unique_ptr<std::FILE, closer> stream_;
};

} // namespace vision
