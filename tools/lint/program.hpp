// SPDX-License-Identifier: BSL-1.0
// What the checker knows of a program: its functions, what they call, and what of that blocks.
#pragma once

#include <compare>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace lint {

struct place {
    std::string file;
    unsigned line = 0;
    unsigned column = 0;

    friend auto operator<=>(place const&, place const&) = default;
};

/// A call of a function of the program; `callee` is clang's name for it across translation units.
struct call {
    std::string callee;
    place at;
};

/// A call of something that may block, or a lock held while waiting.
struct blocking {
    std::string rule;
    std::string what;
    place at;

    friend auto operator<=>(blocking const&, blocking const&) = default;
};

struct function {
    std::string name;
    place at;
    bool is_coroutine = false;
    std::vector<call> calls;
    std::vector<blocking> blocks;
};

/// A comment that allows a rule in a line: its own, or the next if it stands alone.
struct allowance {
    place at;
    unsigned line = 0;
    std::string rule; ///< or `*`
    std::string reason;
};

/// One translation unit, or several put together.
struct program {
    std::map<std::string, function> functions; ///< by clang's name
    std::set<std::string> handlers;            ///< functions that an executor runs
    /// What a call of a variable or a member that keeps callables leads to: those kept there.
    std::map<std::string, std::set<std::string>> kept;
    /// What overrides a virtual function.
    std::map<std::string, std::set<std::string>> overriders;
    std::vector<allowance> allowances;
    std::set<std::string> files; ///< that were read for it, with absolute paths
    /// While a translation unit is read: some socket of it was told not to wait.
    bool has_ready_sockets = false;

    void add(program const& other) {
        functions.insert(other.functions.begin(), other.functions.end());
        handlers.insert(other.handlers.begin(), other.handlers.end());
        for (auto const& [name, to] : other.kept) kept[name].insert(to.begin(), to.end());
        for (auto const& [name, by] : other.overriders)
            overriders[name].insert(by.begin(), by.end());
        for (auto const& one : other.allowances) {
            bool known = false;
            for (auto const& mine : allowances) known = known || mine.at == one.at;
            if (!known) allowances.push_back(one);
        }
    }
};

} // namespace lint
