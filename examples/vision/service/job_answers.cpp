// SPDX-License-Identifier: BSL-1.0
#include "job_answers.hpp"

#include "event_stream.hpp"
#include "query.hpp"
#include "service.hpp"

#include <tidegate/file.hpp>

#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/websocket/rfc6455.hpp>
#include <boost/json/array.hpp>
#include <fmt/format.h>

namespace vision::service {

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace json = boost::json;
using http::field;
using http::status;
using http::verb;

namespace {

asio::awaitable<void> show_job(http_exchange& x, job one) {
    std::string const tag = fmt::format("\"{}\"", one.version);
    http_fields fields{{"ETag", tag}, {"Cache-Control", "no-cache"}};
    if (x.header(field::if_none_match) == tag) {
        return x.respond(status::not_modified, "", "", std::move(fields));
    }
    if (!is_final(one.state)) fields.emplace_back("Retry-After", "1");
    return x.respond(status::ok, json::value(to_json(one)), std::move(fields));
}

asio::awaitable<void> cancel_job(service& site, http_exchange& x, job one) {
    if (x.is_cross_site()) {
        auto refusing = x.refuse(status::forbidden, "not from a page of another site");
        co_return co_await std::move(refusing);
    }
    auto cancelling = site.jobs.cancel(one.id);
    auto const now = co_await std::move(cancelling);
    // Nobody had it, and nobody took it since; else the run sees to all this.
    if (now && one.state == job_state::queued && now->attempt == one.attempt) {
        site.note_end(*now, {job_state::cancelled, {}, {}, {}}, job_outcome::ended);
        auto remove = [source = one.source] { fs::remove(source); };
        co_await site.disk.submit(remove);
    }
    auto answering = now && !is_final(now->state)
                         ? x.respond(status::accepted, json::value(to_json(*now)))
                         : x.respond(status::no_content, "", "");
    co_await std::move(answering);
}

asio::awaitable<void> send_file(service& site, http_exchange& x, fs::path path, std::string type) {
    auto measure = [&path] { return fs::file_size(path); };
    std::uint64_t const size = co_await site.disk.submit(measure);
    auto beginning = x.begin(status::ok, std::move(type), size);
    co_await std::move(beginning);
    if (!x.wants_body()) co_return;
    auto const here = co_await asio::this_coro::executor;
    auto chunks = tidegate::read_chunks(here, site.disk, path);
    while (auto chunk = co_await chunks.async_resume(asio::use_awaitable)) {
        auto sending = x.send(*chunk);
        co_await std::move(sending);
    }
}

asio::awaitable<void> send_part(service& site, http_exchange& x, analyses::handle result,
                                bool video) {
    if (!result) return x.refuse(status::gone, "the result is not kept any more");
    if (!video) return send_file(site, x, result->detections, "application/x-ndjson");
    if (result->video.empty()) {
        return x.refuse(status::not_found, "the job asked for no video with boxes");
    }
    return send_file(site, x, result->video, "video/mp4");
}

asio::awaitable<void> send_result(service& site, http_exchange& x, job one, bool video) {
    if (one.state != job_state::succeeded) {
        auto const why = fmt::format("the job is {}", to_string(one.state));
        auto refusing = x.refuse(status::conflict, why);
        co_return co_await std::move(refusing);
    }
    auto finding = site.results.find(one.result);
    auto const result = co_await std::move(finding);
    auto sending = send_part(site, x, result, video);
    co_await std::move(sending);
}

asio::awaitable<void> send_preview(service& site, http_exchange& x, job one) {
    auto const picture = site.results.preview(site.results.key(one));
    if (!picture) return x.refuse(status::not_found, "no frame has been looked at just now");
    return x.respond(status::ok, "image/jpeg", *picture, {{"Cache-Control", "no-store"}});
}

asio::awaitable<void> send_events(service& site, http_exchange& x, std::string id, bool websocket) {
    auto watching = site.jobs.watch(id);
    auto const watch = co_await std::move(watching);
    auto const draining = site.draining.get_token();
    if (!websocket) {
        auto sending = send_server_sent_events(x, watch, draining);
        co_return co_await std::move(sending);
    }
    if (!boost::beast::websocket::is_upgrade(x.request()) || x.is_cross_site()) {
        auto refusing = x.refuse(status::bad_request, "not a WebSocket handshake of this site");
        co_return co_await std::move(refusing);
    }
    auto sending = send_over_websocket(x, watch, draining);
    co_await std::move(sending);
}

} // namespace

asio::awaitable<void> list_jobs(service& site, http_exchange& x) {
    std::size_t most = 100;
    for (const auto& [name, value] : x.target().query) {
        if (name != "limit")
            throw bad_request("there is no option '" + label(name) + "', but limit");
        most = number_in<std::size_t>(name, value, 1, 1000);
    }
    auto listing = site.jobs.list(most);
    json::array jobs;
    for (const job& one : co_await std::move(listing)) jobs.push_back(to_json(one));
    json::object const all{{"jobs", std::move(jobs)}};
    auto answering = x.respond(status::ok, json::value(all));
    co_await std::move(answering);
}

asio::awaitable<void> answer_about_job(service& site, http_exchange& x) {
    const auto& path = x.target().segments; // v1 jobs ID [WHAT]
    std::string const what = path.size() == 4 ? path[3] : "";
    auto finding = site.jobs.find(is_job_id(path[2]) ? path[2] : std::string());
    auto const found = co_await std::move(finding);
    if (!found) {
        auto refusing = x.refuse(status::not_found, "there is no such job");
        co_return co_await std::move(refusing);
    }
    bool const deletes = x.request().method() == verb::delete_ && what.empty();
    auto answering = deletes             ? cancel_job(site, x, *found)
                     : what.empty()      ? show_job(x, *found)
                     : what == "result"  ? send_result(site, x, *found, false)
                     : what == "video"   ? send_result(site, x, *found, true)
                     : what == "preview" ? send_preview(site, x, *found)
                     : what == "events"  ? send_events(site, x, found->id, false)
                     : what == "ws"      ? send_events(site, x, found->id, true)
                                         : x.refuse(status::not_found, "no such part of a job");
    co_await std::move(answering);
}

} // namespace vision::service
