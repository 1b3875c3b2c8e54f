// SPDX-License-Identifier: BSL-1.0
// A buffered file whose every failure (full disk, no permission) is an exception that names the
// path.
#pragma once

#include "partial_file.hpp"

#include <cstdio>
#include <memory>
#include <string_view>

namespace vision {

class output_stream {
public:
    // Opens file.temporary() for writing; errors speak of file.path(). `file` must outlive this.
    explicit output_stream(const partial_file& file);

    void write(std::string_view text);
    // What was written survives a loss of power, where the system can promise it.
    void make_durable();
    // Throws what the last flush meets, which the destructor would swallow.
    void close();

private:
    struct closer {
        void operator()(std::FILE* file) const noexcept { std::fclose(file); }
    };

    [[noreturn]] void fail() const;

    const partial_file& file_;
    std::unique_ptr<std::FILE, closer> stream_;
};

} // namespace vision
