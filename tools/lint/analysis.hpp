// SPDX-License-Identifier: BSL-1.0
// What in a program must not block and does.
#pragma once

#include "program.hpp"
#include "rules.hpp"

#include <string>
#include <vector>

namespace lint {

struct step {
    std::string function;
    place at; ///< of the call in it
};

struct finding {
    std::string rule;
    std::string what;        ///< the function that blocks
    std::vector<step> chain; ///< from the coroutine or handler to the call that blocks
    bool allowed = false;
    std::string reason;      ///< why it is allowed
    std::string fingerprint; ///< the same as long as the functions keep their names
    bool known = false;      ///< the baseline has it

    place const& at() const { return chain.back().at; }
};

struct result {
    std::vector<finding> findings;     ///< by place, each once
    std::vector<allowance> unused;     ///< that allow nothing
    std::vector<allowance> unreasoned; ///< that say no reason
};

/// Which functions a call of a virtual one may reach.
enum class virtual_calls {
    as_declared, ///< that of the class it is called on
    overriders,  ///< and all that override it
};

/// Follows the calls from each coroutine and each handler through functions that are neither.
result analyse(program const& all, virtual_calls how = virtual_calls::as_declared);

} // namespace lint
