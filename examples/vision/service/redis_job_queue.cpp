// SPDX-License-Identifier: BSL-1.0
#include "redis_job_queue.hpp"

#include "redis_job_scripts.hpp"

#include <tidegate/error.hpp>
#include <tidegate/redis/keep_connected.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/ip/host_name.hpp>
#include <boost/redis/response.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <utility>

#include <unistd.h>

namespace vision::service {

namespace asio = boost::asio;
namespace scripts = redis_scripts;
using namespace asio::experimental::awaitable_operators;
using namespace std::chrono_literals;

namespace {

constexpr auto pause_without_redis = 250ms;
constexpr std::chrono::milliseconds longest_read = 1s; // closing waits for it

std::string text(std::chrono::milliseconds time) { return std::to_string(time.count()); }

std::string make_consumer_name() {
    boost::system::error_code ec;
    std::string const host = asio::ip::host_name(ec);
    return fmt::format("{}:{}:{}", host, ::getpid(), make_job_id());
}

// What was said, without its structure.
std::vector<std::string> leaves(boost::redis::generic_response& said) {
    std::vector<std::string> all;
    for (auto& node : said.value()) {
        if (!boost::redis::resp3::is_aggregate(node.data_type)) {
            all.push_back(std::move(node.value));
        }
    }
    return all;
}

std::vector<std::string> joined(std::vector<std::string> one, std::vector<std::string> other) {
    std::ranges::move(other, std::back_inserter(one));
    return one;
}

} // namespace

redis_job_queue::redis_job_queue(asio::any_io_executor executor, boost::redis::config server,
                                 redis_job_queue_options options)
    : options_(std::move(options)),
      server_(std::move(server)),
      consumer_(make_consumer_name()),
      redis_(std::make_shared<boost::redis::connection>(executor)),
      reading_(std::make_shared<boost::redis::connection>(executor)),
      one_reads_(executor, 1),
      random_(std::random_device()()) {}

redis_job_queue::~redis_job_queue() = default;

bool redis_job_queue::is_full() const { return queued_ >= options_.max_queued; }

void redis_job_queue::close() {
    closed_ = true;
    one_reads_.close();
    give_up_at_ = steady::now() + options_.lease;
}

auto redis_job_queue::run() -> awaitable<void> {
    auto main = tidegate::redis::keep_connected(redis_, server_);
    auto reading = tidegate::redis::keep_connected(reading_, server_);
    auto beating = keep_beating();
    co_await (std::move(main) && std::move(reading) && std::move(beating));
}

// Asking ------------------------------------------------------------------------------------------

// It is not cancelled: Boost.Redis would close the connection under everybody else's requests.
auto redis_job_queue::ask(connection where, std::shared_ptr<boost::redis::request> what)
    -> awaitable<strings> {
    what->get_config().cancel_if_not_connected = true;
    auto const said = std::make_shared<boost::redis::generic_response>();
    auto asking = where->async_exec(*what, *said, asio::as_tuple(asio::deferred));
    auto const ended = co_await std::move(asking);
    auto const ec = std::get<0>(ended);
    if (ec || said->has_error()) {
        if (where == redis_) reachable_ = false;
        throw queue_unreachable(ec ? "Redis: " + ec.message()
                                   : "Redis: " + said->error().diagnostic);
    }
    if (where == redis_) note_answer();
    co_return leaves(*said);
}

// As text each time, so that a Redis that began anew, or another one, knows it: some kilobytes.
auto redis_job_queue::call(const std::string& script, strings arguments) -> awaitable<strings> {
    strings words{script, "1", "{" + options_.name + "}"};
    auto const request = std::make_shared<boost::redis::request>();
    request->push_range("EVAL", joined(std::move(words), std::move(arguments)));
    return ask(redis_, request);
}

// For what must not be forgotten because Redis is away. All of these may be asked twice.
auto redis_job_queue::call_until_answered(const std::string& script, strings arguments)
    -> awaitable<strings> {
    for (;;) {
        try {
            auto calling = call(script, arguments);
            co_return co_await std::move(calling);
        } catch (const queue_unreachable&) {
            if (steady::now() > give_up_at_) throw;
        }
        auto pausing = tidegate::sleep_for(pause_without_redis);
        co_await std::move(pausing);
    }
}

void redis_job_queue::note_answer() {
    if (std::exchange(reachable_, true)) return;
    reachable_since_ = steady::now();
    renewed_ = {}; // leases first of all
}

// To a Redis that was away, everybody is late: whoever lives has the time to say so.
bool redis_job_queue::may_claim() const {
    return reachable_ && steady::now() - reachable_since_ >= options_.lease / 3;
}

job redis_job_queue::read(const strings& from, std::size_t first, std::size_t last) const {
    job one = read_record(std::span(from).subspan(first, last - first)).what;
    one.source = options_.uploads / one.id;
    return one;
}

std::vector<job> redis_job_queue::read_all(const strings& said) const {
    std::vector<job> all;
    for (std::size_t i = 0; i + 1 < said.size();) {
        std::size_t const fields = std::stoul(said[i + 1]);
        if (fields > 0) all.push_back(read(said, i + 2, i + 2 + fields));
        i += 2 + fields;
    }
    return all;
}

// For clients -------------------------------------------------------------------------------------

auto redis_job_queue::submit(job one, std::string idempotency_key) -> awaitable<submitted> {
    using enum submitted::outcome;
    auto arguments =
        joined({one.id, idempotency_key, std::to_string(options_.max_queued)}, fields_of(one));
    auto calling = call(scripts::submit, std::move(arguments));
    strings const said = co_await std::move(calling);
    std::optional<job> entry;
    if (said.size() > 1) entry = read(said, 1, said.size());
    auto const what = said.at(0) == "full"       ? full
                      : said.at(0) == "known"    ? known
                      : said.at(0) == "conflict" ? conflict
                                                 : accepted;
    if (what == accepted) ++queued_; // until Redis is asked
    co_return submitted{what, std::move(entry)};
}

auto redis_job_queue::find(std::string id) -> awaitable<std::optional<job>> {
    auto calling = call(scripts::look, {std::move(id), "0"});
    strings const said = co_await std::move(calling);
    auto found = read_all(said);
    if (found.empty()) co_return std::nullopt;
    co_return std::move(found.front());
}

auto redis_job_queue::list(std::size_t most) -> awaitable<std::vector<job>> {
    auto calling = call(scripts::list, {std::to_string(most)});
    strings const said = co_await std::move(calling);
    co_return read_all(said);
}

auto redis_job_queue::cancel(std::string id) -> awaitable<std::optional<job>> {
    auto calling = call(scripts::cancel, {id, text(options_.keep)});
    strings const said = co_await std::move(calling);
    if (said.at(0) == "none") co_return std::nullopt;
    job now = read(said, 1, said.size());
    for (const auto& one : held_) { // ours need not wait for a beat
        if (one->lease.id == id && now.state == job_state::cancelled) one->stop.request_stop();
    }
    co_return now;
}

auto redis_job_queue::watch(std::string id) -> awaitable<std::shared_ptr<job_watch>> {
    auto finding = find(id);
    auto const now = co_await std::move(finding);
    if (!now) co_return nullptr;
    auto const latest_only = tidegate::channel_options<job_event>().capacity(1).mode(
        tidegate::channel_mode::drop_oldest);
    auto watcher = std::make_shared<job_watch>(redis_->get_executor(), latest_only);
    watcher->try_send({job_event::kind::snapshot, *now});
    if (is_final(now->state)) {
        watcher->close();
        co_return watcher;
    }
    watched& entry = watched_[id];
    if (entry.version == 0) entry.version = now->version;
    entry.watchers.push_back(watcher);
    co_return watcher;
}

auto redis_job_queue::are_needed(std::vector<std::string> names) -> awaitable<std::vector<bool>> {
    auto calling = call(scripts::needed, std::move(names));
    strings const said = co_await std::move(calling);
    std::vector<bool> needed;
    for (const std::string& each : said) needed.push_back(each == "1");
    co_return needed;
}

auto redis_job_queue::tidy() -> awaitable<void> {
    auto calling = call(scripts::tidy, {});
    static_cast<void>(co_await std::move(calling));
}

// Taking ------------------------------------------------------------------------------------------

auto redis_job_queue::take() -> awaitable<taken_job> {
    auto const turn = co_await one_reads_.acquire(); // throws error::closed
    while (!closed_) {
        bool unreachable = false;
        try {
            auto trying = try_to_take();
            auto taken = co_await std::move(trying);
            if (taken) co_return std::move(*taken);
        } catch (const queue_unreachable&) {
            unreachable = true;
        }
        if (!unreachable) continue;
        auto pausing = tidegate::sleep_for(pause_without_redis);
        co_await std::move(pausing);
    }
    throw boost::system::system_error(tidegate::error::closed);
}

auto redis_job_queue::try_to_take() -> awaitable<std::optional<taken_job>> {
    auto looking = take_what_is_there();
    auto taken = co_await std::move(looking);
    if (taken || closed_) co_return std::move(taken);
    auto waiting = wait_for_entries();
    auto delivered = co_await std::move(waiting);
    auto beginning = begin(std::move(delivered));
    co_return co_await std::move(beginning);
}

// What is due, whose worker is gone, or next in line.
auto redis_job_queue::take_what_is_there() -> awaitable<std::optional<taken_job>> {
    constexpr std::size_t most_in_a_row = 3;
    auto calling = call(scripts::take, {consumer_, urgent_in_a_row_ >= most_in_a_row ? "1" : "0",
                                        may_claim() ? text(options_.lease) : "0",
                                        std::to_string(options_.max_crashes), text(options_.keep)});
    strings const said = co_await std::move(calling);
    if (said.at(0) == "none") co_return std::nullopt;
    co_return hold(said);
}

// Nothing is there: Redis says when something is, or nothing for a second.
auto redis_job_queue::wait_for_entries() -> awaitable<std::vector<stream_entry>> {
    std::string const name = "{" + options_.name + "}:";
    auto const request = std::make_shared<boost::redis::request>();
    request->push("XREADGROUP", "GROUP", "workers", consumer_, "COUNT", "1", "BLOCK",
                  text(std::min(longest_read, options_.lease / 3)), "STREAMS", name + "urgent",
                  name + "jobs", ">", ">");
    auto asking = ask(reading_, request);
    strings const said = co_await std::move(asking);
    std::vector<stream_entry> delivered; // of each stream: its name, and an entry with one field
    for (std::size_t i = 0; i + 3 < said.size(); i += 4) {
        delivered.push_back({said[i], said[i + 1], said[i + 3]});
    }
    co_return delivered;
}

// One of them; there is a worker for no more, and none for any of them after `close`.
auto redis_job_queue::begin(std::vector<stream_entry> delivered)
    -> awaitable<std::optional<taken_job>> {
    std::optional<taken_job> taken;
    for (const stream_entry& one : delivered) {
        bool const put_back = taken || closed_;
        auto calling =
            call_until_answered(scripts::begin, {consumer_, one.stream, one.id, one.job,
                                                 std::to_string(options_.max_crashes),
                                                 text(options_.keep), put_back ? "1" : "0"});
        strings const said = co_await std::move(calling);
        if (said.at(0) == "taken") taken = hold(said);
    }
    co_return taken;
}

taken_job redis_job_queue::hold(const strings& said) {
    auto record = read_record(std::span(said).subspan(1));
    record.what.source = options_.uploads / record.what.id;
    urgent_in_a_row_ = record.what.options.urgent ? urgent_in_a_row_ + 1 : 0;
    auto const held = std::make_shared<holding>();
    held->lease = {record.what.id, record.fence};
    held_.push_back(held);
    return {std::move(record.what), held->lease, held->stop.get_token()};
}

void redis_job_queue::let_go(const job_lease& held) {
    std::erase_if(held_, [&](const auto& one) {
        return one->lease.id == held.id && one->lease.fence == held.fence;
    });
}

// Working -----------------------------------------------------------------------------------------

auto redis_job_queue::report(job_lease held, job_progress progress) -> awaitable<bool> {
    auto arguments = joined({held.id, std::to_string(held.fence)}, fields_of(progress));
    try {
        auto calling = call(scripts::report, std::move(arguments));
        strings const said = co_await std::move(calling);
        co_return said.at(0).empty();
    } catch (const queue_unreachable&) {
        // The next one says more.
    }
    co_return true;
}

auto redis_job_queue::end_holding(job_lease held, const std::string& script, strings arguments)
    -> awaitable<job_outcome> {
    auto outcome = job_outcome::lost;
    try {
        auto calling = call_until_answered(script, std::move(arguments));
        strings const said = co_await std::move(calling);
        if (said.at(0) == "ended") outcome = job_outcome::ended;
        if (said.at(0) == "again") outcome = job_outcome::again;
    } catch (const queue_unreachable&) {
        // The lease runs out, and another worker takes the job.
    }
    let_go(held);
    co_return outcome;
}

auto redis_job_queue::finish(job_lease held, job_end end) -> awaitable<job_outcome> {
    strings const lease{held.id, std::to_string(held.fence)};
    if (!end.transient) {
        auto arguments = joined(
            joined(lease, {std::string(to_string(end.state)), text(options_.keep), end.result}),
            fields_of(end));
        return end_holding(std::move(held), scripts::finish, std::move(arguments));
    }
    job_problem const why = end.problem.value_or(job_problem{"other", "unknown"});
    std::uniform_real_distribution<double> any(0.5, 1);
    auto arguments =
        joined(joined(lease, {std::to_string(options_.max_errors), text(options_.keep),
                              text(options_.backoff), text(options_.longest_backoff),
                              fmt::format("{:.3f}", any(random_)), why.reason, why.detail}),
               fields_of(end));
    return end_holding(std::move(held), scripts::retry, std::move(arguments));
}

auto redis_job_queue::give_back(job_lease held) -> awaitable<job_outcome> {
    strings arguments{held.id, std::to_string(held.fence)};
    return end_holding(std::move(held), scripts::give_back, std::move(arguments));
}

// Beating -----------------------------------------------------------------------------------------

auto redis_job_queue::keep_beating() -> awaitable<void> {
    for (;;) {
        try {
            auto renewing = renew_leases();
            co_await std::move(renewing);
            auto looking = look_at_watched();
            co_await std::move(looking);
        } catch (const queue_unreachable&) {
            // Jobs go on: while Redis is away, nobody else can take them.
        }
        auto pausing = tidegate::sleep_for(options_.beat);
        co_await std::move(pausing);
    }
}

auto redis_job_queue::renew_leases() -> awaitable<void> {
    auto const begun = steady::now();
    bool const renews = begun - renewed_ >= options_.lease / 3;
    strings arguments{consumer_, renews ? "1" : "0"};
    auto const asked = held_;
    for (const auto& one : asked) {
        arguments.push_back(one->lease.id);
        arguments.push_back(std::to_string(one->lease.fence));
    }
    auto calling = call(scripts::beat, std::move(arguments));
    strings const said = co_await std::move(calling);
    queued_ = std::stoul(said.at(0));
    running_ = std::stoul(said.at(1));
    for (std::size_t i = 0; i < asked.size(); ++i) {
        if (!said.at(i + 2).empty()) asked[i]->stop.request_stop();
    }
    if (renews) renewed_ = begun;
}

auto redis_job_queue::look_at_watched() -> awaitable<void> {
    strings arguments;
    for (auto it = watched_.begin(); it != watched_.end();) {
        std::erase_if(it->second.watchers, [](const auto& one) { return one.expired(); });
        if (it->second.watchers.empty()) {
            it = watched_.erase(it);
            continue;
        }
        arguments.push_back(it->first);
        arguments.push_back(std::to_string(it->second.version));
        ++it;
    }
    if (arguments.empty()) co_return;
    auto calling = call(scripts::look, std::move(arguments));
    strings const said = co_await std::move(calling);
    for (std::size_t i = 0; i + 1 < said.size();) {
        std::size_t const fields = std::stoul(said[i + 1]);
        if (fields > 0) tell(read(said, i + 2, i + 2 + fields));
        else stop_telling(said[i]); // Redis has lost it
        i += 2 + fields;
    }
}

void redis_job_queue::stop_telling(const std::string& id) {
    auto const it = watched_.find(id);
    if (it == watched_.end()) return;
    for (const auto& weak : it->second.watchers) {
        if (auto const watcher = weak.lock()) watcher->close();
    }
    watched_.erase(it);
}

void redis_job_queue::tell(const job& now) {
    auto const it = watched_.find(now.id);
    if (it == watched_.end()) return;
    it->second.version = now.version;
    bool const over = is_final(now.state);
    auto const what = over ? job_event::kind::end : job_event::kind::progress;
    for (const auto& weak : it->second.watchers) {
        if (auto const watcher = weak.lock()) watcher->try_send({what, now});
    }
    if (over) stop_telling(now.id);
}

} // namespace vision::service
