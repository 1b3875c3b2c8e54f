// SPDX-License-Identifier: BSL-1.0
// What blocks, how bad that is, and what to do instead.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lint {

struct rule {
    std::string id;
    std::string priority; ///< P0 to P3
    std::string effort;
    std::string instead;
    bool is_about_locks = false;        ///< that must not be held while waiting
    std::vector<std::string> functions; ///< qualified names, with * for any characters
};

class rules {
public:
    /// The ones in rules.json.
    static rules defaults();
    /// Adds those of a file; a rule of the same id takes the place of the one there. Throws
    /// std::runtime_error that names the file and what is wrong.
    void read(std::string const& path);

    /// Null if none is about it.
    rule const* find(std::string_view qualified_name) const;
    rule const* find_lock(std::string_view qualified_class_name) const;
    rule const* by_id(std::string_view id) const;
    /// Changes with what is found.
    std::string fingerprint() const;
    std::vector<rule> const& all() const noexcept { return rules_; }

private:
    void parse(std::string_view text, std::string const& where);

    std::vector<rule> rules_;
};

} // namespace lint
