// SPDX-License-Identifier: BSL-1.0
#include "memory_job_queue.hpp"

#include "error.hpp"

#include <boost/asio/deferred.hpp>

#include <algorithm>
#include <utility>

namespace vision::service {

namespace asio = boost::asio;

memory_job_queue::memory_job_queue(asio::any_io_executor executor, memory_job_queue_options options,
                                   std::unique_ptr<job_history> history,
                                   std::function<void(const std::string&)> complain)
    : executor_(executor),
      options_(options),
      history_(std::move(history)),
      complain_(std::move(complain)),
      one_with_key_(executor, 1),
      work_(executor, options.max_queued) {}

auto memory_job_queue::run() -> awaitable<void> {
    auto const changed = std::exchange(to_save_, {});
    for (const std::string& id : changed) {
        auto saving = save_if_possible(id, false);
        co_await std::move(saving);
    }
}

std::size_t memory_job_queue::queued() const noexcept { return in_line() + arriving_; }

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
    std::optional<tidegate::semaphore::permit> turn;
    if (!idempotency_key.empty()) {
        turn.emplace(co_await one_with_key_.acquire());
        auto const it = by_idempotency_key_.find(idempotency_key);
        if (it != by_idempotency_key_.end()) {
            const job& earlier = find_record(it->second)->state;
            bool const same =
                earlier.content == one.content && earlier.options.text() == one.options.text();
            co_return submitted{same ? known : conflict, earlier};
        }
    }
    if (is_full()) co_return submitted{full, std::nullopt};
    auto const forgotten = forget_old();
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
    ++arriving_;
    std::exception_ptr why;
    try {
        auto saving = save(id, true);
        co_await std::move(saving);
    } catch (...) {
        why = std::current_exception();
    }
    --arriving_;
    if (why) {
        if (find_record(id)) forget(id);
        std::rethrow_exception(why);
    }
    record const* const now = find_record(id); // it may have been cancelled, and forgotten
    if (now && now->state.state == job_state::queued) line_up(one);
    for (const std::string& each : forgotten) {
        auto saving = save_if_possible(each, false);
        co_await std::move(saving);
    }
    auto saving_rest = save_rest();
    co_await std::move(saving_rest);
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
        job const now = one->state;
        auto saving = save_if_possible(id, true);
        co_await std::move(saving);
        co_return now;
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
    else {
        std::erase_if(one->watchers, [](const auto& weak) { return weak.expired(); });
        one->watchers.push_back(watcher);
    }
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
    } while (in_line() == 0);
    record& one = *find_record(next_in_line());
    if (in_line() > 0) work_.try_send('\0'); // the line may be longer than work_
    one.state.state = job_state::running;
    one.state.started = job::clock::now();
    ++one.state.attempt;
    ++running_;
    tell(one);
    taken_job taken{one.state, {one.state.id, one.state.attempt}, one.stop.get_token()};
    auto saving = save_if_possible(taken.lease.id, false); // a crash is to be counted
    co_await std::move(saving);
    co_return taken;
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
    --running_;
    ++ended_;
    one->state.state = how.state;
    one->state.ended = job::clock::now();
    ++one->state.version;
    auto saving = save_if_possible(held.id, true);
    co_await std::move(saving);
    // Told last: who hears of it finds it counted and written.
    if (record* const now = find_record(held.id)) tell(*now);
    co_return job_outcome::ended;
}

auto memory_job_queue::give_back(job_lease held) -> awaitable<job_outcome> {
    record* const one = running_record(held.id);
    if (!one) co_return job_outcome::ended;
    if (!history_) {
        end(*one, job_state::cancelled);
        co_return job_outcome::ended;
    }
    --running_;
    --one->state.attempt;
    one->state.state = job_state::queued;
    tell(*one);
    line_up(one->state);
    auto saving = save_if_possible(held.id, true);
    co_await std::move(saving);
    co_return job_outcome::again;
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

void memory_job_queue::line_up(const job& one) {
    (one.options.urgent ? urgent_ : others_).push_back(one.id);
    work_.try_send('\0'); // no room: there is enough to wake every worker
}

void memory_job_queue::forget(const std::string& id) {
    auto const found = jobs_.find(id);
    auto const key = by_idempotency_key_.find(found->second.idempotency_key);
    if (key != by_idempotency_key_.end() && key->second == id) by_idempotency_key_.erase(key);
    by_age_.erase(found->second.place);
    if (is_final(found->second.state.state)) --ended_;
    jobs_.erase(found);
}

// What has ended and is too old, or one too many. Their files are still to be removed.
std::vector<std::string> memory_job_queue::forget_old() {
    std::vector<std::string> gone;
    auto const oldest = job::clock::now() - options_.keep;
    for (auto it = by_age_.begin(); it != by_age_.end();) {
        std::string const id = *it++;
        const job& one = find_record(id)->state;
        bool const too_old = is_final(one.state) && one.ended < oldest;
        bool const too_many = is_final(one.state) && ended_ > options_.max_remembered;
        if (too_old || too_many) {
            forget(id);
            gone.push_back(id);
        } else if (one.created > oldest && ended_ <= options_.max_remembered) {
            break;
        }
    }
    return gone;
}

// What is known from before -----------------------------------------------------------------------

void memory_job_queue::restore(std::vector<remembered_job> all) {
    for (remembered_job& each : all) {
        std::string const id = each.what.id;
        by_age_.push_back(id);
        if (!each.is_written) to_save_.push_back(id);
        record& one = jobs_[id];
        one.state = std::move(each.what);
        one.idempotency_key = std::move(each.idempotency_key);
        one.place = std::prev(by_age_.end());
        if (!one.idempotency_key.empty()) by_idempotency_key_[one.idempotency_key] = id;
        restore(one);
    }
    auto const forgotten = forget_old();
    to_save_.insert(to_save_.end(), forgotten.begin(), forgotten.end());
}

void memory_job_queue::restore(record& one) {
    if (is_final(one.state.state)) {
        ++ended_;
        return;
    }
    bool const crashed = one.state.state == job_state::running;
    one.state.state = job_state::queued;
    to_save_.push_back(one.state.id);
    std::error_code ec;
    if (crashed && one.state.attempt > options_.max_crashes) {
        one.state.problem = job_problem{"crash", "the processes that ran it died"};
    } else if (!std::filesystem::exists(one.state.source, ec)) {
        one.state.problem = job_problem{"disk", "the video is not there any more"};
    }
    if (one.state.problem) return end(one, job_state::failed);
    tell(one);
    line_up(one.state);
}

std::vector<job> memory_job_queue::open_jobs() const {
    std::vector<job> open;
    for (const auto& [id, one] : jobs_) {
        if (!is_final(one.state.state)) open.push_back(one.state);
    }
    return open;
}

auto memory_job_queue::save(std::string id, bool durable) -> awaitable<void> {
    if (!history_) co_return;
    auto now = [this, id]() -> std::optional<remembered_job> {
        record const* const one = find_record(id);
        if (!one) return std::nullopt;
        return remembered_job{one->state, one->idempotency_key};
    };
    auto saving = history_->save(id, std::move(now), durable);
    co_await std::move(saving);
}

auto memory_job_queue::save_if_possible(std::string id, bool durable) -> awaitable<void> {
    auto trying = try_to_save(std::move(id), durable);
    if (!co_await std::move(trying)) co_return;
    auto saving = save_rest();
    co_await std::move(saving);
}

auto memory_job_queue::try_to_save(std::string id, bool durable) -> awaitable<bool> {
    try {
        auto saving = save(id, durable);
        co_await std::move(saving);
        co_return true;
    } catch (const output_error& e) {
        std::erase(unsaved_, id); // once is enough
        unsaved_.push_back(id);
        if (complain_) complain_(e.what());
        co_return false;
    } catch (...) {
        unsaved_.push_back(id);
        throw;
    }
}

auto memory_job_queue::save_rest() -> awaitable<void> {
    for (std::size_t left = unsaved_.size(); left > 0 && !unsaved_.empty(); --left) {
        std::string id = std::move(unsaved_.front());
        unsaved_.pop_front();
        auto trying = try_to_save(std::move(id), true);
        static_cast<void>(co_await std::move(trying));
    }
}

} // namespace vision::service
