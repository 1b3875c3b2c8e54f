// SPDX-License-Identifier: BSL-1.0
// A file on its way in: written piece by piece, known by its content in the end.
#pragma once

#include "output_stream.hpp"
#include "partial_file.hpp"

#include <boost/hash2/sha2.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace vision::service {

// Blocks: for a pool, one call at a time. Failures throw vision::output_error. Destroyed before
// `finish`, it leaves nothing behind.
class upload {
public:
    explicit upload(std::filesystem::path path);

    void append(std::string_view bytes);
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

    // The file has its name, and survives a loss of power. Returns its SHA-256 in hexadecimal.
    [[nodiscard]] std::string finish();

private:
    partial_file file_;
    output_stream out_;
    boost::hash2::sha2_256 hash_;
    std::uint64_t size_ = 0;
};

[[nodiscard]] std::string sha256(std::string_view text);

} // namespace vision::service
