// SPDX-License-Identifier: BSL-1.0
#include "container_check.hpp"

#include <array>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <string_view>

namespace vision {
namespace {

class reader {
public:
    explicit reader(const std::filesystem::path& file) : stream_(file, std::ios::binary) {
        std::error_code problem;
        size_ = std::filesystem::file_size(file, problem);
        if (problem) size_ = 0;
    }

    std::uint64_t size() const { return size_; }

    // False if there are not 16 bytes; the second half is only there for some headers.
    bool header_at(std::uint64_t offset) {
        bytes_ = {};
        if (offset + 8 > size_) return false;
        stream_.clear();
        stream_.seekg(static_cast<std::streamoff>(offset));
        stream_.read(bytes_.data(), static_cast<std::streamsize>(bytes_.size()));
        return stream_.gcount() >= 8;
    }

    std::string_view text(std::size_t at) const { return {bytes_.data() + at, 4}; }

    std::uint64_t little(std::size_t at) const {
        std::uint64_t value = 0;
        for (std::size_t i = 4; i-- > 0;) value = value << 8 | byte(at + i);
        return value;
    }
    std::uint64_t big(std::size_t at, std::size_t length) const {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < length; ++i) value = value << 8 | byte(at + i);
        return value;
    }

private:
    std::uint64_t byte(std::size_t at) const { return static_cast<unsigned char>(bytes_[at]); }

    std::ifstream stream_;
    std::uint64_t size_ = 0;
    std::array<char, 16> bytes_{};
};

// RIFF chunks one after another (OpenDML files have several), each with its size and a pad byte.
// A recorder that was killed leaves a size of zero: it promises nothing.
std::uint64_t riff_end(reader& file) {
    std::uint64_t offset = 0;
    while (file.header_at(offset) && file.text(0) == "RIFF" && file.little(4) != 0) {
        offset += 8 + file.little(4);
        if (offset > file.size()) return offset;
        offset += offset % 2;
    }
    return offset;
}

bool is_box(std::string_view type) {
    for (std::string_view const known : {"ftyp", "moov", "mdat", "free", "skip", "wide", "moof",
                                         "mfra", "sidx", "styp", "uuid", "meta", "pnot", "udta"}) {
        if (type == known) return true;
    }
    return false;
}

// ISO base media boxes (ISO/IEC 14496-12, 4.2). A size of zero reaches to the end of the file.
std::uint64_t boxes_end(reader& file) {
    std::uint64_t offset = 0;
    while (file.header_at(offset) && is_box(file.text(4))) {
        std::uint64_t const short_size = file.big(0, 4);
        std::uint64_t const size = short_size == 1 ? file.big(8, 8) : short_size;
        if (size < 8) return file.size();
        if (size > ~std::uint64_t{0} - offset) return size;
        offset += size;
    }
    return offset;
}

} // namespace

std::optional<std::uint64_t> promised_size(const std::filesystem::path& path) {
    reader file(path);
    if (!file.header_at(0)) return std::nullopt;
    std::uint64_t end = 0;
    if (file.text(0) == "RIFF" && file.text(8) == "AVI ") end = riff_end(file);
    else if (file.text(4) == "ftyp") end = boxes_end(file);
    if (end <= file.size()) return std::nullopt;
    return end;
}

} // namespace vision
