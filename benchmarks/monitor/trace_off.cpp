// SPDX-License-Identifier: BSL-1.0
// The same operations without trace hooks.
#define TIDEGATE_NO_TRACE
#include "trace_rows.hpp"

namespace {

group const off{[] { trace_rows("compiled_out", [](auto&) {}); }};

} // namespace
