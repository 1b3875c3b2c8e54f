// SPDX-License-Identifier: BSL-1.0
// Where jobs wait for a worker, and what is known of them: the seam between the service in one
// process and the same service spread over many.
#pragma once

#include "job.hpp"

#include <tidegate/channel.hpp>

#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace vision::service {

// What a watcher is told. Progress replaces progress that was not fetched yet; the last event of a
// job comes always.
struct job_event {
    enum class kind { snapshot, progress, end };
    kind what = kind::snapshot;
    job state;
};

// The latest event, at most: who is slow misses steps, and costs no memory. Closed after the last.
using job_watch = tidegate::channel<job_event>;

// By which a worker holds a job. Each taking of a job has a lease of its own: who has lost it may
// say nothing more of the job, even if the same worker has taken it again.
struct job_lease {
    std::string id; // the job's
    std::uint64_t fence = 0;
};

// A job that a worker has taken. `stop` is asked to stop when a client cancels the job, and when
// another worker has it by now.
struct taken_job {
    job what;
    job_lease lease;
    std::stop_token stop;
};

// What a worker tells while it works.
struct job_progress {
    std::int64_t frames_done = 0;
    std::optional<std::int64_t> frames_total;
    std::int64_t detections = 0;
    double frames_per_second = 0;
};

// How a job ended.
struct job_end {
    job_state state = job_state::failed;
    std::optional<job_problem> problem; // if it failed
    std::vector<std::string> warnings;
    std::string result;     // if it succeeded
    bool transient = false; // it failed, and may go better another time
};

// What became of a job that a worker let go of.
enum class job_outcome {
    ended, // for good: as the worker says, or by a client's cancel before
    again, // it waits for another attempt
    lost,  // it is not this worker's any more, and what it did was for nothing
};

// The queue cannot be asked now. It may have done what it was asked for.
class queue_unreachable : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

struct submitted {
    enum class outcome {
        accepted,
        known,    // a job of that idempotency key and content exists
        conflict, // a job of that idempotency key with another content or other options
        full,
    };
    outcome what = outcome::accepted;
    std::optional<job> entry; // accepted or known
};

class job_queue {
public:
    template <class T>
    using awaitable = boost::asio::awaitable<T>;

    job_queue() = default;
    job_queue(const job_queue&) = delete;
    job_queue& operator=(const job_queue&) = delete;
    virtual ~job_queue() = default;

    // What it does besides, until it is cancelled.
    virtual awaitable<void> run() = 0;

    // Those that wait and those under way, in all processes, as far as this one has heard.
    [[nodiscard]] virtual std::size_t queued() const noexcept = 0;
    [[nodiscard]] virtual std::size_t running() const noexcept = 0;
    [[nodiscard]] virtual bool is_reachable() const noexcept = 0;

    // For the HTTP side: throw queue_unreachable --------------------------------------------------

    // Whether a job would be accepted now. To be asked before an upload is read.
    virtual bool is_full() const = 0;
    // `idempotency_key` may be empty.
    virtual awaitable<submitted> submit(job one, std::string idempotency_key) = 0;
    virtual awaitable<std::optional<job>> find(std::string id) = 0;
    // The newest first.
    virtual awaitable<std::vector<job>> list(std::size_t most) = 0;
    // Nothing if there is no such job, else what it is now. One that has ended stays as it is.
    virtual awaitable<std::optional<job>> cancel(std::string id) = 0;
    // The first event is a snapshot. Null if there is no such job.
    virtual awaitable<std::shared_ptr<job_watch>> watch(std::string id) = 0;

    // For workers: wait until the queue can be asked ----------------------------------------------

    // The next job, once there is one. Throws error::closed after `close`.
    virtual awaitable<taken_job> take() = 0;
    // False: the job is not this worker's any more, and what it does is for nothing.
    virtual awaitable<bool> report(job_lease held, job_progress progress) = 0;
    virtual awaitable<job_outcome> finish(job_lease held, job_end end) = 0;
    // The process ends before the job does: another one gets it, now or when it is started, and no
    // attempt is counted. Where jobs are not kept it is cancelled.
    virtual awaitable<job_outcome> give_back(job_lease held) = 0;

    // Nobody gets a job any more; what waits stays queued.
    virtual void close() = 0;
};

} // namespace vision::service
