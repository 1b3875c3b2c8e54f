// SPDX-License-Identifier: BSL-1.0
// Reads a translation unit into a program.
#pragma once

#include "program.hpp"
#include "rules.hpp"

#include <clang/Tooling/Tooling.h>

#include <memory>

namespace lint {

/// An action for clang that adds to `to` what it finds in the user's code: whatever is not in a
/// system header.
std::unique_ptr<clang::tooling::FrontendActionFactory> make_collector(rules const& what,
                                                                      program& to);

} // namespace lint
