// SPDX-License-Identifier: BSL-1.0
// A line of things that other containers own.
#pragma once

#include <tidegate/config.hpp>

#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// What waits in line derives from it, and leaves the line when it is destroyed; one of its own is
/// the line's end. Every call is O(1); nothing allocates. An assignment moves nothing in the line.
class place_in_line {
public:
    place_in_line() = default;
    place_in_line& operator=(place_in_line&&) noexcept { return *this; }
    ~place_in_line() { leave(); }

    void join(place_in_line& line) noexcept {
        leave();
        after_ = &line;
        before_ = std::exchange(line.before_, this);
        before_->after_ = this;
    }
    void leave() noexcept {
        before_->after_ = after_;
        after_->before_ = before_;
        before_ = after_ = this;
    }
    /// Who is next; of the line's end, who is first, and the end itself if there is nobody.
    place_in_line& next() const noexcept { return *after_; }

private:
    place_in_line* before_ = this;
    place_in_line* after_ = this;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
