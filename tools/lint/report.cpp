// SPDX-License-Identifier: BSL-1.0
#include "report.hpp"

#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/FormatVariadic.h>
#include <llvm/Support/JSON.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

namespace lint {
namespace {

using llvm::json::Array;
using llvm::json::Object;
using llvm::json::Value;

std::string text_of(place const& at) {
    return at.file + ":" + std::to_string(at.line) + ":" + std::to_string(at.column);
}

std::string message_of(finding const& one) {
    std::string const& root = one.chain.front().function;
    if (one.what.rfind("co_await", 0) == 0) return one.what + ", in " + root;
    std::string text = "'" + one.what + "' blocks, in " + root;
    if (one.chain.size() > 1) text += ", by way of " + one.chain.back().function;
    return text;
}

std::vector<finding> by_priority(result const& r, rules const& what) {
    auto all = r.findings;
    std::sort(all.begin(), all.end(), [&](finding const& a, finding const& b) {
        return std::tuple(what.by_id(a.rule)->priority, a.at(), a.fingerprint) <
               std::tuple(what.by_id(b.rule)->priority, b.at(), b.fingerprint);
    });
    return all;
}

// A path as a part of a URI: what RFC 3986 lets stand there, the rest as its bytes.
std::string uri_of(std::string const& path) {
    std::string uri;
    for (char const c : path) {
        if (llvm::isAlnum(c) || llvm::StringRef("/-._~+,@=").contains(c)) uri += c;
        else uri += "%" + llvm::toHex(llvm::StringRef(&c, 1));
    }
    return uri;
}

Object location_of(place const& at) {
    return Object{{"physicalLocation",
                   Object{{"artifactLocation", Object{{"uri", uri_of(at.file)}}},
                          {"region", Object{{"startLine", at.line}, {"startColumn", at.column}}}}}};
}

Object flow_of(finding const& one) {
    Array steps;
    for (std::size_t i = 0; i < one.chain.size(); ++i) {
        auto const& each = one.chain[i];
        Object location = location_of(each.at);
        bool const last = i + 1 == one.chain.size();
        location["message"] =
            Object{{"text", each.function + (last ? " calls " + one.what
                                                  : " calls " + one.chain[i + 1].function)}};
        steps.push_back(Object{{"location", std::move(location)}});
    }
    return Object{{"threadFlows", Array{Object{{"locations", std::move(steps)}}}}};
}

Value sarif_result(finding const& one, rules const& what, bool with_baseline) {
    auto const& rule = *what.by_id(one.rule);
    Object out{{"ruleId", one.rule},
               {"level", rule.priority <= "P1" ? "error" : "warning"},
               {"message", Object{{"text", message_of(one) + ". Instead: " + rule.instead}}},
               {"locations", Array{location_of(one.at())}},
               {"codeFlows", Array{flow_of(one)}},
               {"partialFingerprints", Object{{"tidegateLint/v1", one.fingerprint}}}};
    if (one.allowed) {
        out["suppressions"] = Array{Object{{"kind", "inSource"}, {"justification", one.reason}}};
    }
    if (with_baseline) out["baselineState"] = one.known ? "unchanged" : "new";
    return out;
}

} // namespace

void write_text(llvm::raw_ostream& to, result const& r, rules const& what) {
    std::size_t open = 0;
    std::size_t known = 0;
    for (auto const& one : r.findings) {
        known += one.known;
        if (one.allowed || one.known) continue;
        ++open;
        auto const& rule = *what.by_id(one.rule);
        to << text_of(one.at()) << ": " << rule.priority << ": " << message_of(one) << " ["
           << one.rule << "]\n";
        for (std::size_t i = 0; i + 1 < one.chain.size(); ++i) {
            to << "    " << text_of(one.chain[i].at) << ": " << one.chain[i].function << " calls "
               << one.chain[i + 1].function << "\n";
        }
        to << "    instead: " << rule.instead << " (" << rule.effort << ")\n";
    }
    for (auto const& one : r.unreasoned)
        to << text_of(one.at) << ": allow(" << one.rule << ") needs a reason behind it\n";
    for (auto const& one : r.unused)
        to << text_of(one.at) << ": allow(" << one.rule << ") allows nothing\n";
    to << open << " findings, " << r.findings.size() - open - known << " allowed";
    if (known > 0) to << ", " << known << " known";
    to << "\n";
}

void write_json(llvm::raw_ostream& to, result const& r, rules const& what) {
    Array issues;
    Object summary{{"P0", 0}, {"P1", 0}, {"P2", 0}, {"P3", 0}};
    int allowed = 0;
    int known = 0;
    for (auto const& one : by_priority(r, what)) {
        auto const& rule = *what.by_id(one.rule);
        Array chain;
        for (auto const& each : one.chain) {
            chain.push_back(Object{{"function", each.function},
                                   {"file", each.at.file},
                                   {"line", each.at.line},
                                   {"column", each.at.column}});
        }
        Object issue{{"rule", one.rule},
                     {"priority", rule.priority},
                     {"effort", rule.effort},
                     {"function", one.what},
                     {"message", message_of(one)},
                     {"instead", rule.instead},
                     {"file", one.at().file},
                     {"line", one.at().line},
                     {"column", one.at().column},
                     {"chain", std::move(chain)},
                     {"fingerprint", one.fingerprint},
                     {"allowed", one.allowed},
                     {"known", one.known}};
        if (one.allowed) {
            issue["reason"] = one.reason;
            ++allowed;
        } else if (one.known) {
            ++known;
        } else {
            summary[rule.priority] = *summary[rule.priority].getAsInteger() + 1;
        }
        issues.push_back(std::move(issue));
    }
    summary["allowed"] = allowed;
    summary["known"] = known;
    to << llvm::formatv("{0:2}\n", Value(Object{{"version", 1},
                                                {"summary", std::move(summary)},
                                                {"issues", std::move(issues)}}));
}

void write_sarif(llvm::raw_ostream& to, result const& r, rules const& what, bool with_baseline) {
    Array descriptors, results;
    for (auto const& rule : what.all()) {
        descriptors.push_back(
            Object{{"id", rule.id},
                   {"shortDescription", Object{{"text", "Blocks an event loop: " + rule.id}}},
                   {"help", Object{{"text", "Instead: " + rule.instead}}},
                   {"properties", Object{{"priority", rule.priority}, {"effort", rule.effort}}}});
    }
    for (auto const& one : by_priority(r, what))
        results.push_back(sarif_result(one, what, with_baseline));
    Object const driver{{"name", "tidegate-lint"}, {"rules", std::move(descriptors)}};
    to << llvm::formatv(
        "{0:2}\n", Value(Object{{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"},
                                {"version", "2.1.0"},
                                {"runs", Array{Object{{"tool", Object{{"driver", Object(driver)}}},
                                                      {"columnKind", "utf16CodeUnits"},
                                                      {"results", std::move(results)}}}}}));
}

} // namespace lint
