// SPDX-License-Identifier: BSL-1.0
// A recursive-descent reader that stops at the first thing it does not know and keeps what it has.
#include "python_literal.hpp"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>

namespace vision {
namespace {

constexpr std::size_t longest_text = 256 * 1024;
constexpr int deepest_nesting = 8;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

void append_utf8(std::string& to, std::uint32_t code) {
    if (code < 0x80) {
        to += static_cast<char>(code);
    } else if (code < 0x800) {
        to += static_cast<char>(0xC0 | (code >> 6));
        to += static_cast<char>(0x80 | (code & 0x3F));
    } else {
        to += static_cast<char>(0xE0 | (code >> 12));
        to += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
        to += static_cast<char>(0x80 | (code & 0x3F));
    }
}

class reader {
public:
    explicit reader(std::string_view text) : rest_(text) {}

    std::optional<python_literal> value(int depth) {
        skip_space();
        if (rest_.empty() || depth > deepest_nesting) {
            return std::nullopt;
        }
        switch (rest_.front()) {
        case '{': return dict(depth);
        case '[': return list(']', depth);
        case '(': return list(')', depth);
        case '\'':
        case '"': return text();
        default: return word_or_number();
        }
    }

private:
    void skip_space() {
        while (!rest_.empty() && is_space(rest_.front())) {
            rest_.remove_prefix(1);
        }
    }

    bool take(char wanted) {
        skip_space();
        if (rest_.empty() || rest_.front() != wanted) {
            return false;
        }
        rest_.remove_prefix(1);
        return true;
    }

    // A broken item ends everything: `rest_` is emptied, so that the outer containers end too.
    void give_up() { rest_ = {}; }

    python_literal list(char closing, int depth) {
        python_literal result{.type = python_literal::kind::list};
        rest_.remove_prefix(1);
        while (!take(closing)) {
            auto item = value(depth + 1);
            if (!item) {
                give_up();
                break;
            }
            result.items.push_back(std::move(*item));
            if (!take(',') && !at(closing)) {
                give_up();
                break;
            }
        }
        return result;
    }

    python_literal dict(int depth) {
        python_literal result{.type = python_literal::kind::dict};
        rest_.remove_prefix(1);
        while (!take('}')) {
            auto key = value(depth + 1);
            if (!key || !take(':')) {
                give_up();
                break;
            }
            auto mapped = value(depth + 1);
            if (!mapped) {
                give_up();
                break;
            }
            result.pairs.emplace_back(std::move(*key), std::move(*mapped));
            if (!take(',') && !at('}')) {
                give_up();
                break;
            }
        }
        return result;
    }

    bool at(char wanted) {
        skip_space();
        return !rest_.empty() && rest_.front() == wanted;
    }

    std::optional<python_literal> text() {
        python_literal result{.type = python_literal::kind::text};
        const char quote = rest_.front();
        rest_.remove_prefix(1);
        while (!rest_.empty() && rest_.front() != quote) {
            const char c = rest_.front();
            rest_.remove_prefix(1);
            if (c == '\\') {
                escape(result.text);
            } else {
                result.text += c;
            }
        }
        if (rest_.empty()) {
            return std::nullopt; // no closing quote: half a name is no name
        }
        rest_.remove_prefix(1);
        return result;
    }

    void escape(std::string& to) {
        if (rest_.empty()) {
            return;
        }
        const char c = rest_.front();
        rest_.remove_prefix(1);
        switch (c) {
        case 'n': to += '\n'; break;
        case 't': to += '\t'; break;
        case 'r': to += '\r'; break;
        case 'x': hex(to, 2); break;
        case 'u': hex(to, 4); break;
        default: to += c; break;
        }
    }

    void hex(std::string& to, std::size_t digits) {
        const std::string_view number = rest_.substr(0, digits);
        std::uint32_t code = 0;
        const auto [end, problem] =
            std::from_chars(number.data(), number.data() + number.size(), code, 16);
        if (problem != std::errc{} || end != number.data() + digits) {
            return;
        }
        rest_.remove_prefix(digits);
        append_utf8(to, code);
    }

    std::optional<python_literal> word_or_number() {
        const std::size_t end = rest_.find_first_of(",:]}) \t\r\n");
        const std::string_view word = rest_.substr(0, end);
        rest_.remove_prefix(word.size());
        if (word == "True" || word == "true" || word == "False" || word == "false") {
            return python_literal{.type = python_literal::kind::boolean,
                                  .boolean = word.front() == 'T' || word.front() == 't'};
        }
        if (word == "None" || word == "null") {
            return python_literal{};
        }
        double number = 0;
        const auto [last, problem] =
            std::from_chars(word.data(), word.data() + word.size(), number);
        if (problem != std::errc{} || last != word.data() + word.size() || !std::isfinite(number)) {
            return std::nullopt;
        }
        return python_literal{.type = python_literal::kind::number, .number = number};
    }

    std::string_view rest_;
};

} // namespace

const python_literal* python_literal::find(std::string_view key) const noexcept {
    for (const auto& [name, value] : pairs) {
        if (name.type == kind::text && name.text == key) {
            return &value;
        }
    }
    return nullptr;
}

python_literal parse_python_literal(std::string_view text) {
    return reader(text.substr(0, longest_text)).value(0).value_or(python_literal{});
}

} // namespace vision
