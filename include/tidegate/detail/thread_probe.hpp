// SPDX-License-Identifier: BSL-1.0
// What the system tells of a thread, without touching it. The thread must not end meanwhile.
#pragma once

#include <tidegate/detail/activity.hpp>

#include <chrono>
#include <string>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Zero where it is not known.
struct thread_times {
    std::chrono::nanoseconds computing{0};
    std::chrono::nanoseconds waiting_to_run{0};
};
TIDEGATE_DECL thread_times read_thread_times(activity_slot const& slot) noexcept;

struct system_call_state {
    std::string text;               ///< "read(3, 0x7f.., 0x400)"; empty if it is in none
    bool may_be_interrupted = true; ///< a signal does not make it fail
};
TIDEGATE_DECL system_call_state read_system_call(activity_slot const& slot);
TIDEGATE_DECL std::string read_wait_channel(activity_slot const& slot);
TIDEGATE_DECL std::string read_thread_name(activity_slot const& slot);

/// Makes `signal` take stacks. Throws std::invalid_argument where that cannot be.
TIDEGATE_DECL void prepare_stacks(int signal);
/// The addresses on the thread's stack, innermost first; empty if it does not answer in time, or is
/// just throwing an exception, when its stack cannot be walked.
TIDEGATE_DECL std::vector<void*> take_stack(activity_slot const& slot, int signal);
TIDEGATE_DECL std::vector<std::string> name_functions(std::vector<void*> const& addresses);

} // namespace detail
TIDEGATE_END_NAMESPACE
