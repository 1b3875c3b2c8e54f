// SPDX-License-Identifier: BSL-1.0
#include "analysis.hpp"

#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/SHA1.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <tuple>
#include <utility>

namespace lint {
namespace {

std::string fingerprint(finding const& one) {
    llvm::SHA1 hash;
    hash.update(one.rule + "\n" + one.what + "\n");
    for (auto const& each : one.chain) hash.update(each.function + "\n");
    auto const bytes = hash.final();
    return llvm::toHex(llvm::ArrayRef<unsigned char>(bytes.data(), 8), true);
}

/// Finds what can be reached from one coroutine or handler.
class search {
public:
    search(program const& all, virtual_calls how) : program_(all), virtual_calls_(how) {}

    /// `skips(place)`: calls there are not followed.
    template <class Skips>
    std::vector<finding> from(std::string const& root, Skips const& skips) {
        reached_.clear();
        std::vector<finding> found;
        std::deque<std::string> next{root};
        reached_[root] = {};
        while (!next.empty()) {
            std::string const name = next.front();
            next.pop_front();
            auto const& one = program_.functions.at(name);
            for (auto const& blocks : one.blocks) found.push_back(make(name, blocks));
            for (auto const& each : one.calls) {
                if (skips(each.at)) continue;
                auto const go_on = [&](std::string const& to) {
                    auto const callee = program_.functions.find(to);
                    // A coroutine is looked at by itself; others may call it, too.
                    if (callee == program_.functions.end() || callee->second.is_coroutine) return;
                    if (reached_.emplace(to, origin{name, each.at}).second) next.push_back(to);
                };
                go_on(each.callee);
                each_of(program_.kept, each.callee, go_on);
                if (virtual_calls_ == virtual_calls::overriders)
                    each_of(program_.overriders, each.callee, go_on);
            }
        }
        return found;
    }

private:
    template <class Visit>
    static void each_of(std::map<std::string, std::set<std::string>> const& all,
                        std::string const& name, Visit const& visit) {
        auto const it = all.find(name);
        if (it == all.end()) return;
        for (auto const& one : it->second) visit(one);
    }

    struct origin {
        std::string caller;
        place at;
    };

    finding make(std::string const& function, blocking const& blocks) const {
        finding one{blocks.rule, blocks.what, {}, false, {}, {}, false};
        one.chain.push_back({program_.functions.at(function).name, blocks.at});
        for (auto at = reached_.find(function); !at->second.caller.empty();
             at = reached_.find(at->second.caller)) {
            auto const& caller = program_.functions.at(at->second.caller);
            one.chain.insert(one.chain.begin(), {caller.name, at->second.at});
        }
        one.fingerprint = fingerprint(one);
        return one;
    }

    program const& program_;
    virtual_calls const virtual_calls_;
    std::map<std::string, origin> reached_; // the first to call each is the nearest
};

/// The comments that allow something.
class allowances {
public:
    explicit allowances(std::vector<allowance> const& all) : all_(all), used_(all.size()) {}

    void apply(finding& one) {
        for (auto const& each : one.chain) {
            if (auto const which = find(one.rule, each.at)) {
                used_[*which] = true;
                one.allowed = true;
                one.reason = all_[*which].reason;
                return;
            }
        }
    }

    bool at(place const& call) const { return find("", call).has_value(); }

    // Those at calls that lead to what they allow: another way to it may have been nearer.
    void use_at_calls(program const& all, search& graph) {
        auto const nowhere = [](place const&) { return false; };
        for (auto const& [name, one] : all.functions) {
            for (auto const& each : one.calls) {
                if (!at(each.at) || !all.functions.count(each.callee)) continue;
                for (auto const& behind : graph.from(each.callee, nowhere)) {
                    if (auto const which = find(behind.rule, each.at)) used_[*which] = true;
                }
            }
        }
    }

    std::vector<allowance> unused() const {
        std::vector<allowance> left;
        for (std::size_t i = 0; i < all_.size(); ++i) {
            if (!used_[i]) left.push_back(all_[i]);
        }
        return left;
    }

private:
    // Of any rule, if that is empty.
    std::optional<std::size_t> find(std::string const& rule, place const& at) const {
        for (std::size_t i = 0; i < all_.size(); ++i) {
            auto const& one = all_[i];
            if (one.reason.empty() || one.at.file != at.file || one.line != at.line) continue;
            if (rule.empty() || one.rule == rule || one.rule == "*") return i;
        }
        return std::nullopt;
    }

    std::vector<allowance> const& all_;
    std::vector<bool> used_;
};

} // namespace

result analyse(program const& all, virtual_calls how) {
    std::set<std::string> roots;
    for (auto const& [name, one] : all.functions) {
        if (one.is_coroutine) roots.insert(name);
    }
    for (auto const& name : all.handlers) {
        if (all.functions.count(name)) roots.insert(name);
    }

    result r;
    allowances comments(all.allowances);
    search graph(all, how);
    // Of several ways to a call that blocks from the same place, the shortest.
    std::map<std::tuple<place, std::string, place>, finding> nearest;
    auto const keep = [&](finding one) {
        auto const key = std::tuple(one.at(), one.rule, one.chain.front().at);
        auto const it = nearest.find(key);
        if (it == nearest.end()) nearest.emplace(key, std::move(one));
        else if (it->second.allowed && !one.allowed) it->second = std::move(one);
        else if (it->second.allowed == one.allowed && one.chain.size() < it->second.chain.size())
            it->second = std::move(one);
    };
    auto const allowed = [&](place const& at) { return comments.at(at); };
    auto const nowhere = [](place const&) { return false; };
    for (auto const& root : roots) {
        // What can be reached without an allowed call is not allowed by one.
        std::set<std::pair<place, std::string>> open;
        for (auto& one : graph.from(root, allowed)) {
            open.emplace(one.at(), one.rule);
            comments.apply(one);
            keep(std::move(one));
        }
        for (auto& one : graph.from(root, nowhere)) {
            if (open.count({one.at(), one.rule})) continue;
            comments.apply(one);
            keep(std::move(one));
        }
    }
    comments.use_at_calls(all, graph);
    for (auto& [key, one] : nearest) r.findings.push_back(std::move(one));
    r.unused = comments.unused();
    auto const unreasoned = [](allowance const& one) { return one.reason.empty(); };
    std::copy_if(r.unused.begin(), r.unused.end(), std::back_inserter(r.unreasoned), unreasoned);
    std::erase_if(r.unused, unreasoned);
    return r;
}

} // namespace lint
