// SPDX-License-Identifier: BSL-1.0
#include "multipart.hpp"

#include "query.hpp"

#include <boost/beast/core/string.hpp>
#include <boost/beast/http/rfc7230.hpp>

#include <algorithm>
#include <utility>

namespace vision::service {

namespace beast = boost::beast;

namespace {

constexpr std::size_t longest_heading = 4096;
constexpr std::size_t longest_boundary = 70; // RFC 2046, 5.1.1, as the characters below

bool is_boundary(std::string_view text) {
    auto const may_be_there = [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               std::string_view("'()+_,-./:=? ").find(c) != std::string_view::npos;
    };
    return !text.empty() && text.size() <= longest_boundary && text.back() != ' ' &&
           std::ranges::all_of(text, may_be_there);
}

// "form-data; name=x" has the parameter `name`, which is "x".
std::optional<std::string> parameter(std::string_view value, std::string_view name) {
    auto const at = value.find(';');
    if (at == std::string_view::npos) return std::nullopt;
    std::string_view const rest = value.substr(at);
    for (const auto& [key, text] : beast::http::param_list({rest.data(), rest.size()})) {
        if (beast::iequals(key, name)) return std::string(text.data(), text.size());
    }
    return std::nullopt;
}

// Of a part, by the lines of its header, each with its CRLF.
std::string name_of_part(std::string_view header) {
    constexpr std::string_view wanted = "content-disposition:";
    while (!header.empty()) {
        auto const end = header.find("\r\n");
        std::string_view const line = header.substr(0, end);
        header.remove_prefix(end + 2);
        if (!beast::iequals(line.substr(0, wanted.size()), wanted)) continue;
        if (auto name = parameter(line, "name")) return std::move(*name);
    }
    throw bad_request("a part of the body has no name");
}

} // namespace

std::optional<std::string> boundary_of(std::string_view content_type) {
    std::string_view const type = content_type.substr(0, content_type.find_first_of("; \t"));
    constexpr std::string_view any = "multipart/";
    if (!beast::iequals(type.substr(0, any.size()), any)) return std::nullopt;
    if (!beast::iequals(type, "multipart/form-data")) {
        throw bad_request(fmt::format(
            "the body is {}, allowed is multipart/form-data, or the video alone", label(type)));
    }
    auto boundary = parameter(content_type, "boundary");
    if (!boundary || !is_boundary(*boundary)) {
        throw bad_request("the Content-Type names no boundary of 1 to 70 characters as RFC 2046 "
                          "allows them");
    }
    return boundary;
}

auto multipart_reader::next(std::string_view& input) -> std::optional<event> {
    while (!input.empty()) {
        switch (state_) {
        case state::preamble: static_cast<void>(up_to_delimiter(input)); break;
        case state::content:
            if (auto const bytes = up_to_delimiter(input); !bytes.empty()) {
                return event{event::kind::content, bytes};
            }
            break;
        case state::heading:
            read_heading(input);
            if (state_ == state::content) return event{event::kind::part, name_};
            break;
        case state::epilogue: input = {}; break;
        }
    }
    return std::nullopt;
}

// A carriage return is nowhere in a delimiter but at its begin: where one does not go on, none can
// have begun in what was held of it.
std::string_view multipart_reader::up_to_delimiter(std::string_view& input) {
    std::string_view const delimiter = delimiter_;
    std::string_view const rest = delimiter.substr(held_);
    std::size_t const common = std::min(rest.size(), input.size());
    if (input.substr(0, common) == rest.substr(0, common)) { // none held: at the begin of `input`
        held_ += common;
        input.remove_prefix(common);
        if (held_ == delimiter.size()) {
            held_ = 0;
            state_ = state::heading;
        }
        return {};
    }
    if (held_ > 0) return delimiter.substr(0, std::exchange(held_, 0));
    auto end = input.find(delimiter);
    if (end == std::string_view::npos) {
        end = input.rfind('\r');
        if (end == std::string_view::npos || !delimiter.starts_with(input.substr(end)))
            end = input.size();
    }
    std::string_view const bytes = input.substr(0, end);
    input.remove_prefix(end);
    return bytes;
}

// The rest of the delimiter's line, then the lines of the header, then an empty one.
void multipart_reader::read_heading(std::string_view& input) {
    while (!input.empty()) {
        heading_ += input.front();
        input.remove_prefix(1);
        if (heading_ == "--") {
            state_ = state::epilogue;
            return;
        }
        if (heading_.ends_with("\r\n\r\n")) break;
        if (heading_.size() >= longest_heading) {
            throw bad_request(
                fmt::format("the header of a part has {} bytes or more", longest_heading));
        }
    }
    if (!heading_.ends_with("\r\n\r\n")) return;
    std::string_view header = heading_;
    auto const padding = header.substr(0, header.find("\r\n"));
    if (padding.find_first_not_of(" \t") != std::string_view::npos)
        throw bad_request("a boundary in the body is followed by something else");
    header.remove_prefix(padding.size() + 2);
    header.remove_suffix(2);
    name_ = name_of_part(header);
    heading_.clear();
    state_ = state::content;
}

void multipart_reader::finish() const {
    if (state_ != state::epilogue) throw bad_request("the body ends before its last boundary");
}

} // namespace vision::service
