// SPDX-License-Identifier: BSL-1.0
// Trace hooks: what an observer hears of a primitive.
#pragma once

#include <tidegate/error.hpp>

#include <chrono>
#include <cstdint>
#include <string_view>

TIDEGATE_BEGIN_NAMESPACE

/// What happened. What `count`, `duration` and `error` of its record mean; where nothing is said,
/// `count` is 1, `duration` zero and `error` empty:
///
/// | event | count | duration | error |
/// | --- | --- | --- | --- |
/// | acquired | permits | that it waited | |
/// | rejected | permits asked for | that it waited; by a rate limit: until to come again | why |
/// | timed_out | permits asked for | that it waited | deadline_exceeded |
/// | cancelled | permits asked for | that it waited | operation_aborted |
/// | opened | trips since it last recovered | for how long | the failure that did it |
/// | retried | the attempt that failed | the pause that follows | its failure |
/// | gave_up | attempts made | | the last one's failure |
/// | hedged | the attempt that starts | the pause before it | |
/// | loaded, load_failed | | the load | why it failed |
/// | expired, evicted, removed, replaced | entries, of one call | | |
/// | dropped | | that it waited | dropped |
/// | job_started | | from its submission | |
/// | job_finished | | the run | what it threw |
/// | batch_started | items | | |
/// | batch_finished | items | the run | why all of them failed |
/// | created, destroyed | objects | of a connection: opening it | |
/// | limit_changed | the new limit | the latency that moved it | |
///
/// `count` is 1 where what is asked for has no number. A wait or a run that began before anybody
/// listened has a duration of zero where the primitive does not measure it for itself. A failure
/// that carries no code is `error::exception_thrown`. Which primitive tells what stands with its
/// `observe`, and in docs/primitives/trace.md.
enum class trace_event : std::uint8_t {
    /// Was let in, at once or after waiting.
    acquired,
    /// Was refused, at once or after waiting: `error` says why. A `try_acquire` that would have had
    /// to wait has `asio::error::would_block`; what waited for a primitive that was closed has
    /// `error::closed`.
    rejected,
    /// Its deadline passed.
    timed_out,
    /// It was cancelled by its slot or by `cancel()`.
    cancelled,
    /// A circuit breaker refuses calls from now on.
    opened,
    /// It lets a few through to see.
    half_opened,
    /// It lets calls through.
    closed,
    /// It lets calls through whatever comes of them (`disable`, `metrics_only`).
    disabled,
    /// An attempt failed, and there will be another.
    retried,
    /// An attempt failed, and there will be none.
    gave_up,
    /// No attempt has answered yet, and a further one starts beside them.
    hedged,
    /// A look-up found a value.
    hit,
    /// A look-up did not.
    missed,
    /// A load ended with a value, or with "there is none".
    loaded,
    /// A load failed, or took too long.
    load_failed,
    /// An entry's time was over.
    expired,
    /// An entry made room.
    evicted,
    /// An entry was invalidated.
    removed,
    /// An entry made way for a newer value of its key.
    replaced,
    /// A job, an item or a value made room for a newer one.
    dropped,
    /// A thread took a job.
    job_started,
    /// A job ended.
    job_finished,
    /// A batch was put together and runs now.
    batch_started,
    /// It ended.
    batch_finished,
    /// An object was made.
    created,
    /// An object was not fit for use again, was not needed any more, or its pool was closed.
    destroyed,
    /// An adaptive limiter lets more calls in, or fewer.
    limit_changed,
};

inline std::string_view to_string(trace_event e) noexcept {
    switch (e) {
    case trace_event::acquired: return "acquired";
    case trace_event::rejected: return "rejected";
    case trace_event::timed_out: return "timed_out";
    case trace_event::cancelled: return "cancelled";
    case trace_event::opened: return "opened";
    case trace_event::half_opened: return "half_opened";
    case trace_event::closed: return "closed";
    case trace_event::disabled: return "disabled";
    case trace_event::retried: return "retried";
    case trace_event::gave_up: return "gave_up";
    case trace_event::hedged: return "hedged";
    case trace_event::hit: return "hit";
    case trace_event::missed: return "missed";
    case trace_event::loaded: return "loaded";
    case trace_event::load_failed: return "load_failed";
    case trace_event::expired: return "expired";
    case trace_event::evicted: return "evicted";
    case trace_event::removed: return "removed";
    case trace_event::replaced: return "replaced";
    case trace_event::dropped: return "dropped";
    case trace_event::job_started: return "job_started";
    case trace_event::job_finished: return "job_finished";
    case trace_event::batch_started: return "batch_started";
    case trace_event::batch_finished: return "batch_finished";
    case trace_event::created: return "created";
    case trace_event::destroyed: return "destroyed";
    case trace_event::limit_changed: return "limit_changed";
    }
    return "unknown";
}

/// One thing that happened. The texts are valid as long as the call that hands them over.
struct trace_record {
    /// Its class: "semaphore", "cache".
    std::string_view primitive;
    /// What it was given when the observer was attached.
    std::string_view name;
    trace_event event;
    std::uint64_t count = 1;
    std::chrono::nanoseconds duration{0};
    error_code error;
};

/// Hears what primitives do: a log, spans of OpenTelemetry, a counter.
///
///     slots.observe(std::make_shared<log>(), "downloads");
///
/// `on_event` is called on the thread that does the thing, before a completion handler that hears
/// of it runs, with no lock held, once for each thing and each observer (the one attached last
/// first). Calls come from all threads that use the primitive, at the same time. It may ask the
/// primitive for its statistics. It may start operations and give permits back, too, but it runs in
/// the middle of a call of somebody's: what it does beyond taking a note, that caller pays for.
///
/// Observers may be attached at any time, from any thread; they stay, and are kept alive, until the
/// primitive and all that holds on to it (permits, waiting operations) have gone. What an observer
/// that was just attached missed, nobody tells it; operations destroyed with their execution
/// context are not told of.
///
/// Cost: while nobody listens, a load and a branch for each thing that could be told. With
/// TIDEGATE_NO_TRACE defined, in every source file of a program, nothing at all; `observe` then
/// throws std::logic_error.
class trace_observer {
public:
    virtual ~trace_observer() = default;

    virtual void on_event(trace_record const& what) noexcept = 0;
};

TIDEGATE_END_NAMESPACE
