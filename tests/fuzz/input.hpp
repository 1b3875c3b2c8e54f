// SPDX-License-Identifier: BSL-1.0
// What a fuzz target makes of the bytes that it is given.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace fuzz {

/// Values out of bytes; zeros when there are no more.
class input {
public:
    input(std::uint8_t const* data, std::size_t size) : data_(data), left_(size) {}

    bool empty() const { return left_ == 0; }

    std::uint64_t number(std::size_t bytes) {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < bytes; ++i) {
            value <<= 8;
            if (left_ == 0) continue;
            value |= *data_++;
            --left_;
        }
        return value;
    }
    std::uint8_t byte() { return static_cast<std::uint8_t>(number(1)); }
    /// 0 to below `limit`.
    std::uint64_t below(std::uint64_t limit) { return number(limit > 256 ? 4 : 1) % limit; }
    /// A number of any size: small ones are as likely as huge ones.
    std::uint64_t any() {
        std::uint64_t const bits = below(64);
        return number(8) >> bits;
    }
    std::string text(std::size_t most) {
        std::size_t const n = std::min(most, left_);
        std::string const all(reinterpret_cast<char const*>(data_), n);
        data_ += n;
        left_ -= n;
        return all;
    }

private:
    std::uint8_t const* data_;
    std::size_t left_;
};

/// What must hold; the fuzzer finds the input that breaks it.
inline void require(bool holds, char const* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

} // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size);
