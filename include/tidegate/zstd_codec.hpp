// SPDX-License-Identifier: BSL-1.0
// Compresses what another codec made. Needs Zstandard: link with -lzstd (CMake: zstd::libzstd).
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/value_codec.hpp>

#include <zstd.h>

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// What is compressed, and how, with the defaults.
class zstd_options {
public:
    /// Smaller values stay as they are, 0 to 2^40 bytes; default 1 KiB. So do those that would not
    /// shrink.
    zstd_options& above(std::size_t bytes) {
        detail::check_option<std::size_t>("zstd above", bytes, 0, std::size_t{1} << 40);
        above_ = bytes;
        return *this;
    }
    /// 1 (fast) to 19 (small); default 3.
    zstd_options& level(int n) {
        detail::check_option<int>("zstd level", n, 1, 19);
        level_ = n;
        return *this;
    }
    /// The most bytes that one value is unpacked to, 1 to 2^40; default 256 MiB. Larger ones are
    /// refused before anything is allocated: what is read is not to be trusted.
    zstd_options& max_size(std::size_t bytes) {
        detail::check_option<std::size_t>("zstd max_size", bytes, 1, std::size_t{1} << 40);
        max_size_ = bytes;
        return *this;
    }

    std::size_t above() const noexcept { return above_; }
    int level() const noexcept { return level_; }
    std::size_t max_size() const noexcept { return max_size_; }

private:
    std::size_t above_ = 1024;
    int level_ = 3;
    std::size_t max_size_ = std::size_t{256} << 20;
};

namespace detail {

// The first byte says how the rest is packed.
inline constexpr char packed_as_is = 'r';
inline constexpr char packed_by_zstd = 'z';

inline std::string zstd_pack(std::string plain, zstd_options const& settings) {
    if (plain.size() >= settings.above()) {
        std::string packed(ZSTD_compressBound(plain.size()) + 1, packed_by_zstd);
        std::size_t const size = ZSTD_compress(packed.data() + 1, packed.size() - 1, plain.data(),
                                               plain.size(), settings.level());
        if (!ZSTD_isError(size) && size < plain.size()) {
            packed.resize(size + 1);
            return packed;
        }
    }
    plain.insert(plain.begin(), packed_as_is);
    return plain;
}

inline std::string zstd_unpack(std::string_view packed, zstd_options const& settings) {
    auto const refuse = [](char const* what) -> void {
        throw std::runtime_error(std::string("tidegate: zstd_codec: ") + what);
    };
    if (packed.empty()) refuse("no bytes");
    char const kind = packed.front();
    packed.remove_prefix(1);
    if (kind == packed_as_is) return std::string(packed);
    if (kind != packed_by_zstd) refuse("neither packed nor plain");
    auto const size = ZSTD_getFrameContentSize(packed.data(), packed.size());
    if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN) refuse("no zstd frame");
    if (size > settings.max_size()) refuse("larger than max_size");
    std::string plain(static_cast<std::size_t>(size), '\0');
    std::size_t const got =
        ZSTD_decompress(plain.data(), plain.size(), packed.data(), packed.size());
    if (ZSTD_isError(got)) refuse(ZSTD_getErrorName(got));
    if (got != plain.size()) refuse("shorter than it says");
    return plain;
}

} // namespace detail

/// `inner`, compressed with Zstandard (RFC 8878): a byte that says whether, then the bytes.
///
///     options.codec(tidegate::zstd_codec(tidegate::default_codec<std::string>()));
template <class V>
value_codec<V> zstd_codec(value_codec<V> inner, zstd_options settings = {}) {
    auto const shared = std::make_shared<value_codec<V> const>(std::move(inner));
    return {[shared, settings](V const& value) {
                return detail::zstd_pack(shared->encode(value), settings);
            },
            [shared, settings](std::string_view bytes) {
                return shared->decode(detail::zstd_unpack(bytes, settings));
            }};
}

TIDEGATE_END_NAMESPACE
