// SPDX-License-Identifier: BSL-1.0
// The operations with trace hooks that nobody listens to. Built just as trace_off.cpp is.
#include "trace_rows.hpp"

namespace {

group const on{[] { trace_rows("nobody_listens", [](auto&) {}); }};

} // namespace
