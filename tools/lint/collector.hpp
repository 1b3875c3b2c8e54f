// SPDX-License-Identifier: BSL-1.0
// Reads a translation unit into a program.
#pragma once

#include "program.hpp"
#include "rules.hpp"

#include <clang/AST/ASTContext.h>
#include <clang/Lex/Preprocessor.h>
#include <clang/Tooling/Tooling.h>

#include <memory>

namespace lint {

/// Adds what is in the user's code: whatever is not in a system header.
void read_unit(clang::ASTContext& context, rules const& what, program& to);

/// Adds the comments that allow something.
std::unique_ptr<clang::CommentHandler> make_comment_reader(program& to);

/// An action for clang that does both.
std::unique_ptr<clang::tooling::FrontendActionFactory> make_collector(rules const& what,
                                                                      program& to);

} // namespace lint
