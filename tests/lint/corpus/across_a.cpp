// SPDX-License-Identifier: BSL-1.0
// Calls a function of another file, which blocks.
#include "prelude.hpp"

void elsewhere();
void elsewhere_but_quick();
task p01() { elsewhere(); co_return; }
task n01() { elsewhere_but_quick(); co_return; }
