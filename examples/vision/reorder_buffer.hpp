// SPDX-License-Identifier: BSL-1.0
// Brings things that were numbered back into their order.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

namespace vision {

// Numbers run 0, 1, 2, ...; each is put once. Holds no more than are on their way at once.
template <class T>
class reorder_buffer {
public:
    void put(std::int64_t number, T value) { early_.emplace(number, std::move(value)); }

    // The one after the last that was taken, if it is here.
    std::optional<T> take_next() {
        auto const first = early_.begin();
        if (first == early_.end() || first->first != next_) return std::nullopt;
        std::optional<T> value(std::move(first->second));
        early_.erase(first);
        ++next_;
        return value;
    }

private:
    std::map<std::int64_t, T> early_;
    std::int64_t next_ = 0;
};

} // namespace vision
