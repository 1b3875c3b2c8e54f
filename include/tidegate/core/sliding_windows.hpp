// SPDX-License-Identifier: BSL-1.0
// What was recorded in the last seconds or minutes, from what was recorded in all.
#pragma once

#include <tidegate/core/histogram.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// The last ten seconds, minute and five minutes of a histogram that only grows. Whoever reads
/// tells it from time to time how that stands; those who record never notice.
///
/// It keeps differences: of a second each for ten seconds, of ten for a minute, of sixty for five
/// minutes, about 1 KiB for each in which something was recorded. Something recorded up to a
/// moment at which it was told stays in a window of length w for at least w after that moment, and
/// less than w and the length of a difference. Differences are added, so no percentile is ever
/// averaged.
///
/// Times are nanoseconds of any clock; one that steps back counts as standing still. Not
/// thread-safe.
class sliding_windows {
public:
    static constexpr std::int64_t second = 1'000'000'000;
    static constexpr std::int64_t longest = 300 * second;

    /// The histogram stands so at `now`. An earlier state of it than it was told last adds nothing.
    void advance(std::int64_t now, histogram const& all) {
        now_ = std::max(now_, now);
        if (all.count() > last_.count()) {
            histogram since = all;
            since.subtract(last_);
            push(0, {now_, packed_histogram(since)});
            last_ = all;
        }
        pass_on();
    }

    /// What was recorded in the last `length`, up to the last `advance`.
    histogram last(std::int64_t length) const {
        histogram sum;
        for (auto const& level : levels_) {
            for (auto const& one : level) {
                if (one.until > now_ - length) one.what.add_to(sum);
            }
        }
        return sum;
    }

    std::size_t differences() const noexcept {
        return levels_[0].size() + levels_[1].size() + levels_[2].size();
    }

private:
    struct difference {
        std::int64_t until; // when the last of it was seen
        packed_histogram what;
    };

    static constexpr std::array<std::int64_t, 3> width{second, 10 * second, 60 * second};
    static constexpr std::array<std::int64_t, 3> kept{10 * second, 60 * second, longest};

    void push(std::size_t level, difference one) {
        auto& to = levels_[level];
        if (!to.empty() && to.back().until / width[level] == one.until / width[level]) {
            histogram sum;
            to.back().what.add_to(sum);
            one.what.add_to(sum);
            to.back() = {one.until, packed_histogram(sum)};
        } else {
            to.push_back(std::move(one));
        }
    }

    void pass_on() {
        for (std::size_t level = 0; level < levels_.size(); ++level) {
            auto& from = levels_[level];
            while (!from.empty() && from.front().until <= now_ - kept[level]) {
                if (level + 1 < levels_.size()) push(level + 1, std::move(from.front()));
                from.pop_front();
            }
        }
    }

    std::int64_t now_ = 0;
    histogram last_;
    std::array<std::deque<difference>, 3> levels_;
};

} // namespace core
TIDEGATE_END_NAMESPACE
