// SPDX-License-Identifier: BSL-1.0
#include "memory_job_queue.hpp"

#include <boost/asio/deferred.hpp>

#include <algorithm>
#include <utility>

namespace vision::service {

namespace asio = boost::asio;

memory_job_queue::memory_job_queue(asio::any_io_executor executor, memory_job_queue_options options)
    : executor_(executor), options_(options), work_(executor, options.max_queued) {}

auto memory_job_queue::run() -> awaitable<void> { co_return; }

std::size_t memory_job_queue::queued() const noexcept { return urgent_.size() + others_.size(); }

bool memory_job_queue::is_full() const { return queued() >= options_.max_queued; }

memory_job_queue::record* memory_job_queue::find_record(const std::string& id) {
    auto const it = jobs_.find(id);
    return it == jobs_.end() ? nullptr : &it->second;
}

memory_job_queue::record* memory_job_queue::running_record(const std::string& id) {
    record* const one = find_record(id);
    return one && one->state.state == job_state::running ? one : nullptr;
}

// For clients -------------------------------------------------------------------------------------

auto memory_job_queue::submit(job one, std::string idempotency_key) -> awaitable<submitted> {
    using enum submitted::outcome;
    if (!idempotency_key.empty()) {
        auto const it = by_idempotency_key_.find(idempotency_key);
        if (it != by_idempotency_key_.end()) {
            const job& earlier = find_record(it->second)->state;
            bool const same =
                earlier.content == one.content && earlier.options.text() == one.options.text();
            co_return submitted{same ? known : conflict, earlier};
        }
    }
    if (is_full()) co_return submitted{full, std::nullopt};
    if (ended_ > options_.max_remembered) forget_oldest();
    one.state = job_state::queued;
    one.created = job::clock::now();
    std::string const id = one.id;
    by_age_.push_back(id);
    record fresh;
    fresh.state = one;
    fresh.idempotency_key = idempotency_key;
    fresh.place = std::prev(by_age_.end());
    jobs_.emplace(id, std::move(fresh));
    if (!idempotency_key.empty()) by_idempotency_key_.emplace(std::move(idempotency_key), id);
    (one.options.urgent ? urgent_ : others_).push_back(id);
    work_.try_send('\0'); // no room: there is enough to wake every worker
    co_return submitted{accepted, std::move(one)};
}

auto memory_job_queue::find(std::string id) -> awaitable<std::optional<job>> {
    record const* const one = find_record(id);
    co_return one ? std::optional(one->state) : std::nullopt;
}

auto memory_job_queue::list(std::size_t most) -> awaitable<std::vector<job>> {
    std::vector<job> newest;
    for (auto it = by_age_.rbegin(); it != by_age_.rend() && newest.size() < most; ++it) {
        newest.push_back(find_record(*it)->state);
    }
    co_return newest;
}

auto memory_job_queue::cancel(std::string id) -> awaitable<std::optional<job>> {
    record* const one = find_record(id);
    if (!one) co_return std::nullopt;
    if (!is_final(one->state.state)) {
        if (one->state.state == job_state::queued) {
            std::erase(urgent_, id);
            std::erase(others_, id);
        }
        one->stop.request_stop();
        end(*one, job_state::cancelled);
    }
    co_return one->state;
}

auto memory_job_queue::watch(std::string id) -> awaitable<std::shared_ptr<job_watch>> {
    record* const one = find_record(id);
    if (!one) co_return nullptr;
    auto const latest_only = tidegate::channel_options<job_event>().capacity(1).mode(
        tidegate::channel_mode::drop_oldest);
    auto watcher = std::make_shared<job_watch>(executor_, latest_only);
    watcher->try_send({job_event::kind::snapshot, one->state});
    if (is_final(one->state.state)) watcher->close();
    else one->watchers.push_back(watcher);
    co_return watcher;
}

// For workers -------------------------------------------------------------------------------------

std::string memory_job_queue::next_in_line() {
    constexpr std::size_t most_in_a_row = 3;
    bool const take_urgent =
        !urgent_.empty() && (others_.empty() || urgent_in_a_row_ < most_in_a_row);
    urgent_in_a_row_ = take_urgent ? urgent_in_a_row_ + 1 : 0;
    auto& line = take_urgent ? urgent_ : others_;
    std::string id = std::move(line.front());
    line.pop_front();
    return id;
}

auto memory_job_queue::take() -> awaitable<taken_job> {
    do { // until one that was not cancelled since
        static_cast<void>(co_await work_.async_receive(asio::deferred));
        if (closed_) throw boost::system::system_error(tidegate::error::closed);
    } while (queued() == 0);
    record& one = *find_record(next_in_line());
    one.state.state = job_state::running;
    one.state.started = job::clock::now();
    ++one.state.attempt;
    ++running_;
    tell(one);
    // A job is taken once: it ends with the process.
    co_return taken_job{one.state, {one.state.id, one.state.attempt}, one.stop.get_token()};
}

auto memory_job_queue::report(job_lease held, job_progress progress) -> awaitable<bool> {
    record* const one = running_record(held.id);
    if (!one) co_return false;
    one->state.frames_done = progress.frames_done;
    one->state.frames_total = progress.frames_total;
    one->state.detections = progress.detections;
    one->state.frames_per_second = progress.frames_per_second;
    tell(*one);
    co_return true;
}

auto memory_job_queue::finish(job_lease held, job_end how) -> awaitable<job_outcome> {
    record* const one = running_record(held.id);
    if (!one) co_return job_outcome::ended; // cancelled
    one->state.problem = std::move(how.problem);
    one->state.warnings = std::move(how.warnings);
    one->state.result = std::move(how.result);
    end(*one, how.state);
    co_return job_outcome::ended;
}

auto memory_job_queue::give_back(job_lease held) -> awaitable<job_outcome> {
    if (record* const one = running_record(held.id)) end(*one, job_state::cancelled);
    co_return job_outcome::ended;
}

void memory_job_queue::close() {
    closed_ = true;
    work_.close();
}

// Changes -----------------------------------------------------------------------------------------

void memory_job_queue::tell(record& one) {
    ++one.state.version;
    auto const what = is_final(one.state.state) ? job_event::kind::end : job_event::kind::progress;
    std::erase_if(one.watchers, [&](const std::weak_ptr<job_watch>& weak) {
        auto const watcher = weak.lock();
        if (!watcher) return true;
        watcher->try_send({what, one.state});
        if (what == job_event::kind::end) watcher->close();
        return what == job_event::kind::end;
    });
}

void memory_job_queue::end(record& one, job_state how) {
    if (one.state.state == job_state::running) --running_;
    one.state.state = how;
    one.state.ended = job::clock::now();
    ++ended_;
    tell(one);
}

void memory_job_queue::forget_oldest() {
    for (auto it = by_age_.begin(); it != by_age_.end(); ++it) {
        auto const found = jobs_.find(*it);
        if (!is_final(found->second.state.state)) continue;
        by_idempotency_key_.erase(found->second.idempotency_key);
        jobs_.erase(found);
        by_age_.erase(it);
        --ended_;
        return;
    }
}

} // namespace vision::service
