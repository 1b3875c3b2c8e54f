// SPDX-License-Identifier: BSL-1.0
// C streams, because they keep errno.
#include "output_stream.hpp"

#include "error.hpp"

#include <cerrno>
#include <fmt/format.h>
#include <system_error>

namespace vision {

output_stream::output_stream(const partial_file& file)
    : file_(file), stream_(std::fopen(file.temporary().c_str(), "wb")) {
    if (!stream_) {
        fail();
    }
}

void output_stream::write(std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), stream_.get()) != text.size()) {
        fail();
    }
}

void output_stream::close() {
    if (stream_ && std::fclose(stream_.release()) != 0) {
        fail();
    }
}

void output_stream::fail() const {
    throw error(fmt::format("cannot write '{}': {}", file_.path().string(),
                            std::generic_category().message(errno)));
}

} // namespace vision
