// SPDX-License-Identifier: BSL-1.0
// C streams, because they keep errno.
#include "output_stream.hpp"

#include "error.hpp"

#include <cerrno>
#include <fmt/format.h>
#include <system_error>

#if defined(_WIN32)
#include <io.h>
#else
#include <unistd.h>
#endif

namespace vision {

output_stream::output_stream(const partial_file& file)
    : shown_(file.path()), stream_(std::fopen(file.temporary().c_str(), "wb")) {
    if (!stream_) {
        fail();
    }
}

output_stream::output_stream(const std::filesystem::path& file, mode how)
    : shown_(file), stream_(std::fopen(file.c_str(), how == mode::append ? "ab" : "wb")) {
    if (!stream_) {
        fail();
    }
}

void output_stream::write(std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), stream_.get()) != text.size()) {
        fail();
    }
}

void output_stream::flush() {
    if (std::fflush(stream_.get()) != 0) fail();
}

void output_stream::make_durable() {
    flush();
#if defined(_WIN32)
    if (::_commit(::_fileno(stream_.get())) != 0) fail();
#else
    if (::fsync(::fileno(stream_.get())) != 0) fail();
#endif
}

void output_stream::close() {
    if (stream_ && std::fclose(stream_.release()) != 0) {
        fail();
    }
}

void output_stream::fail() const {
    throw output_error(fmt::format("cannot write '{}': {}", shown_.string(),
                                   std::generic_category().message(errno)));
}

} // namespace vision
