// SPDX-License-Identifier: BSL-1.0
// tidegate-lint: finds calls that block inside coroutines and handlers.
#include "analysis.hpp"
#include "baseline.hpp"
#include "cache.hpp"
#include "collector.hpp"
#include "report.hpp"
#include "rules.hpp"

#include <clang/Basic/Version.h>
#include <clang/Tooling/ArgumentsAdjusters.h>
#include <clang/Tooling/CompilationDatabase.h>
#include <clang/Tooling/Tooling.h>
#include <llvm/Support/CommandLine.h>
#include <llvm/Support/FileSystem.h>
#include <llvm/Support/Regex.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace cl = llvm::cl;
namespace tooling = clang::tooling;

cl::OptionCategory category("tidegate-lint");
cl::opt<std::string> build_folder("p", cl::desc("the folder with compile_commands.json"),
                                  cl::value_desc("folder"), cl::cat(category));
cl::list<std::string> sources(cl::Positional, cl::desc("[file...] [-- flag...]"),
                              cl::cat(category));
cl::extrahelp about(R"(
Follows calls from coroutines, and from lambdas that are posted to an executor or complete an
asynchronous operation, to functions that block. A job of a worker pool may block.

  tidegate-lint -p build                 every file that build/compile_commands.json compiles
  tidegate-lint -p build src/a.cpp       these
  tidegate-lint a.cpp -- -std=c++20      without such a file

A finding is allowed by a comment behind the call, or behind one that leads to it, or alone in
the line before, with a reason:
  // tidegate-lint: allow(blocking-file) read once, before the loop starts

What is there when the checker comes may be listed by -write-baseline, and passed over with
-baseline from then on.

Exit status: 0 nothing found, 1 something found, 2 it could not be looked at.
)");
cl::list<std::string> rule_files("rules", cl::desc("more rules, as in rules.json"),
                                 cl::value_desc("file"), cl::cat(category));
cl::opt<std::string> only("only", cl::desc("files whose path matches, of those of -p"),
                          cl::value_desc("regex"), cl::cat(category));
cl::opt<std::string> json_file("json", cl::desc("also write JSON to this file; - for the output"),
                               cl::value_desc("file"), cl::cat(category));
cl::opt<std::string> sarif_file("sarif", cl::desc("also write SARIF 2.1.0 to this file"),
                                cl::value_desc("file"), cl::cat(category));
cl::opt<std::string> cache_folder("cache",
                                  cl::desc("keep what was read of files that do not change"),
                                  cl::value_desc("folder"), cl::cat(category));
cl::opt<std::string>
    baseline_file("baseline",
                  cl::desc("findings that are known; only others count for the exit status"),
                  cl::value_desc("file"), cl::cat(category));
cl::opt<std::string>
    new_baseline("write-baseline",
                 cl::desc("list what is found in this file, and end with status 0"),
                 cl::value_desc("file"), cl::cat(category));
cl::opt<bool> overriders("overriders",
                         cl::desc("follow virtual calls to all functions that override them"),
                         cl::cat(category));
cl::opt<bool> progress("progress", cl::desc("say which file is read"), cl::cat(category));

// What g++ knows and clang does not, and what tells about code rather than compiles it.
tooling::CommandLineArguments for_clang(tooling::CommandLineArguments const& arguments,
                                        llvm::StringRef) {
    tooling::CommandLineArguments kept;
    for (auto const& one : arguments) {
        llvm::StringRef const flag(one);
        if (flag.starts_with("-W") || flag.starts_with("-fsanitize") || flag.starts_with("-fno-") ||
            flag.starts_with("-fmodule") || flag.starts_with("-fdeps") || flag == "-fconcepts" ||
            flag == "-fcoroutines" || flag.starts_with("-fdiagnostics"))
            continue;
        kept.push_back(one);
    }
    return kept;
}

// How a file is compiled, in one text.
std::string commands_of(tooling::CompilationDatabase const& compilations, std::string const& file) {
    llvm::SmallString<256> here;
    llvm::sys::fs::current_path(here);
    std::string all = here.str().str() + "\n" + file;
    for (auto const& one : compilations.getCompileCommands(file)) {
        all += "\n" + one.Directory;
        for (auto const& argument : one.CommandLine) all += " " + argument;
    }
    return all;
}

lint::program read_program(tooling::CompilationDatabase const& compilations,
                           std::vector<std::string> const& files, lint::rules const& rules) {
    lint::program all;
    lint::cache const kept(cache_folder, rules.fingerprint() + " " + CLANG_VERSION_STRING);
    for (std::size_t i = 0; i < files.size(); ++i) {
        if (progress)
            llvm::errs() << "[" << i + 1 << "/" << files.size() << "] " << files[i] << "\n";
        auto const commands = commands_of(compilations, files[i]);
        if (auto const known = kept.find(commands)) {
            all.add(*known);
            continue;
        }
        lint::program unit;
        tooling::ClangTool tool(compilations, {files[i]});
        tool.appendArgumentsAdjuster(for_clang);
        tool.appendArgumentsAdjuster(
            tooling::getInsertArgumentAdjuster({"-w", "-resource-dir=" TIDEGATE_LINT_RESOURCE_DIR},
                                               tooling::ArgumentInsertPosition::END));
        if (tool.run(lint::make_collector(rules, unit).get()) != 0)
            throw std::runtime_error(files[i] + " could not be read");
        all.add(unit);
        kept.keep(commands, unit);
    }
    return all;
}

std::unique_ptr<tooling::CompilationDatabase> read_compilations() {
    if (build_folder.empty())
        throw std::runtime_error("-p says where compile_commands.json is, or -- begins the flags");
    std::string wrong;
    auto found = tooling::CompilationDatabase::loadFromDirectory(build_folder, wrong);
    if (!found) throw std::runtime_error(wrong);
    return found;
}

std::vector<std::string> files_to_read(tooling::CompilationDatabase const& compilations) {
    std::vector<std::string> files = sources;
    if (files.empty()) files = compilations.getAllFiles();
    if (!only.empty()) {
        llvm::Regex const wanted(only);
        std::string wrong;
        if (!wanted.isValid(wrong)) throw std::runtime_error("-only " + only + ": " + wrong);
        std::erase_if(files, [&](std::string const& one) { return !wanted.match(one); });
    }
    if (files.empty()) throw std::runtime_error("there are no files to read");
    return files;
}

template <class Write>
void write_file(std::string const& path, Write write) {
    if (path.empty()) return;
    std::error_code ec;
    llvm::raw_fd_ostream out(path, ec);
    if (ec) throw std::runtime_error(path + ": " + ec.message());
    write(out);
}

int run(std::unique_ptr<tooling::CompilationDatabase> compilations) {
    if (!compilations) compilations = read_compilations();
    auto rules = lint::rules::defaults();
    for (auto const& file : rule_files) rules.read(file);
    auto const files = files_to_read(*compilations);
    auto found = lint::analyse(read_program(*compilations, files, rules),
                               overriders ? lint::virtual_calls::overriders
                                          : lint::virtual_calls::as_declared);
    if (!baseline_file.empty()) {
        auto const gone = lint::apply_baseline(found, baseline_file);
        if (gone > 0)
            llvm::errs() << gone << " findings of " << baseline_file << " are not there any more\n";
    }
    if (json_file != "-") lint::write_text(llvm::outs(), found, rules);
    write_file(json_file, [&](auto& out) { lint::write_json(out, found, rules); });
    write_file(sarif_file,
               [&](auto& out) { lint::write_sarif(out, found, rules, !baseline_file.empty()); });
    write_file(new_baseline, [&](auto& out) { lint::write_baseline(out, found); });
    if (!new_baseline.empty()) return 0;
    for (auto const& one : found.findings) {
        if (!one.allowed && !one.known) return 1;
    }
    return found.unreasoned.empty() && found.unused.empty() ? 0 : 1;
}

} // namespace

int main(int argc, char const** argv) {
    std::string wrong;
    auto flags = tooling::FixedCompilationDatabase::loadFromCommandLine(argc, argv, wrong);
    cl::HideUnrelatedOptions(category);
    cl::ParseCommandLineOptions(argc, argv);
    try {
        return run(std::move(flags));
    } catch (std::exception const& e) {
        llvm::errs() << "tidegate-lint: " << e.what() << "\n";
        return 2;
    }
}
