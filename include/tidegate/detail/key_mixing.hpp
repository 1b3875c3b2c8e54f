// SPDX-License-Identifier: BSL-1.0
// From the hash of a key to bits that say where it lies.
#pragma once

#include <tidegate/core/token_bucket.hpp>

#include <cstdint>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Mixes twice, and from a seed of its own, so that neither keys in steps nor keys that somebody
/// has chosen come to lie in one row. All 64 bits of the result depend on all of the hash.
class key_mixing {
public:
    explicit key_mixing(std::uint64_t seed) noexcept : seed_(seed) {}

    std::uint64_t operator()(std::uint64_t hash) const noexcept {
        return mix(mix(hash ^ seed_, 0x9e3779b97f4a7c15u), 0xd6e8feb86659fd93u);
    }

private:
    static std::uint64_t mix(std::uint64_t bits, std::uint64_t factor) noexcept {
        auto const product = core::wide_product::of(bits, factor);
        return product.high ^ product.low;
    }

    std::uint64_t seed_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
