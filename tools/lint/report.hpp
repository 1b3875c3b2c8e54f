// SPDX-License-Identifier: BSL-1.0
// Findings for people, for programs, and for code hosting sites.
#pragma once

#include "analysis.hpp"
#include "rules.hpp"

#include <llvm/Support/raw_ostream.h>

namespace lint {

/// As compilers do, with the chain of calls and what to do instead. Allowed ones are left out.
void write_text(llvm::raw_ostream& to, result const& r, rules const& what);
/// All, the most urgent first, with priority and effort.
void write_json(llvm::raw_ostream& to, result const& r, rules const& what);
/// SARIF 2.1.0: all rules, chains as code flows, allowed ones as suppressed; with a baseline, which
/// are new.
void write_sarif(llvm::raw_ostream& to, result const& r, rules const& what, bool with_baseline);

} // namespace lint
