// SPDX-License-Identifier: BSL-1.0
#include "prelude.hpp"

void elsewhere() { ::usleep(1); } // finds blocking-sleep
void elsewhere_but_quick() {}
void elsewhere_and_nobody_calls_it() { ::usleep(1); }
