// SPDX-License-Identifier: BSL-1.0
// What was read of a translation unit, kept in a file until one of its own changes.
#pragma once

#include "program.hpp"

#include <optional>
#include <string>

namespace lint {

class cache {
public:
    /// Without a folder nothing is kept. `salt` is part of each key: what else the outcome depends
    /// on.
    cache(std::string folder, std::string salt);

    /// Nothing if it was not kept, or if a file that was read then has another size or time.
    std::optional<program> find(std::string const& unit) const;
    /// Failing to write is no error: it is read again next time.
    void keep(std::string const& unit, program const& read) const;

private:
    std::string path_of(std::string const& unit) const;

    std::string folder_;
    std::string salt_;
};

} // namespace lint
