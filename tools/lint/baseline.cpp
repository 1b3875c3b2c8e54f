// SPDX-License-Identifier: BSL-1.0
#include "baseline.hpp"

#include <llvm/Support/FormatVariadic.h>
#include <llvm/Support/JSON.h>
#include <llvm/Support/MemoryBuffer.h>

#include <map>
#include <stdexcept>

namespace lint {
namespace {

using llvm::json::Array;
using llvm::json::Object;
using llvm::json::Value;

[[noreturn]] void refuse(std::string const& path, std::string const& why) {
    throw std::runtime_error(path + ": " + why);
}

Value parse(std::string const& path) {
    auto const file = llvm::MemoryBuffer::getFile(path);
    if (!file) refuse(path, file.getError().message());
    auto json = llvm::json::parse((*file)->getBuffer());
    if (!json) refuse(path, llvm::toString(json.takeError()));
    return std::move(*json);
}

// How many of each fingerprint.
std::map<std::string, std::size_t> read(std::string const& path) {
    Value const json = parse(path);
    auto const* const top = json.getAsObject();
    auto const* const list = top ? top->getArray("findings") : nullptr;
    if (!list || top->getInteger("version") != 1)
        refuse(path, "is no baseline: it needs version 1, and findings");
    std::map<std::string, std::size_t> all;
    for (auto const& each : *list) {
        auto const* const one = each.getAsObject();
        auto const print = one ? one->getString("fingerprint") : std::nullopt;
        if (!print) refuse(path, "has a finding without a fingerprint");
        ++all[print->str()];
    }
    return all;
}

} // namespace

std::size_t apply_baseline(result& r, std::string const& path) {
    auto accepted = read(path);
    for (auto& one : r.findings) {
        auto const it = accepted.find(one.fingerprint);
        if (one.allowed || it == accepted.end() || it->second == 0) continue;
        --it->second;
        one.known = true;
    }
    std::size_t gone = 0;
    for (auto const& [print, left] : accepted) gone += left;
    return gone;
}

void write_baseline(llvm::raw_ostream& to, result const& r) {
    Array list;
    for (auto const& one : r.findings) {
        if (one.allowed) continue;
        list.push_back(Object{{"fingerprint", one.fingerprint},
                              {"rule", one.rule},
                              {"function", one.what},
                              {"in", one.chain.front().function}});
    }
    to << llvm::formatv("{0:2}\n", Value(Object{{"version", 1}, {"findings", std::move(list)}}));
}

} // namespace lint
