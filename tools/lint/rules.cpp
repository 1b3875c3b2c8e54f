// SPDX-License-Identifier: BSL-1.0
#include "rules.hpp"

#include "default_rules.hpp"

#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/JSON.h>
#include <llvm/Support/MemoryBuffer.h>
#include <llvm/Support/SHA1.h>

#include <algorithm>
#include <stdexcept>

namespace lint {
namespace {

// `*` stands for any characters.
bool matches(std::string_view pattern, std::string_view name) {
    std::size_t p = 0, n = 0, star = pattern.npos, from = 0;
    while (n < name.size()) {
        if (p < pattern.size() && pattern[p] == name[n]) {
            ++p;
            ++n;
        } else if (p < pattern.size() && pattern[p] == '*') {
            star = p++;
            from = n;
        } else if (star != pattern.npos) {
            p = star + 1;
            n = ++from;
        } else {
            return false;
        }
    }
    while (p < pattern.size() && pattern[p] == '*') ++p;
    return p == pattern.size();
}

rule read_rule(llvm::json::Object const& from, std::string const& where) {
    rule one;
    auto const fail = [&](std::string const& what) {
        throw std::runtime_error(where + ": rule '" + one.id + "': " + what);
    };
    for (auto const& [key, value] : from) {
        auto const text = value.getAsString();
        std::string const name = key.str();
        if (name == "id" && text) one.id = text->str();
        else if (name == "priority" && text) one.priority = text->str();
        else if (name == "effort" && text) one.effort = text->str();
        else if (name == "instead" && text) one.instead = text->str();
        else if (name == "locks" && value.getAsBoolean())
            one.is_about_locks = *value.getAsBoolean();
        else if (auto const* all = value.getAsArray(); name == "functions" && all) {
            for (auto const& each : *all) {
                if (!each.getAsString()) fail("a function is not a string");
                one.functions.push_back(each.getAsString()->str());
            }
        } else {
            fail("unknown key '" + name + "', or a value of the wrong type");
        }
    }
    if (one.id.empty()) fail("no id");
    if (one.priority.size() != 2 || one.priority[0] != 'P' || one.priority[1] < '0' ||
        one.priority[1] > '3')
        fail("priority '" + one.priority + "' is none of P0, P1, P2, P3");
    return one;
}

} // namespace

rules rules::defaults() {
    rules all;
    all.parse(default_rules, "rules.json");
    return all;
}

void rules::read(std::string const& path) {
    auto const file = llvm::MemoryBuffer::getFile(path);
    if (!file) throw std::runtime_error(path + ": " + file.getError().message());
    parse((*file)->getBuffer().str(), path);
}

void rules::parse(std::string_view text, std::string const& where) {
    auto json = llvm::json::parse(llvm::StringRef(text.data(), text.size()));
    if (!json) throw std::runtime_error(where + ": " + llvm::toString(json.takeError()));
    auto const* const top = json->getAsObject();
    auto const* const list = top ? top->getArray("rules") : nullptr;
    if (!list) throw std::runtime_error(where + ": no array 'rules'");
    for (auto const& each : *list) {
        auto const* const object = each.getAsObject();
        if (!object) throw std::runtime_error(where + ": a rule is no object");
        rule one = read_rule(*object, where);
        auto const same = [&](rule const& other) { return other.id == one.id; };
        auto const it = std::find_if(rules_.begin(), rules_.end(), same);
        if (it == rules_.end()) rules_.push_back(std::move(one));
        else *it = std::move(one);
    }
}

rule const* rules::find(std::string_view name) const {
    for (auto const& one : rules_) {
        if (one.is_about_locks) continue;
        for (auto const& pattern : one.functions) {
            if (matches(pattern, name)) return &one;
        }
    }
    return nullptr;
}

rule const* rules::find_lock(std::string_view name) const {
    for (auto const& one : rules_) {
        if (!one.is_about_locks) continue;
        for (auto const& pattern : one.functions) {
            if (matches(pattern, name)) return &one;
        }
    }
    return nullptr;
}

std::string rules::fingerprint() const {
    llvm::SHA1 hash;
    for (auto const& one : rules_) {
        hash.update(one.id + (one.is_about_locks ? "\nlocks" : "\n"));
        for (auto const& each : one.functions) hash.update("\n" + each);
    }
    auto const bytes = hash.final();
    return llvm::toHex(llvm::ArrayRef<unsigned char>(bytes.data(), 20), true);
}

rule const* rules::by_id(std::string_view id) const {
    for (auto const& one : rules_) {
        if (one.id == id) return &one;
    }
    return nullptr;
}

} // namespace lint
