// SPDX-License-Identifier: BSL-1.0
#include "workers.hpp"

#include "error.hpp"

#include <tidegate/error.hpp>
#include <tidegate/task_scope.hpp>

namespace vision::service {

namespace asio = boost::asio;

namespace {

using progress_ptr = std::shared_ptr<analyses::progress_channel>;

// Tells the queue as often as it listens: it gets the latest, however slow it is.
asio::awaitable<void> pass_on(job_queue& jobs, std::string id, progress_ptr from) {
    while (auto latest = co_await from->receive()) {
        auto reporting = jobs.report(id, *latest);
        if (!co_await std::move(reporting)) co_return;
    }
}

job_end failed(const char* reason, const job& one) {
    job_end end;
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

job_end how_it_failed(const job& one, const std::stop_token& stop) {
    try {
        throw;
    } catch (const source_error&) {
        return failed("decode", one);
    } catch (const output_error&) {
        return failed("disk", one);
    } catch (const run_stopped&) {
        return {job_state::cancelled, {}, {}, {}};
    } catch (const error&) {
        return failed("backend", one);
    } catch (const boost::system::system_error&) {
        if (stop.stop_requested()) return {job_state::cancelled, {}, {}, {}};
        return failed("other", one);
    } catch (const std::exception&) {
        return failed("other", one);
    }
}

// The channel is closed on every way out, which ends `pass_on` once the last progress is told.
struct close_at_exit {
    progress_ptr progress;
    ~close_at_exit() { progress->close(); }
};

asio::awaitable<job_end> see_to(analyses& results, taken_job taken, progress_ptr progress) {
    close_at_exit const at_exit{progress};
    try {
        auto getting = results.get(taken.what, taken.stop, progress);
        auto const result = co_await std::move(getting);
        progress->try_send(result->last);
        co_return job_end{job_state::succeeded, {}, result->warnings, results.key(taken.what)};
    } catch (...) {
        co_return how_it_failed(taken.what, taken.stop);
    }
}

asio::awaitable<job_end> run(job_queue& jobs, analyses& results, taken_job taken) {
    auto const latest_only = tidegate::channel_options<job_progress>().capacity(1).mode(
        tidegate::channel_mode::drop_oldest);
    auto const progress = std::make_shared<analyses::progress_channel>(
        co_await asio::this_coro::executor, latest_only);
    auto body = [&](tidegate::task_scope& scope) {
        scope.spawn([&jobs, id = taken.what.id, progress] { return pass_on(jobs, id, progress); });
        return see_to(results, taken, progress);
    };
    auto running = tidegate::with_scope(std::ref(body));
    co_return co_await std::move(running);
}

} // namespace

asio::awaitable<void> work(job_queue& jobs, analyses& results, job_listener ended) {
    for (;;) {
        std::optional<taken_job> taken;
        try {
            auto taking = jobs.take();
            taken = co_await std::move(taking);
        } catch (const boost::system::system_error& e) {
            if (e.code() == tidegate::error::closed) co_return;
            throw;
        }
        auto running = run(jobs, results, *taken);
        job_end const end = co_await std::move(running);
        auto finishing = jobs.finish(taken->what.id, end);
        static_cast<void>(co_await std::move(finishing)); // false: cancelled meanwhile
        ended(taken->what, end);
    }
}

} // namespace vision::service
