// SPDX-License-Identifier: BSL-1.0
// Reads each known key by itself, so that one bad value costs only that value.
#include "model_metadata.hpp"

#include "python_literal.hpp"

#include <algorithm>
#include <cmath>

namespace vision {
namespace {

using entries_map = std::map<std::string, std::string, std::less<>>;
using kind = python_literal::kind;

constexpr std::size_t most_names = 10'000;
constexpr std::size_t longest_name = 100;

std::string_view find(const entries_map& entries, std::string_view key) {
    const auto found = entries.find(key);
    return found == entries.end() ? std::string_view{} : std::string_view(found->second);
}

// A whole number in [low, high], or nothing.
std::optional<int> whole_number(const python_literal& value, int low, int high) {
    if (value.type != kind::number || value.number != std::floor(value.number) ||
        value.number < low || value.number > high) {
        return std::nullopt;
    }
    return static_cast<int>(value.number);
}

std::vector<std::string> names_of(const python_literal& value) {
    std::vector<std::string> names;
    const auto put = [&](std::size_t index, const python_literal& name) {
        if (name.type != kind::text) {
            return;
        }
        for (std::size_t gap = names.size(); gap <= index; ++gap) {
            names.push_back("class " + std::to_string(gap));
        }
        names[index] = printable_name(name.text);
    };
    for (std::size_t i = 0; i < std::min(value.items.size(), most_names); ++i) {
        put(i, value.items[i]);
    }
    for (const auto& [key, name] : value.pairs) {
        if (const auto index = whole_number(key, 0, static_cast<int>(most_names) - 1)) {
            put(static_cast<std::size_t>(*index), name);
        }
    }
    return names;
}

// "[height, width]" or one number for a square.
std::optional<image_size> size_of(const python_literal& value) {
    constexpr int low = 1;
    constexpr int high = 65'536;
    if (const auto side = whole_number(value, low, high)) {
        return image_size{*side, *side};
    }
    if (value.items.size() != 2) {
        return std::nullopt;
    }
    const auto height = whole_number(value.items[0], low, high);
    const auto width = whole_number(value.items[1], low, high);
    return height && width ? std::optional(image_size{*width, *height}) : std::nullopt;
}

std::optional<bool> flag_of(const python_literal* value) {
    return value && value->type == kind::boolean ? std::optional(value->boolean) : std::nullopt;
}

// Length of the UTF-8 sequence at the front, or 0 where there is none.
std::size_t utf8_length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const std::size_t length = byte(0) < 0x80                       ? 1
                               : byte(0) >= 0xC2 && byte(0) <= 0xDF ? 2
                               : byte(0) >= 0xE0 && byte(0) <= 0xEF ? 3
                               : byte(0) >= 0xF0 && byte(0) <= 0xF4 ? 4
                                                                    : 0;
    if (length > text.size()) {
        return 0;
    }
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0) != 0x80) {
            return 0;
        }
    }
    if (length >= 3) { // overlong forms, surrogates and what lies above U+10FFFF
        const unsigned lead = byte(0);
        const unsigned next = byte(1);
        if ((lead == 0xE0 && next < 0xA0) || (lead == 0xED && next > 0x9F) ||
            (lead == 0xF0 && next < 0x90) || (lead == 0xF4 && next > 0x8F)) {
            return 0;
        }
    }
    return length;
}

} // namespace

std::string printable_name(std::string_view name) {
    std::string result;
    while (!name.empty()) {
        const std::size_t length = utf8_length(name);
        const std::size_t used = std::max<std::size_t>(length, 1);
        if (result.size() + used > longest_name) {
            break;
        }
        const auto first = static_cast<unsigned char>(name.front());
        if (length == 0) {
            result += '?';
        } else if (length == 1 && (first < 0x20 || first == 0x7F)) {
            result += ' ';
        } else {
            result += name.substr(0, length);
        }
        name.remove_prefix(used);
    }
    return result;
}

std::string valid_utf8(std::string_view text) {
    std::string result;
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        result += length == 0 ? std::string_view("?") : text.substr(0, length);
        text.remove_prefix(std::max<std::size_t>(length, 1));
    }
    return result;
}

bool model_metadata::from_ultralytics() const noexcept {
    return author.find("Ultralytics") != std::string::npos ||
           (!names.empty() && (input || stride || !task.empty()));
}

bool model_metadata::says_finished_boxes() const noexcept {
    return end_to_end.value_or(false) || suppression_inside.value_or(false);
}

model_metadata parse_model_metadata(const entries_map& entries) {
    const auto literal = [&](std::string_view key) {
        return parse_python_literal(find(entries, key));
    };
    const python_literal end_to_end = literal("end2end");
    const python_literal args = literal("args");

    model_metadata result;
    result.author = printable_name(find(entries, "author"));
    result.task = printable_name(find(entries, "task"));
    result.names = names_of(literal("names"));
    result.input = size_of(literal("imgsz"));
    result.stride = whole_number(literal("stride"), 1, 1024);
    result.end_to_end = flag_of(&end_to_end);
    result.suppression_inside = flag_of(args.find("nms"));
    return result;
}

} // namespace vision
