// SPDX-License-Identifier: BSL-1.0
// The findings that were there before: accepted, so that only new ones count.
#pragma once

#include "analysis.hpp"

#include <llvm/Support/raw_ostream.h>

#include <cstddef>
#include <string>

namespace lint {

/// Marks as known the findings that `path` lists, by fingerprint, as many of each as it lists.
/// Returns how many it lists that are not there any more. Throws std::runtime_error that names the
/// file and what is wrong.
std::size_t apply_baseline(result& r, std::string const& path);

/// Lists all findings that no comment allows.
void write_baseline(llvm::raw_ostream& to, result const& r);

} // namespace lint
