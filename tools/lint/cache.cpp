// SPDX-License-Identifier: BSL-1.0
#include "cache.hpp"

#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/FileSystem.h>
#include <llvm/Support/JSON.h>
#include <llvm/Support/MemoryBuffer.h>
#include <llvm/Support/SHA1.h>
#include <llvm/Support/raw_ostream.h>

#include <utility>

namespace lint {
namespace {

using llvm::json::Array;
using llvm::json::Object;
using llvm::json::Value;

// Size and time of change; empty if it is not there.
std::string stamp_of(std::string const& path) {
    llvm::sys::fs::file_status status;
    if (llvm::sys::fs::status(path, status)) return {};
    return std::to_string(status.getSize()) + "." +
           std::to_string(status.getLastModificationTime().time_since_epoch().count());
}

Array write(place const& at) { return Array{at.file, at.line, at.column}; }

Array write(std::map<std::string, std::set<std::string>> const& all) {
    Array list;
    for (auto const& [from, to] : all) {
        for (auto const& one : to) list.push_back(Array{from, one});
    }
    return list;
}

Object write(program const& all) {
    Array functions, handlers, allowances, files;
    for (auto const& [name, one] : all.functions) {
        Array calls, blocks;
        for (auto const& each : one.calls) calls.push_back(Array{each.callee, write(each.at)});
        for (auto const& each : one.blocks)
            blocks.push_back(Array{each.rule, each.what, write(each.at)});
        functions.push_back(Array{name, one.name, write(one.at), one.is_coroutine, std::move(calls),
                                  std::move(blocks)});
    }
    for (auto const& one : all.handlers) handlers.push_back(one);
    for (auto const& one : all.allowances)
        allowances.push_back(Array{write(one.at), one.line, one.rule, one.reason});
    for (auto const& one : all.files) files.push_back(Array{one, stamp_of(one)});
    return Object{{"functions", std::move(functions)},   {"kept", write(all.kept)},
                  {"overriders", write(all.overriders)}, {"handlers", std::move(handlers)},
                  {"allowances", std::move(allowances)}, {"files", std::move(files)}};
}

// What is read back was written here; anything else counts as not kept.
struct malformed {};

Array const& array(Value const& from) {
    auto const* const all = from.getAsArray();
    if (!all) throw malformed();
    return *all;
}
Value const& item(Array const& from, std::size_t i) {
    if (i >= from.size()) throw malformed();
    return from[i];
}
std::string text(Value const& from) {
    auto const found = from.getAsString();
    if (!found) throw malformed();
    return found->str();
}
unsigned number(Value const& from) {
    auto const found = from.getAsUINT64();
    if (!found) throw malformed();
    return static_cast<unsigned>(*found);
}
place read_place(Value const& from) {
    auto const& all = array(from);
    return {text(item(all, 0)), number(item(all, 1)), number(item(all, 2))};
}

program read(Object const& from) {
    auto const list = [&](char const* name) -> Array const& {
        auto const* const all = from.getArray(name);
        if (!all) throw malformed();
        return *all;
    };
    program all;
    for (auto const& each : list("functions")) {
        auto const& parts = array(each);
        function one;
        one.name = text(item(parts, 1));
        one.at = read_place(item(parts, 2));
        one.is_coroutine = item(parts, 3).getAsBoolean().value_or(false);
        for (auto const& c : array(item(parts, 4)))
            one.calls.push_back({text(item(array(c), 0)), read_place(item(array(c), 1))});
        for (auto const& b : array(item(parts, 5)))
            one.blocks.push_back(
                {text(item(array(b), 0)), text(item(array(b), 1)), read_place(item(array(b), 2))});
        all.functions.emplace(text(item(parts, 0)), std::move(one));
    }
    for (auto const& each : list("handlers")) all.handlers.insert(text(each));
    for (auto const& each : list("kept"))
        all.kept[text(item(array(each), 0))].insert(text(item(array(each), 1)));
    for (auto const& each : list("overriders"))
        all.overriders[text(item(array(each), 0))].insert(text(item(array(each), 1)));
    for (auto const& each : list("allowances")) {
        auto const& parts = array(each);
        all.allowances.push_back({read_place(item(parts, 0)), number(item(parts, 1)),
                                  text(item(parts, 2)), text(item(parts, 3))});
    }
    for (auto const& each : list("files")) {
        std::string const file = text(item(array(each), 0));
        if (stamp_of(file) != text(item(array(each), 1))) throw malformed();
        all.files.insert(file);
    }
    return all;
}

} // namespace

cache::cache(std::string folder, std::string salt)
    : folder_(std::move(folder)), salt_(std::move(salt)) {}

std::string cache::path_of(std::string const& unit) const {
    llvm::SHA1 hash;
    hash.update(salt_ + "\n" + unit);
    auto const bytes = hash.final();
    return folder_ + "/" + llvm::toHex(llvm::ArrayRef<unsigned char>(bytes.data(), 20), true) +
           ".json";
}

std::optional<program> cache::find(std::string const& unit) const {
    if (folder_.empty()) return std::nullopt;
    auto const file = llvm::MemoryBuffer::getFile(path_of(unit));
    if (!file) return std::nullopt;
    auto json = llvm::json::parse((*file)->getBuffer());
    if (!json) {
        llvm::consumeError(json.takeError());
        return std::nullopt;
    }
    try {
        auto const* const top = json->getAsObject();
        if (!top) return std::nullopt;
        return read(*top);
    } catch (malformed const&) { // or out of date
        return std::nullopt;
    }
}

void cache::keep(std::string const& unit, program const& read) const {
    if (folder_.empty() || llvm::sys::fs::create_directories(folder_)) return;
    // Beside its place first: two checkers may run at a time.
    auto const path = path_of(unit);
    llvm::SmallString<256> temporary;
    int file = -1;
    if (llvm::sys::fs::createUniqueFile(path + ".%%%%%%", file, temporary)) return;
    {
        llvm::raw_fd_ostream out(file, true);
        out << Value(write(read));
        if (out.has_error()) {
            out.clear_error();
            llvm::sys::fs::remove(temporary);
            return;
        }
    }
    if (llvm::sys::fs::rename(temporary, path)) llvm::sys::fs::remove(temporary);
}

} // namespace lint
