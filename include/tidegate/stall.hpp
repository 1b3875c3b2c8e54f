// SPDX-License-Identifier: BSL-1.0
// What a stall detector reports.
#pragma once

#include <tidegate/config.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// What a thread did while it should have gone on.
enum class stall_cause : unsigned char {
    blocked, ///< in a system call, or waiting for a lock
    busy,    ///< computing
    starved, ///< ready to run, but others had the processor
};
inline constexpr std::size_t stall_causes = 3;

inline std::string_view to_string(stall_cause cause) noexcept {
    constexpr std::string_view names[] = {"blocked", "busy", "starved"};
    return names[static_cast<std::size_t>(cause)];
}

/// A handler that takes too long.
struct stall {
    std::uint64_t number = 0; ///< reports of one stall have the same
    bool over = false;        ///< the last report of it
    std::chrono::nanoseconds duration{0};
    stall_cause cause = stall_cause::blocked;
    double cpu_share = 0;     ///< of the time, computing
    double starved_share = 0; ///< of the time, waiting for a processor
    long thread_id = 0;       ///< as in top
    std::string thread_name;
    std::string loop;               ///< of the executor, if it has a name
    std::string label;              ///< of an `activity_label`, if there is one
    std::string system_call;        ///< "read(3, 0x..., 0x400)" while in one
    std::string wait_channel;       ///< where in the kernel, if that tells
    std::vector<std::string> stack; ///< innermost first; empty unless asked for
};

TIDEGATE_END_NAMESPACE
