// SPDX-License-Identifier: BSL-1.0
// How much memory the process takes, as the system tells.
#pragma once

#include <tidegate/config.hpp>

#include <cstdint>
#include <optional>

TIDEGATE_BEGIN_NAMESPACE

/// In bytes.
struct memory_usage {
    std::uint64_t resident = 0;  ///< in memory now (RSS)
    std::uint64_t virtual_ = 0;  ///< mapped (VMS)
    std::uint64_t available = 0; ///< of the machine's, without swapping
    std::uint64_t total = 0;     ///< of the machine

    /// The resident share of the machine's memory, 0 to 100.
    double percent() const noexcept {
        return total == 0 ? 0 : 100 * static_cast<double>(resident) / static_cast<double>(total);
    }
};

/// Nothing where the system does not tell: so far it is asked on Linux only. Takes some
/// microseconds; thread-safe.
TIDEGATE_DECL std::optional<memory_usage> read_memory_usage() noexcept;

TIDEGATE_END_NAMESPACE

#if defined(TIDEGATE_HEADER_ONLY)
#include <tidegate/impl/process_memory.ipp>
#endif
