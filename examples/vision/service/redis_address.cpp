// SPDX-License-Identifier: BSL-1.0
#include "redis_address.hpp"

#include "error.hpp"

#include <fmt/format.h>
#include <uriparser/Uri.h>

#include <charconv>
#include <memory>
#include <string_view>

namespace vision::service {

namespace {

[[noreturn]] void refuse(std::string_view why) {
    throw error(
        fmt::format("--redis: {}, allowed is redis://[user:password@]host[:port][/database]", why));
}

std::string_view view(const UriTextRangeA& range) {
    if (!range.first) return {};
    return {range.first, static_cast<std::size_t>(range.afterLast - range.first)};
}

std::string decoded(std::string_view range) {
    std::string text(range);
    const char* const end = uriUnescapeInPlaceA(text.data());
    text.resize(static_cast<std::size_t>(end - text.data()));
    return text;
}

int number_in(const char* name, std::string_view text, int lowest, int highest) {
    int value = -1;
    auto const [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc() || end != text.data() + text.size() || value < lowest ||
        value > highest) {
        refuse(fmt::format("the {} is '{}', which is not {} to {}", name, text, lowest, highest));
    }
    return value;
}

} // namespace

boost::redis::config parse_redis_address(const std::string& text) {
    UriUriA uri;
    const char* stopped_at = nullptr;
    if (uriParseSingleUriA(&uri, text.c_str(), &stopped_at) != URI_SUCCESS) refuse("not a URL");
    std::unique_ptr<UriUriA, void (*)(UriUriA*)> const members(&uri, uriFreeUriMembersA);
    auto const scheme = view(uri.scheme);
    if (scheme == "rediss") refuse("TLS (rediss) is not supported");
    if (scheme != "redis") refuse(fmt::format("the scheme is '{}'", scheme));
    if (view(uri.hostText).empty()) refuse("there is no host");
    if (uri.query.first || uri.fragment.first) refuse("there are options after the address");

    boost::redis::config server;
    server.addr.host = decoded(view(uri.hostText));
    auto const port = view(uri.portText);
    if (!port.empty()) server.addr.port = std::to_string(number_in("port", port, 1, 65535));
    if (auto const user = view(uri.userInfo); !user.empty()) {
        auto const colon = user.find(':');
        if (colon == std::string_view::npos) refuse("there is a user without a password");
        if (colon > 0) server.username = decoded(user.substr(0, colon));
        server.password = decoded(user.substr(colon + 1));
    }
    if (auto const* path = uri.pathHead; path && !view(path->text).empty()) {
        if (path->next) refuse("there is more than a database in the path");
        server.database_index = number_in("database", view(path->text), 0, 1'000'000);
    }
    return server;
}

std::string describe(const boost::redis::config& server) {
    bool const is_ipv6 = server.addr.host.find(':') != std::string::npos;
    return fmt::format("redis://{}{}{}:{}/{}", is_ipv6 ? "[" : "", server.addr.host,
                       is_ipv6 ? "]" : "", server.addr.port, server.database_index.value_or(0));
}

} // namespace vision::service
