// SPDX-License-Identifier: BSL-1.0
// Reads the Python literals that exporters write into models: untrusted text, so it never throws on
// it.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vision {

// A value of a Python (or JSON) literal. Text that breaks off keeps the items that were whole.
struct python_literal {
    enum class kind { nothing, boolean, number, text, list, dict };

    kind type = kind::nothing;
    bool boolean = false;
    double number = 0;
    std::string text = {};
    std::vector<python_literal> items = {};                            // of a list or tuple
    std::vector<std::pair<python_literal, python_literal>> pairs = {}; // of a dict

    // The value of a dict's text key, or null.
    [[nodiscard]] const python_literal* find(std::string_view key) const noexcept;
};

// Garbage gives a value of kind nothing. Looks at no more than the first 256 KiB, nests no deeper
// than 8.
[[nodiscard]] python_literal parse_python_literal(std::string_view text);

} // namespace vision
