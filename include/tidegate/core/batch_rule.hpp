// SPDX-License-Identifier: BSL-1.0
// When to start a batch, and why it was closed. No I/O, no clock, no locks.
#pragma once

#include <tidegate/config.hpp>

#include <cstddef>
#include <optional>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// Why a batch took no more items.
enum class batch_reason {
    full,  ///< it has the largest size
    idle,  ///< an executor was idle: what was there had to do
    delay, ///< its oldest item had waited for the longest delay
    flush, ///< it was asked for, or nothing more will come
};
inline constexpr std::size_t batch_reasons = 4;

/// The rule of a batcher. With a longest delay of zero it is work-conserving: a batch starts as
/// soon as an executor is free, with what is there. With a delay, an incomplete batch waits until
/// its *oldest* item has waited that long; arrivals never postpone it.
template <class TimePoint>
class batch_rule {
public:
    using duration = typename TimePoint::duration;

    batch_rule(std::size_t max_size, duration max_delay) noexcept
        : max_size_(max_size), max_delay_(max_delay) {}

    std::size_t max_size() const noexcept { return max_size_; }
    duration max_delay() const noexcept { return max_delay_; }

    /// Why a batch should start now from `queued` items, the oldest of which arrived at `oldest`;
    /// nothing if it should wait.
    std::optional<batch_reason> close(std::size_t queued, TimePoint oldest, TimePoint now,
                                      bool flushing) const noexcept {
        if (queued == 0) return std::nullopt;
        if (queued >= max_size_) return batch_reason::full;
        if (flushing) return batch_reason::flush;
        if (max_delay_ <= duration::zero()) return batch_reason::idle;
        if (now - oldest >= max_delay_) return batch_reason::delay;
        return std::nullopt;
    }

    /// When to ask again if `close` said nothing: the time at which the oldest item is due.
    TimePoint due(TimePoint oldest) const noexcept {
        return max_delay_ > TimePoint::max() - oldest ? TimePoint::max() : oldest + max_delay_;
    }

private:
    std::size_t max_size_;
    duration max_delay_;
};

} // namespace core
TIDEGATE_END_NAMESPACE
