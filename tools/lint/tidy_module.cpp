// SPDX-License-Identifier: BSL-1.0
// The checker as a module of clang-tidy: one check, that sees one source file at a time.
#include "analysis.hpp"
#include "collector.hpp"
#include "rules.hpp"

#include <clang-tidy/ClangTidy.h>
#include <clang-tidy/ClangTidyCheck.h>
#include <clang-tidy/ClangTidyModule.h>
#include <clang-tidy/ClangTidyModuleRegistry.h>
#include <clang/ASTMatchers/ASTMatchers.h>

#include <memory>
#include <string>

namespace lint {
namespace {

namespace tidy = clang::tidy;

/// `tidegate-blocking-call`; its option `Rules` names a file of more rules.
class blocking_call final : public tidy::ClangTidyCheck {
public:
    blocking_call(llvm::StringRef name, tidy::ClangTidyContext* context)
        : ClangTidyCheck(name, context),
          more_rules_(Options.get("Rules", "")),
          rules_(rules::defaults()) {
        if (!more_rules_.empty()) rules_.read(more_rules_);
    }

    bool isLanguageVersionSupported(clang::LangOptions const& language) const override {
        return language.CPlusPlus;
    }
    void storeOptions(tidy::ClangTidyOptions::OptionMap& options) override {
        Options.store(options, "Rules", more_rules_);
    }
    void registerPPCallbacks(clang::SourceManager const&, clang::Preprocessor* preprocessor,
                             clang::Preprocessor*) override {
        unit_ = {};
        comments_ = make_comment_reader(unit_);
        preprocessor->addCommentHandler(comments_.get());
    }
    void registerMatchers(clang::ast_matchers::MatchFinder* finder) override {
        finder->addMatcher(clang::ast_matchers::translationUnitDecl().bind("unit"), this);
    }
    void check(clang::ast_matchers::MatchFinder::MatchResult const& match) override {
        read_unit(*match.Context, rules_, unit_);
        for (auto const& one : analyse(unit_).findings) {
            if (!one.allowed) tell(one, *match.SourceManager);
        }
    }

private:
    void tell(finding const& one, clang::SourceManager& sources) {
        auto const& about = *rules_.by_id(one.rule);
        bool const calls = one.what.rfind("co_await", 0) != 0;
        diag(location(one.at(), sources),
             calls ? "'%0' blocks, in %1 [%2]; instead: %3" : "%0, in %1 [%2]; instead: %3")
            << one.what << one.chain.front().function << one.rule << about.instead;
        for (std::size_t i = 0; i + 1 < one.chain.size(); ++i) {
            diag(location(one.chain[i].at, sources), "%0 calls %1", clang::DiagnosticIDs::Note)
                << one.chain[i].function << one.chain[i + 1].function;
        }
    }

    static clang::SourceLocation location(place const& at, clang::SourceManager& sources) {
        auto const file = sources.getFileManager().getOptionalFileRef(at.file);
        return file ? sources.translateFileLineCol(*file, at.line, at.column)
                    : clang::SourceLocation();
    }

    std::string const more_rules_;
    rules rules_;
    program unit_;
    std::unique_ptr<clang::CommentHandler> comments_;
};

class module final : public tidy::ClangTidyModule {
public:
    void addCheckFactories(tidy::ClangTidyCheckFactories& factories) override {
        factories.registerCheck<blocking_call>("tidegate-blocking-call");
    }
};

tidy::ClangTidyModuleRegistry::Add<module> const added("tidegate-module",
                                                       "Calls that block in coroutines.");

} // namespace
} // namespace lint
