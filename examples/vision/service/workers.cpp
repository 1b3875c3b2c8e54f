// SPDX-License-Identifier: BSL-1.0
#include "workers.hpp"

#include "error.hpp"

#include <tidegate/error.hpp>
#include <tidegate/task_scope.hpp>

#include <boost/json/value.hpp>

namespace vision::service {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {

using progress_ptr = std::shared_ptr<analyses::progress_channel>;

// Tells the queue as often as it listens: it gets the latest, however slow it is.
asio::awaitable<void> pass_on(job_queue& jobs, job_lease held, progress_ptr from,
                              const tidegate::task_context& self) {
    while (auto latest = co_await from->receive()) {
        self.progress(static_cast<double>(latest->frames_done),
                      static_cast<double>(latest->frames_total.value_or(0)));
        auto reporting = jobs.report(held, *latest);
        if (!co_await std::move(reporting)) co_return;
    }
}

enum class failure { stays, may_pass };

job_end failed(const char* reason, failure how, const job& one) {
    job_end end;
    end.transient = how == failure::may_pass;
    end.state = job_state::failed;
    end.problem = job_problem{reason, "unknown"};
    try {
        throw;
    } catch (const std::exception& e) {
        end.problem->detail = e.what();
        hide_path(end.problem->detail, one.source);
    }
    return end;
}

// Nothing: it was stopped.
std::optional<job_end> how_it_failed(const job& one, const std::stop_token& stop) {
    try {
        throw;
    } catch (const source_error&) {
        return failed("decode", failure::stays, one);
    } catch (const output_error&) {
        return failed("disk", failure::may_pass, one);
    } catch (const run_stopped&) {
        return std::nullopt;
    } catch (const error&) {
        return failed("backend", failure::may_pass, one);
    } catch (const boost::system::system_error&) {
        if (stop.stop_requested()) return std::nullopt;
        return failed("other", failure::may_pass, one);
    } catch (const std::exception&) {
        return failed("other", failure::may_pass, one);
    }
}

// The channel is closed on every way out, which ends `pass_on` once the last progress is told.
struct close_at_exit {
    progress_ptr progress;
    ~close_at_exit() { progress->close(); }
};

asio::awaitable<std::optional<job_end>> see_to(analyses& results, taken_job taken,
                                               std::shared_ptr<kept_upload> upload,
                                               progress_ptr progress) {
    close_at_exit const at_exit{progress};
    try {
        auto getting = results.get(taken.what, upload, taken.stop, progress);
        auto const result = co_await std::move(getting);
        progress->try_send(result->last);
        co_return job_end{job_state::succeeded, {}, result->warnings, results.key(taken.what)};
    } catch (...) {
        co_return how_it_failed(taken.what, taken.stop);
    }
}

asio::awaitable<std::optional<job_end>> run(job_queue& jobs, analyses& results, taken_job taken,
                                            std::shared_ptr<kept_upload> upload,
                                            const tidegate::task_context& self) {
    auto const latest_only = tidegate::channel_options<job_progress>().capacity(1).mode(
        tidegate::channel_mode::drop_oldest);
    auto const progress = std::make_shared<analyses::progress_channel>(
        co_await asio::this_coro::executor, latest_only);
    auto body = [&](tidegate::task_scope& scope) {
        scope.spawn([&jobs, held = taken.lease, progress, &self] {
            return pass_on(jobs, held, progress, self);
        });
        return see_to(results, taken, upload, progress);
    };
    auto running = tidegate::with_scope(std::ref(body));
    co_return co_await std::move(running);
}

asio::awaitable<job_outcome> let_go(job_queue& jobs, job_lease held, std::optional<job_end> end) {
    return end ? jobs.finish(std::move(held), std::move(*end)) : jobs.give_back(std::move(held));
}

asio::awaitable<void> see_through(job_queue& jobs, analyses& results, taken_job taken,
                                  job_listener ended, const tidegate::task_context& self) {
    auto const upload = results.keep_upload(taken.what);
    auto running = run(jobs, results, taken, upload, self);
    auto const end = co_await std::move(running);
    auto leaving = let_go(jobs, taken.lease, end);
    auto const outcome = co_await std::move(leaving);
    if (outcome == job_outcome::ended) upload->discard();
    job_end const stopped{job_state::cancelled, {}, {}, {}};
    // A client was quicker: what the run came to is not what the job came to.
    bool const cancelled = outcome == job_outcome::ended && taken.stop.stop_requested();
    ended(taken.what, cancelled ? stopped : end.value_or(stopped), outcome);
}

} // namespace

json::array describe(const jobs_under_way& all) {
    json::array described;
    for (auto const& one : all.list()) {
        if (has_ended(one.state)) continue;
        auto const total = static_cast<std::int64_t>(one.progress_of);
        described.push_back({{"job", one.name},
                             {"frames", static_cast<std::int64_t>(one.progress)},
                             {"frames_total", total > 0 ? json::value(total) : json::value()}});
    }
    return described;
}

asio::awaitable<void> work(job_queue& jobs, analyses& results, jobs_under_way& under_way,
                           job_listener ended) {
    for (;;) {
        std::optional<taken_job> taken;
        try {
            auto taking = jobs.take();
            taken = co_await std::move(taking);
        } catch (const boost::system::system_error& e) {
            if (e.code() == tidegate::error::closed) co_return;
            throw;
        }
        std::string id = taken->what.id;
        auto see = [&jobs, &results, ended, taken = *std::move(taken)](auto& self) {
            return see_through(jobs, results, taken, ended, self);
        };
        auto const task = under_way.spawn(std::move(id), std::move(see));
        auto ending = under_way.wait(task);
        static_cast<void>(co_await std::move(ending));
    }
}

} // namespace vision::service
