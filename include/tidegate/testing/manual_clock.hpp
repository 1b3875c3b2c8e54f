// SPDX-License-Identifier: BSL-1.0
// A clock that stands still until a test moves it.
#pragma once

#include <tidegate/config.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace testing {

/// A clock for tests and simulations. A primitive that takes a `Clock` parameter waits on it
/// without any real time passing:
///
///     using semaphore = tidegate::basic_semaphore<testing::manual_clock>;
///     ...
///     testing::manual_clock::advance(5s);   // completes every wait that is due, in order of time
///     context.poll();                       // runs their handlers
///
/// Each `Tag` is a clock of its own. Thread-safe; completions are posted, never run by `advance`.
/// Include `tidegate/testing/manual_timer.hpp` to let primitives wait on it.
template <class Tag>
class basic_manual_clock {
public:
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<basic_manual_clock>;
    static constexpr bool is_steady = true;

    static time_point now() noexcept {
        std::lock_guard lock(shared().mutex);
        return shared().now;
    }

    /// Moves on by `by`, stopping at every expiry on the way; not back.
    static void advance(duration by) { advance_to(now() + by); }

    /// Moves on to `to`; no effect when that is past.
    static void advance_to(time_point to) {
        while (std::shared_ptr<alarm> due = next_due(to)) due->ring();
        std::lock_guard lock(shared().mutex);
        shared().now = std::max(shared().now, to);
    }

    /// As `advance_to`, but also back, where nothing expires: for tests of clocks that misbehave.
    static void set(time_point to) {
        advance_to(to);
        std::lock_guard lock(shared().mutex);
        shared().now = to;
    }

    /// The earliest expiry that somebody waits for.
    static std::optional<time_point> next_expiry() {
        std::lock_guard lock(shared().mutex);
        if (shared().alarms.empty()) return std::nullopt;
        return shared().alarms.begin()->first.first;
    }

    /// Jumps to the earliest expiry that somebody waits for; false if nobody waits.
    static bool advance_to_next() {
        auto const next = next_expiry();
        if (next) advance_to(*next);
        return next.has_value();
    }

    /// How many timers somebody waits on.
    static std::size_t pending() noexcept {
        std::lock_guard lock(shared().mutex);
        return shared().alarms.size();
    }

    /// Something that wants to know when a time is reached.
    class alarm {
    public:
        /// The time has come; called with no lock held.
        virtual void ring() noexcept = 0;

    protected:
        ~alarm() = default;
    };

    /// Names a set alarm.
    using alarm_id = std::pair<time_point, std::uint64_t>;

    static alarm_id set_alarm(time_point at, std::weak_ptr<alarm> who) {
        std::lock_guard lock(shared().mutex);
        alarm_id const id{at, ++shared().alarms_ever};
        shared().alarms.emplace(id, std::move(who));
        return id;
    }

    static void unset_alarm(alarm_id id) noexcept {
        std::lock_guard lock(shared().mutex);
        shared().alarms.erase(id);
    }

private:
    struct state {
        std::mutex mutex;
        time_point now{std::chrono::hours(1)};
        std::uint64_t alarms_ever = 0;
        std::map<alarm_id, std::weak_ptr<alarm>> alarms; // equal times in the order they were set
    };

    static state& shared() {
        static state instance;
        return instance;
    }

    static std::shared_ptr<alarm> next_due(time_point to) {
        std::lock_guard lock(shared().mutex);
        auto& alarms = shared().alarms;
        while (!alarms.empty() && alarms.begin()->first.first <= to) {
            shared().now = std::max(shared().now, alarms.begin()->first.first);
            std::shared_ptr<alarm> due = alarms.begin()->second.lock();
            alarms.erase(alarms.begin());
            if (due) return due;
        }
        return nullptr;
    }
};

struct default_manual_clock_tag;
using manual_clock = basic_manual_clock<default_manual_clock_tag>;

} // namespace testing
TIDEGATE_END_NAMESPACE
