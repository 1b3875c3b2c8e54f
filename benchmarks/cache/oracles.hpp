// SPDX-License-Identifier: BSL-1.0
// The best that any cache could do, and what a textbook one does: guards of the generated traces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <list>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

namespace bench {

// Numbers from 0 instead of keys, in order of appearance.
inline std::vector<std::uint32_t> numbered(std::vector<std::uint64_t> const& trace) {
    std::unordered_map<std::uint64_t, std::uint32_t> known;
    known.reserve(trace.size());
    std::vector<std::uint32_t> numbers;
    numbers.reserve(trace.size());
    for (std::uint64_t const key : trace) {
        numbers.push_back(
            known.try_emplace(key, static_cast<std::uint32_t>(known.size())).first->second);
    }
    return numbers;
}

// Hits in per cent; Belady 1966: gives up what is used again last.
inline double belady_hit_ratio(std::vector<std::uint32_t> const& trace, std::size_t capacity) {
    constexpr auto never = std::numeric_limits<std::uint32_t>::max();
    std::vector<std::uint32_t> next(trace.size()), last(trace.size(), never);
    for (std::size_t i = trace.size(); i-- > 0;) {
        next[i] = std::exchange(last[trace[i]], static_cast<std::uint32_t>(i));
    }
    std::priority_queue<std::pair<std::uint32_t, std::uint32_t>> furthest; // next use, key
    std::vector<std::uint32_t> next_use(trace.size());
    std::vector<char> there(trace.size());
    std::size_t size = 0, hits = 0;
    for (std::size_t i = 0; i < trace.size(); ++i) {
        std::uint32_t const key = trace[i];
        if (there[key]) {
            ++hits;
        } else {
            for (; size == capacity; furthest.pop()) {
                auto const [use, victim] = furthest.top();
                if (!there[victim] || next_use[victim] != use) continue; // out of date
                there[victim] = 0;
                --size;
            }
            there[key] = 1;
            ++size;
        }
        next_use[key] = next[i];
        furthest.emplace(next[i], key);
    }
    return 100.0 * static_cast<double>(hits) / static_cast<double>(trace.size());
}

inline double lru_hit_ratio(std::vector<std::uint32_t> const& trace, std::size_t capacity) {
    std::list<std::uint32_t> order;
    std::vector<std::list<std::uint32_t>::iterator> at(trace.size(), order.end());
    std::size_t hits = 0;
    for (std::uint32_t const key : trace) {
        if (at[key] != order.end()) {
            ++hits;
            order.splice(order.end(), order, at[key]);
            continue;
        }
        if (order.size() == capacity) {
            at[order.front()] = order.end();
            order.pop_front();
        }
        at[key] = order.insert(order.end(), key);
    }
    return 100.0 * static_cast<double>(hits) / static_cast<double>(trace.size());
}

} // namespace bench
