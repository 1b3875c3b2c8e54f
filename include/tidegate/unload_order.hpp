// SPDX-License-Identifier: BSL-1.0
// Which of the things that a resource_budget holds goes first.
#pragma once

#include <tidegate/config.hpp>

TIDEGATE_BEGIN_NAMESPACE

/// What goes first when room is needed, of what nobody uses.
enum class unload_order {
    /// What has been idle longest.
    idle_longest,
    /// What is least missed: that was used least often for the room it takes and the time that
    /// loading it took, and lately, too (Cherkasova's GreedyDual-Size-Frequency). For things whose
    /// sizes and load times differ much.
    least_missed,
};

TIDEGATE_END_NAMESPACE
