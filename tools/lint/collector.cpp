// SPDX-License-Identifier: BSL-1.0
#include "collector.hpp"

#include <clang/AST/ASTConsumer.h>
#include <clang/AST/ASTContext.h>
#include <clang/AST/ExprCXX.h>
#include <clang/AST/RecursiveASTVisitor.h>
#include <clang/AST/StmtCXX.h>
#include <clang/Frontend/CompilerInstance.h>
#include <clang/Frontend/FrontendAction.h>
#include <clang/Index/USRGeneration.h>
#include <clang/Lex/Lexer.h>
#include <clang/Lex/Preprocessor.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <set>
#include <string>
#include <utility>

namespace lint {
namespace {

using clang::dyn_cast;
using clang::dyn_cast_or_null;

// Names ------------------------------------------------------------------------------------------

// "std::future::get": without inline namespaces and template arguments.
std::string qualified_name(clang::NamedDecl const* decl) {
    std::string name = decl->getNameAsString();
    if (auto const* method = dyn_cast<clang::CXXConstructorDecl>(decl))
        name = method->getParent()->getNameAsString();
    if (auto const* method = dyn_cast<clang::CXXDestructorDecl>(decl))
        name = "~" + method->getParent()->getNameAsString();
    for (auto const* in = decl->getDeclContext(); in; in = in->getParent()) {
        if (auto const* space = dyn_cast<clang::NamespaceDecl>(in)) {
            if (space->isInline() || space->isAnonymousNamespace()) continue;
            name = space->getNameAsString() + "::" + name;
        } else if (auto const* record = dyn_cast<clang::RecordDecl>(in)) {
            name = record->getNameAsString() + "::" + name;
        }
    }
    // Asio without Boost is the same.
    return name.substr(0, 6) == "asio::" ? "boost::" + name : name;
}

std::string usr_of(clang::Decl const* decl) {
    llvm::SmallString<128> usr;
    if (clang::index::generateUSRForDecl(decl, usr)) return {};
    // Lambdas of one class have one name.
    auto const* const method = dyn_cast<clang::CXXMethodDecl>(decl);
    if (!method || !method->getParent()->isLambda()) return usr.str().str();
    auto const& sources = decl->getASTContext().getSourceManager();
    auto const at = sources.getPresumedLoc(sources.getExpansionLoc(decl->getLocation()));
    return usr.str().str() + "@" + std::to_string(at.getLine()) + ":" +
           std::to_string(at.getColumn());
}

bool begins(std::string_view name, std::string_view with) {
    return name.substr(0, with.size()) == with;
}

// Functions that take a callable and do not call it before they return, or not on this thread.
bool defers(std::string_view name) {
    for (std::string_view const space : {"boost::asio::",
                                         "boost::beast::",
                                         "tidegate::",
                                         "std::thread::",
                                         "std::jthread::",
                                         "std::async",
                                         "std::function::",
                                         "std::bind",
                                         "std::make_shared",
                                         "std::make_unique",
                                         "std::packaged_task::",
                                         "std::move_only_function::",
                                         "std::forward",
                                         "std::move",
                                         "std::ref",
                                         "std::cref",
                                         "std::tuple::",
                                         "std::make_tuple",
                                         "std::pair::",
                                         "std::vector::",
                                         "std::optional::"}) {
        if (begins(name, space)) return true;
    }
    return false;
}

// Those of them that run it as a handler, where it must not block.
bool runs_handlers(std::string_view name) {
    for (std::string_view const one :
         {"boost::asio::post", "boost::asio::dispatch", "boost::asio::defer"}) {
        if (name == one) return true;
    }
    return begins(name, "boost::") && name.find("::async_") != name.npos;
}

// A pool is there to be blocked.
bool is_pool(clang::QualType type) {
    std::string const name = type.getCanonicalType().getAsString();
    return name.find("thread_pool") != name.npos || name.find("worker_pool") != name.npos;
}

// The body of one function
// ---------------------------------------------------------------------------

class body_reader : public clang::RecursiveASTVisitor<body_reader> {
    using base = clang::RecursiveASTVisitor<body_reader>;

public:
    body_reader(clang::ASTContext& context, rules const& what, program& to, function& into)
        : context_(context), rules_(what), program_(to), into_(into) {}

    bool shouldVisitImplicitCode() const { return true; }

    // What is in a lambda happens when it is called.
    bool TraverseLambdaExpr(clang::LambdaExpr* lambda) {
        for (auto* init : lambda->capture_inits()) {
            if (!TraverseStmt(init)) return false;
        }
        return true;
    }
    // A class has its functions read by themselves.
    bool TraverseCXXRecordDecl(clang::CXXRecordDecl*) { return true; }
    // Not evaluated.
    bool TraverseUnaryExprOrTypeTraitExpr(clang::UnaryExprOrTypeTraitExpr*) { return true; }
    bool TraverseDecltypeTypeLoc(clang::DecltypeTypeLoc) { return true; }

    bool VisitCallExpr(clang::CallExpr* expression) {
        if (clang::isa<clang::CXXOperatorCallExpr>(expression) && note_call_operator(expression))
            return true;
        auto const* const callee = expression->getDirectCallee();
        if (!callee) {
            note_kept(expression->getCallee(), expression->getExprLoc());
            return true;
        }
        clang::CXXRecordDecl const* object = nullptr;
        if (auto const* member = dyn_cast<clang::CXXMemberCallExpr>(expression))
            object = written_class(member->getImplicitObjectArgument());
        else if (clang::isa<clang::CXXOperatorCallExpr>(expression) && expression->getNumArgs() > 0)
            object = expression->getArg(0)->getType()->getAsCXXRecordDecl();
        std::vector<clang::Expr const*> const arguments(expression->arg_begin(),
                                                        expression->arg_end());
        note(callee, object, arguments, expression->getExprLoc());
        return true;
    }
    // The class as it was written, not the base that the member belongs to.
    static clang::CXXRecordDecl const* written_class(clang::Expr const* object) {
        auto type = object->IgnoreImpCasts()->getType();
        if (type->isPointerType()) type = type->getPointeeType();
        return type->getAsCXXRecordDecl();
    }
    bool VisitCXXConstructExpr(clang::CXXConstructExpr* expression) {
        std::vector<clang::Expr const*> const arguments(expression->arg_begin(),
                                                        expression->arg_end());
        auto const* const constructor = expression->getConstructor();
        // A stream that opens nothing does not block, nor does what is only moved.
        if (!is_the_users(constructor) &&
            (constructor->isDefaultConstructor() || constructor->isCopyOrMoveConstructor()))
            return true;
        note(constructor, nullptr, arguments, expression->getExprLoc());
        return true;
    }
    bool VisitBinaryOperator(clang::BinaryOperator* expression) {
        if (expression->isAssignmentOp()) keep(expression->getLHS(), expression->getRHS());
        return true;
    }
    // The destructor at the end of its scope.
    bool VisitVarDecl(clang::VarDecl* variable) {
        if (variable->getInit()) keep_in(variable, variable->getInit());
        if (!variable->hasLocalStorage()) return true;
        auto const* const record = variable->getType()->getAsCXXRecordDecl();
        if (!record || !record->hasDefinition()) return true;
        if (auto const* destructor = record->getDestructor())
            note(destructor, nullptr, {}, variable->getLocation());
        return true;
    }

    /// `to` keeps the callable that `from` is, if it is one; a call of `to` leads there.
    void keep_in(clang::ValueDecl const* to, clang::Expr const* from) {
        if (!keeps_callables(to->getType())) return;
        if (auto const* callable = callable_in(from))
            program_.kept[usr_of(to)].insert(usr_of(callable));
    }

private:
    void keep(clang::Expr const* to, clang::Expr const* from) {
        if (auto const* keeper = variable_of(to)) keep_in(keeper, from);
    }

    // std::function and the like, and pointers to functions.
    static bool keeps_callables(clang::QualType type) {
        type = type.getNonReferenceType();
        if (type->isFunctionPointerType()) return true;
        auto const* const record = type->getAsCXXRecordDecl();
        if (!record) return false;
        for (std::string_view const one :
             {"std::function", "std::move_only_function", "boost::function"}) {
            if (qualified_name(record) == one) return true;
        }
        return false;
    }

    static clang::ValueDecl const* variable_of(clang::Expr const* expression) {
        expression = expression->IgnoreUnlessSpelledInSource();
        if (auto const* member = dyn_cast<clang::MemberExpr>(expression))
            return member->getMemberDecl();
        if (auto const* named = dyn_cast<clang::DeclRefExpr>(expression)) return named->getDecl();
        return nullptr;
    }

    // As `callable_of`, inside what makes a std::function of it.
    static clang::FunctionDecl const* callable_in(clang::Expr const* expression) {
        for (int depth = 0; expression && depth < 8; ++depth) {
            expression = expression->IgnoreUnlessSpelledInSource();
            if (auto const* found = callable_of(expression)) return found;
            if (auto const* list = dyn_cast<clang::InitListExpr>(expression))
                expression = list->getNumInits() == 1 ? list->getInit(0) : nullptr;
            else if (auto const* made = dyn_cast<clang::CXXConstructExpr>(expression))
                expression = made->getNumArgs() > 0 ? made->getArg(0) : nullptr;
            else if (auto const* list = dyn_cast<clang::ParenListExpr>(expression))
                expression = list->getNumExprs() == 1 ? list->getExpr(0) : nullptr;
            else return nullptr;
        }
        return nullptr;
    }

    place where(clang::SourceLocation location) const {
        auto const& sources = context_.getSourceManager();
        auto const at = sources.getPresumedLoc(sources.getExpansionLoc(location));
        if (at.isInvalid()) return {};
        return {at.getFilename(), at.getLine(), at.getColumn()};
    }

    bool is_the_users(clang::FunctionDecl const* callee) const {
        auto const* definition = callee->getDefinition();
        if (!definition) definition = callee->getTemplateInstantiationPattern();
        auto const location = (definition ? definition : callee)->getLocation();
        return !context_.getSourceManager().isInSystemHeader(location);
    }

    // The rule that speaks of the function, by the class it is declared in, or one derived from it.
    rule const* rule_for(clang::FunctionDecl const* callee,
                         clang::CXXRecordDecl const* object) const {
        if (auto const* found = rules_.find(qualified_name(callee))) return found;
        if (!object || !object->hasDefinition()) return nullptr;
        std::string const method = "::" + callee->getNameAsString();
        if (auto const* found = rules_.find(qualified_name(object) + method)) return found;
        rule const* found = nullptr;
        object->forallBases([&](clang::CXXRecordDecl const* base_class) {
            if (!found) found = rules_.find(qualified_name(base_class) + method);
            return true;
        });
        return found;
    }

    void note(clang::FunctionDecl const* callee, clang::CXXRecordDecl const* object,
              std::vector<clang::Expr const*> const& arguments, clang::SourceLocation location) {
        if (auto const* rule = rule_for(callee, object)) {
            if (does_not_wait(callee, object, arguments)) return;
            into_.blocks.push_back({rule->id, qualified_name(callee), where(location)});
            return;
        }
        std::string const name = qualified_name(callee);
        bool const users = is_the_users(callee);
        for (auto const* argument : arguments) {
            if (auto const* callable = callable_of(argument))
                note_callable(callable, name, users, arguments, location);
        }
        if (users) into_.calls.push_back({usr_of(callee), where(location)});
    }

    // Told not to: by a flag, or because its socket was, somewhere in this source file.
    bool does_not_wait(clang::FunctionDecl const* callee, clang::CXXRecordDecl const* object,
                       std::vector<clang::Expr const*> const& arguments) const {
        for (auto const* one : arguments) {
            if (has_flag(one, "WNOHANG") || has_flag(one, "MSG_DONTWAIT")) return true;
        }
        return object && program_.has_ready_sockets && !arguments.empty() &&
               takes_ready_socket(callee) &&
               arguments.back()->getType().getAsString().find("error_code") != std::string::npos;
    }

    // Members that end with would_block then. Others, such as connect, wait all the same.
    static bool takes_ready_socket(clang::FunctionDecl const* callee) {
        auto const name = callee->getNameAsString();
        for (std::string_view const one :
             {"read_some", "write_some", "receive", "receive_from", "send", "send_to", "accept"}) {
            if (name == one) return qualified_name(callee).rfind("boost::asio::", 0) == 0;
        }
        return false;
    }

    // A macro of that name stands in it.
    bool has_flag(clang::Expr const* expression, llvm::StringRef name) const {
        auto const& sources = context_.getSourceManager();
        auto const at = [&](clang::SourceLocation l) {
            return l.isMacroID() &&
                   clang::Lexer::getImmediateMacroName(l, sources, context_.getLangOpts()) == name;
        };
        // glibc writes `MSG_DONTWAIT` as a macro for an enumerator of that name.
        auto const* const inner = expression->IgnoreUnlessSpelledInSource();
        if (auto const* both = dyn_cast<clang::BinaryOperator>(inner))
            return has_flag(both->getLHS(), name) || has_flag(both->getRHS(), name);
        return at(inner->getBeginLoc());
    }

    // What becomes of a callable that is passed to a function.
    void note_callable(clang::FunctionDecl const* callable, std::string const& to, bool users,
                       std::vector<clang::Expr const*> const& arguments,
                       clang::SourceLocation location) {
        bool const pool = std::any_of(arguments.begin(), arguments.end(),
                                      [](auto const* one) { return is_pool(one->getType()); });
        if (runs_handlers(to) && !pool) program_.handlers.insert(usr_of(callable));
        // A function of the user's with a body says itself whether it calls it.
        else if (!users && !defers(to)) into_.calls.push_back({usr_of(callable), where(location)});
    }

    // A lambda, written here or named before, or a function.
    static clang::FunctionDecl const* callable_of(clang::Expr const* expression) {
        expression = expression->IgnoreUnlessSpelledInSource();
        if (auto const* lambda = dyn_cast<clang::LambdaExpr>(expression))
            return call_operator(lambda->getLambdaClass());
        if (auto const* named = dyn_cast<clang::DeclRefExpr>(expression)) {
            if (auto const* function = dyn_cast<clang::FunctionDecl>(named->getDecl()))
                return function;
            auto const* const record =
                named->getDecl()->getType().getNonReferenceType()->getAsCXXRecordDecl();
            if (record && record->isLambda()) return call_operator(record);
        }
        if (auto const* address = dyn_cast<clang::UnaryOperator>(expression);
            address && address->getOpcode() == clang::UO_AddrOf)
            return callable_of(address->getSubExpr());
        if (auto const* passed = dyn_cast<clang::CallExpr>(expression);
            passed && passed->getNumArgs() == 1 && passed->getDirectCallee()) {
            std::string const name = qualified_name(passed->getDirectCallee());
            if (name == "std::move" || name == "std::ref" || name == "std::forward" ||
                name == "std::cref")
                return callable_of(passed->getArg(0));
        }
        return nullptr;
    }

    static clang::CXXMethodDecl const* call_operator(clang::CXXRecordDecl const* lambda) {
        if (!lambda->isGenericLambda()) return lambda->getLambdaCallOperator();
        // Of a generic one, any instance: they all have the same calls, mostly.
        auto const* const pattern = lambda->getLambdaCallOperator()->getDescribedFunctionTemplate();
        for (auto const* instance : pattern->specializations())
            return dyn_cast<clang::CXXMethodDecl>(instance);
        return nullptr;
    }

    // `callable()`: an edge to a lambda's body.
    bool note_call_operator(clang::CallExpr* expression) {
        auto const* const operation = llvm::cast<clang::CXXOperatorCallExpr>(expression);
        if (operation->getOperator() == clang::OO_Equal && operation->getNumArgs() == 2)
            keep(operation->getArg(0), operation->getArg(1));
        if (operation->getOperator() == clang::OO_Call &&
            note_kept(operation->getArg(0), expression->getExprLoc()))
            return true;
        auto const* const callee =
            dyn_cast_or_null<clang::CXXMethodDecl>(expression->getDirectCallee());
        if (!callee || !callee->getParent()->isLambda()) return false;
        into_.calls.push_back({usr_of(callee), where(expression->getExprLoc())});
        return true;
    }

    // A call of what keeps a callable: to whatever is kept there.
    bool note_kept(clang::Expr const* keeper, clang::SourceLocation location) {
        auto const* const variable = variable_of(keeper);
        if (!variable || !keeps_callables(variable->getType())) return false;
        into_.calls.push_back({usr_of(variable), where(location)});
        return true;
    }

    clang::ASTContext& context_;
    rules const& rules_;
    program& program_;
    function& into_;
};

// Locks held over co_await
// -------------------------------------------------------------------------

/// Whether a statement waits, or unlocks.
class wait_finder : public clang::RecursiveASTVisitor<wait_finder> {
public:
    explicit wait_finder(clang::VarDecl const* lock) : lock_(lock) {}

    bool TraverseLambdaExpr(clang::LambdaExpr*) { return true; }
    bool TraverseCXXRecordDecl(clang::CXXRecordDecl*) { return true; }
    bool VisitCoawaitExpr(clang::CoawaitExpr* expression) { return found(expression); }
    bool VisitCoyieldExpr(clang::CoyieldExpr* expression) { return found(expression); }
    bool VisitCXXMemberCallExpr(clang::CXXMemberCallExpr* expression) {
        auto const* const object =
            dyn_cast<clang::DeclRefExpr>(expression->getImplicitObjectArgument()->IgnoreImpCasts());
        auto const* const method = expression->getMethodDecl();
        if (object && object->getDecl() == lock_ && method &&
            (method->getName() == "unlock" || method->getName() == "release"))
            unlocked_ = true;
        return !unlocked_;
    }

    clang::Expr const* wait() const { return wait_; }
    bool unlocked() const { return unlocked_; }

private:
    bool found(clang::Expr const* expression) {
        wait_ = expression;
        return false;
    }

    clang::VarDecl const* lock_;
    clang::Expr const* wait_ = nullptr;
    bool unlocked_ = false;
};

class lock_finder : public clang::RecursiveASTVisitor<lock_finder> {
public:
    lock_finder(rules const& what,
                std::function<void(rule const&, clang::VarDecl const*, clang::Expr const*)> report)
        : rules_(what), report_(std::move(report)) {}

    bool TraverseLambdaExpr(clang::LambdaExpr*) { return true; }
    bool TraverseCXXRecordDecl(clang::CXXRecordDecl*) { return true; }
    bool VisitCompoundStmt(clang::CompoundStmt* block) {
        for (auto it = block->body_begin(); it != block->body_end(); ++it) {
            auto const* const declarations = dyn_cast<clang::DeclStmt>(*it);
            if (!declarations) continue;
            for (auto const* one : declarations->decls())
                look_at(dyn_cast<clang::VarDecl>(one), std::next(it), block->body_end());
        }
        return true;
    }

private:
    template <class Iterator>
    void look_at(clang::VarDecl const* variable, Iterator from, Iterator end) {
        if (!variable) return;
        auto const* const record = variable->getType()->getAsCXXRecordDecl();
        rule const* const about = record ? rules_.find_lock(qualified_name(record)) : nullptr;
        if (!about || is_deferred(variable)) return;
        for (; from != end; ++from) {
            wait_finder finder(variable);
            finder.TraverseStmt(*from);
            if (finder.wait()) return report_(*about, variable, finder.wait());
            if (finder.unlocked()) return;
        }
    }

    // unique_lock lock(mutex, std::defer_lock)
    static bool is_deferred(clang::VarDecl const* variable) {
        auto const* const made = dyn_cast_or_null<clang::CXXConstructExpr>(
            variable->getInit() ? variable->getInit()->IgnoreUnlessSpelledInSource() : nullptr);
        if (!made) return false;
        if (made->getNumArgs() == 0) return true;
        for (auto const* argument : made->arguments()) {
            if (argument->getType().getAsString().find("defer_lock") != std::string::npos)
                return true;
        }
        return false;
    }

    rules const& rules_;
    std::function<void(rule const&, clang::VarDecl const*, clang::Expr const*)> report_;
};

// A translation unit
// -------------------------------------------------------------------------------

class unit_reader : public clang::RecursiveASTVisitor<unit_reader> {
public:
    unit_reader(clang::ASTContext& context, rules const& what, program& to)
        : context_(context), rules_(what), program_(to) {}

    bool shouldVisitTemplateInstantiations() const { return true; }
    bool shouldVisitImplicitCode() const { return true; }

    bool VisitFunctionDecl(clang::FunctionDecl* decl) {
        read(decl);
        return true;
    }
    // A member that keeps a callable from the start.
    bool VisitFieldDecl(clang::FieldDecl* field) {
        function none;
        if (field->hasInClassInitializer() && field->getInClassInitializer())
            body_reader(context_, rules_, program_, none)
                .keep_in(field, field->getInClassInitializer());
        return true;
    }
    bool VisitLambdaExpr(clang::LambdaExpr* lambda) {
        auto* const method = lambda->getCallOperator();
        if (!lambda->isGenericLambda()) {
            read(method);
        } else {
            for (auto* one : method->getDescribedFunctionTemplate()->specializations()) read(one);
        }
        return true;
    }

private:
    void read(clang::FunctionDecl const* decl) {
        if (!decl->doesThisDeclarationHaveABody() || decl->isDependentContext()) return;
        if (decl->isDefaulted() ||
            context_.getSourceManager().isInSystemHeader(decl->getLocation()))
            return;
        std::string const usr = usr_of(decl);
        if (usr.empty() || program_.functions.count(usr)) return;
        if (auto const* method = dyn_cast<clang::CXXMethodDecl>(decl)) note_overridden(method, usr);
        function& made = program_.functions[usr];
        auto const& sources = context_.getSourceManager();
        auto const at = sources.getPresumedLoc(sources.getExpansionLoc(decl->getLocation()));
        made.name = name_of(decl);
        made.at = {at.getFilename(), at.getLine(), at.getColumn()};
        auto* body = decl->getBody();
        auto const* const coroutine = dyn_cast<clang::CoroutineBodyStmt>(body);
        made.is_coroutine = coroutine != nullptr;
        if (coroutine) body = coroutine->getBody();
        function parts;
        body_reader reader(context_, rules_, program_, parts);
        reader.TraverseStmt(body);
        if (auto const* constructor = dyn_cast<clang::CXXConstructorDecl>(decl)) {
            for (auto const* init : constructor->inits()) {
                reader.TraverseStmt(init->getInit());
                if (init->isMemberInitializer()) reader.keep_in(init->getMember(), init->getInit());
            }
        }
        if (coroutine) find_locks(body, parts);
        // References into the map may have moved while lambdas were read.
        program_.functions[usr].calls = std::move(parts.calls);
        program_.functions[usr].blocks = std::move(parts.blocks);
    }

    // Also what is overridden by way of others: each step is one to follow.
    void note_overridden(clang::CXXMethodDecl const* method, std::string const& usr) {
        for (auto const* one : method->overridden_methods()) {
            program_.overriders[usr_of(one)].insert(usr);
            note_overridden(one, usr);
        }
    }

    void find_locks(clang::Stmt* body, function& into) {
        auto const& sources = context_.getSourceManager();
        lock_finder finder(
            rules_, [&](rule const& about, clang::VarDecl const* lock, clang::Expr const* wait) {
                auto const at = sources.getPresumedLoc(sources.getExpansionLoc(wait->getExprLoc()));
                into.blocks.push_back({about.id,
                                       "co_await while '" + lock->getNameAsString() + "' is locked",
                                       {at.getFilename(), at.getLine(), at.getColumn()}});
            });
        finder.TraverseStmt(body);
    }

    static std::string name_of(clang::FunctionDecl const* decl) {
        auto const* const method = dyn_cast<clang::CXXMethodDecl>(decl);
        if (method && method->getParent()->isLambda()) return "a lambda";
        return qualified_name(decl);
    }

    clang::ASTContext& context_;
    rules const& rules_;
    program& program_;
};

/// Whether the user's code tells a socket not to wait.
class ready_sockets : public clang::RecursiveASTVisitor<ready_sockets> {
public:
    bool VisitCXXMemberCallExpr(clang::CXXMemberCallExpr* expression) {
        auto const* const method = expression->getMethodDecl();
        if (!method || expression->getNumArgs() == 0) return true;
        auto const name = qualified_name(method);
        auto const* const value = dyn_cast<clang::CXXBoolLiteralExpr>(
            expression->getArg(0)->IgnoreUnlessSpelledInSource());
        found = found || (value && value->getValue() && begins(name, "boost::asio::") &&
                          method->getNameAsString().find("non_blocking") != std::string::npos);
        return !found;
    }
    bool found = false;
};

/// `// tidegate-lint: allow(rule) reason`
class comment_reader : public clang::CommentHandler {
public:
    explicit comment_reader(program& to) : program_(to) {}

    bool HandleComment(clang::Preprocessor& preprocessor, clang::SourceRange range) override {
        auto const& sources = preprocessor.getSourceManager();
        if (sources.isInSystemHeader(range.getBegin())) return false;
        bool invalid = false;
        char const* const begin = sources.getCharacterData(range.getBegin(), &invalid);
        char const* const end = sources.getCharacterData(range.getEnd(), &invalid);
        if (invalid) return false;
        std::string_view text(begin, static_cast<std::size_t>(end - begin));
        constexpr std::string_view mark = "tidegate-lint: allow(";
        auto const from = text.find(mark);
        if (from == text.npos) return false;
        text.remove_prefix(from + mark.size());
        auto const close = text.find(')');
        if (close == text.npos) return false;
        auto const at = sources.getPresumedLoc(range.getBegin());
        // Behind code it is about that line, alone about the next.
        char const* before = begin;
        for (unsigned i = 1; i < at.getColumn() && (before[-1] == ' ' || before[-1] == '\t'); ++i)
            --before;
        bool const alone = before == begin - (at.getColumn() - 1);
        std::string_view reason = text.substr(close + 1);
        while (!reason.empty() && (reason.front() == ' ' || reason.front() == ':'))
            reason.remove_prefix(1);
        program_.allowances.push_back({{at.getFilename(), at.getLine(), at.getColumn()},
                                       at.getLine() + (alone ? 1 : 0),
                                       std::string(text.substr(0, close)),
                                       std::string(reason)});
        return false;
    }

private:
    program& program_;
};

class collecting : public clang::ASTFrontendAction {
public:
    collecting(rules const& what, program& to) : rules_(what), program_(to), comments_(to) {}

    std::unique_ptr<clang::ASTConsumer> CreateASTConsumer(clang::CompilerInstance& compiler,
                                                          llvm::StringRef) override {
        compiler.getPreprocessor().addCommentHandler(&comments_);
        struct consumer : clang::ASTConsumer {
            consumer(rules const& what, program& to) : rules_(what), program_(to) {}
            void HandleTranslationUnit(clang::ASTContext& context) override {
                read_unit(context, rules_, program_);
                auto const& sources = context.getSourceManager();
                for (auto it = sources.fileinfo_begin(); it != sources.fileinfo_end(); ++it) {
                    llvm::SmallString<256> path(it->first.getName());
                    sources.getFileManager().makeAbsolutePath(path);
                    program_.files.insert(path.str().str());
                }
            }
            rules const& rules_;
            program& program_;
        };
        return std::make_unique<consumer>(rules_, program_);
    }

private:
    rules const& rules_;
    program& program_;
    comment_reader comments_;
};

} // namespace

void read_unit(clang::ASTContext& context, rules const& what, program& to) {
    std::vector<clang::Decl*> users;
    for (auto* decl : context.getTranslationUnitDecl()->decls()) {
        if (!context.getSourceManager().isInSystemHeader(decl->getLocation()))
            users.push_back(decl);
    }
    ready_sockets ready;
    for (auto* decl : users) ready.TraverseDecl(decl);
    to.has_ready_sockets = ready.found;
    unit_reader reader(context, what, to);
    for (auto* decl : users) reader.TraverseDecl(decl);
}

std::unique_ptr<clang::CommentHandler> make_comment_reader(program& to) {
    return std::make_unique<comment_reader>(to);
}

std::unique_ptr<clang::tooling::FrontendActionFactory> make_collector(rules const& what,
                                                                      program& to) {
    class factory : public clang::tooling::FrontendActionFactory {
    public:
        factory(rules const& what, program& to) : rules_(what), program_(to) {}
        std::unique_ptr<clang::FrontendAction> create() override {
            return std::make_unique<collecting>(rules_, program_);
        }

    private:
        rules const& rules_;
        program& program_;
    };
    return std::make_unique<factory>(what, to);
}

} // namespace lint
