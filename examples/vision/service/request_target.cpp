// SPDX-License-Identifier: BSL-1.0
#include "request_target.hpp"

#include <uriparser/Uri.h>

#include <memory>
#include <string_view>

namespace vision::service {

namespace {

std::string decoded(const UriTextRangeA& range) {
    std::string text(range.first, range.afterLast);
    const char* const end = uriUnescapeInPlaceA(text.data());
    text.resize(static_cast<std::size_t>(end - text.data()));
    return text;
}

struct query_closer {
    void operator()(UriQueryListA* list) const noexcept { uriFreeQueryListA(list); }
};

std::unique_ptr<UriQueryListA, query_closer> parse_query(const UriTextRangeA& range) {
    UriQueryListA* list = nullptr;
    int count = 0;
    if (range.first) uriDissectQueryMallocA(&list, &count, range.first, range.afterLast);
    return std::unique_ptr<UriQueryListA, query_closer>(list);
}

bool has_nul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

} // namespace

std::optional<request_target> parse_target(const std::string& text) {
    // "//host/path" would be taken for the address of another server.
    if (text.empty() || text[0] != '/' || text.starts_with("//")) return std::nullopt;
    UriUriA uri;
    const char* stopped_at = nullptr;
    if (uriParseSingleUriA(&uri, text.c_str(), &stopped_at) != URI_SUCCESS) return std::nullopt;
    std::unique_ptr<UriUriA, void (*)(UriUriA*)> const members(&uri, uriFreeUriMembersA);
    if (uri.fragment.first) return std::nullopt;

    request_target target;
    for (auto const* part = uri.pathHead; part; part = part->next) {
        target.segments.push_back(decoded(part->text));
        if (has_nul(target.segments.back())) return std::nullopt;
    }
    if (target.segments.size() == 1 && target.segments[0].empty()) target.segments.clear();
    auto const query = parse_query(uri.query);
    for (auto const* one = query.get(); one; one = one->next) {
        target.query.emplace_back(one->key, one->value ? one->value : "");
    }
    return target;
}

} // namespace vision::service
