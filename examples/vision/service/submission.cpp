// SPDX-License-Identifier: BSL-1.0
#include "submission.hpp"

#include "job_wishes.hpp"
#include "query.hpp"
#include "service.hpp"
#include "upload_body.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace vision::service {

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace json = boost::json;
using http::status;

namespace {

std::string seconds_of(std::chrono::nanoseconds time) {
    auto const seconds = std::chrono::ceil<std::chrono::seconds>(time).count();
    return std::to_string(std::clamp<std::int64_t>(seconds, 1, 3600));
}

// What speaks against a job before its video is read: a reason for the metrics, and the answer.
struct refusal {
    const char* reason;
    status how;
    std::string detail;
    std::string retry_after;
};

std::optional<refusal> objection(service& site, const http_exchange& x, const std::string& client) {
    if (x.is_cross_site()) {
        return refusal{"cross_site", status::forbidden, "not from a page of another site", ""};
    }
    if (site.is_draining()) {
        return refusal{"draining", status::service_unavailable, "the service is about to end",
                       seconds_of(site.options.drain)};
    }
    if (auto const decision = site.submissions.try_acquire(client); !decision) {
        return refusal{"rate_limited", status::too_many_requests,
                       fmt::format("more than {} jobs a second from one client", site.options.rate),
                       seconds_of(decision.retry_after())};
    }
    if (!site.jobs.is_reachable()) {
        return refusal{"queue_unreachable", status::service_unavailable,
                       "the queue cannot be reached", "5"};
    }
    if (site.jobs.is_full()) {
        return refusal{"queue_full", status::service_unavailable,
                       fmt::format("{} jobs wait already", site.options.queue.max_queued), "5"};
    }
    return std::nullopt;
}

asio::awaitable<void> refuse(service& site, http_exchange& x, refusal why) {
    site.refused.with({why.reason}).increment();
    http_fields fields;
    if (!why.retry_after.empty()) fields.emplace_back("Retry-After", why.retry_after);
    return x.refuse(why.how, std::move(why.detail), std::move(fields));
}

} // namespace

asio::awaitable<void> submit_job(service& site, http_exchange& x, std::string client) {
    if (auto const why = objection(site, x, client)) {
        auto refusing = refuse(site, x, *why);
        co_return co_await std::move(refusing);
    }
    job one;
    one.id = make_job_id();
    const model_store& models = site.engine.models;
    job_wishes wishes(one, [&models](const std::string& name) { return models.knows(name); });
    wishes.read_query(x.target().query);
    std::string const key(x.request()["Idempotency-Key"]);
    if (key.size() > 255) throw bad_request("the Idempotency-Key is longer than 255 bytes");
    one.source = site.data.upload(one.id);
    auto receiving = receive_body(x, site.disk, one.source, wishes);
    one.content = co_await std::move(receiving);
    // Named now, so that a change of the current model changes no job that was submitted before.
    if (one.options.model.empty()) one.options.model = models.current();

    std::string const id = one.id;
    fs::path const source = one.source;
    submitted done;
    std::exception_ptr unwritten;
    try {
        auto submitting = site.jobs.submit(std::move(one), key);
        done = co_await std::move(submitting);
    } catch (const output_error&) {
        unwritten = std::current_exception();
    }
    if (unwritten || done.what != submitted::outcome::accepted) {
        auto remove = [source] { fs::remove(source); };
        co_await site.disk.submit(remove);
    }
    if (unwritten) std::rethrow_exception(unwritten);
    if (done.what == submitted::outcome::full) {
        auto refusing =
            refuse(site, x, {"queue_full", status::service_unavailable, "others came first", "5"});
        co_return co_await std::move(refusing);
    }
    if (done.what == submitted::outcome::conflict) {
        auto refusing =
            refuse(site, x,
                   {"idempotency", status::unprocessable_entity,
                    "that Idempotency-Key was used for another video, or with other options", ""});
        co_return co_await std::move(refusing);
    }
    auto answering = x.respond(status::accepted, json::value(to_json(*done.entry)),
                               {{"Location", "/v1/jobs/" + done.entry->id}, {"Retry-After", "1"}});
    co_await std::move(answering);
}

} // namespace vision::service
