// SPDX-License-Identifier: BSL-1.0
#include "api.hpp"

#include "error.hpp"
#include "event_stream.hpp"
#include "model_metadata.hpp"
#include "page.hpp"
#include "service.hpp"
#include "upload.hpp"

#include <tidegate/file.hpp>
#include <tidegate/http/metrics_server.hpp>
#include <tidegate/json.hpp>

#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/websocket/rfc6455.hpp>
#include <boost/json/array.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace vision::service {

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace json = boost::json;
using http::field;
using http::status;
using http::verb;

namespace {

// The client's fault, in words for the client.
class bad_request : public error {
public:
    using error::error;
};

// Queries -----------------------------------------------------------------------------------------

// A label: it goes to other clients and logs.
std::string label(std::string_view text) {
    std::string kept(text.substr(0, 200));
    std::ranges::replace_if(
        kept, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
    return valid_utf8(kept);
}

template <class Number>
Number number_in(std::string_view name, std::string_view text, Number lowest, Number highest) {
    Number value{};
    auto const [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc() || end != text.data() + text.size() || !(value >= lowest) ||
        !(value <= highest)) {
        throw bad_request(
            fmt::format("{} is '{}', allowed is {} to {}", name, label(text), lowest, highest));
    }
    return value;
}

bool flag(std::string_view name, std::string_view text) {
    if (text == "true" || text == "1" || text.empty()) return true;
    if (text == "false" || text == "0") return false;
    throw bad_request(fmt::format("{} is '{}', allowed is true or false", name, label(text)));
}

void set_option(job& one, const std::string& name, const std::string& text) {
    job_options& o = one.options;
    if (name == "name") one.name = label(text);
    else if (name == "every_n") o.every_n = number_in<std::size_t>(name, text, 1, 100'000);
    else if (name == "chunk") o.chunk = number_in<std::size_t>(name, text, 1, 100'000);
    else if (name == "confidence") o.confidence = number_in<float>(name, text, 0, 1);
    else if (name == "iou") o.iou = number_in<float>(name, text, 0, 1);
    else if (name == "annotate") o.annotate = flag(name, text);
    else if (name == "urgent") o.urgent = flag(name, text);
    else if (name == "model") o.model = text;
    else
        throw bad_request(fmt::format("there is no option '{}', but name, every_n, chunk, "
                                      "confidence, iou, annotate, urgent and model",
                                      label(name)));
}

// Named now, so that a change of the current model changes no job that was submitted before.
void choose_model(service& site, job& one) {
    std::string& name = one.options.model;
    if (name.empty()) name = site.engine.models.current();
    if (!site.engine.models.knows(name))
        throw bad_request("there is no model '" + label(name) + "'");
}

std::string seconds_of(std::chrono::nanoseconds time) {
    auto const seconds = std::chrono::ceil<std::chrono::seconds>(time).count();
    return std::to_string(std::clamp<std::int64_t>(seconds, 1, 3600));
}

// Submitting --------------------------------------------------------------------------------------

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

// Writes the body to the disk, piece by piece. Returns its content's name; empty: there was none.
asio::awaitable<std::string> receive_video(service& site, http_exchange& x, fs::path path) {
    auto open = [&path] { return std::make_unique<upload>(path); };
    auto const file = co_await site.disk.submit(open);
    std::array<char, std::size_t{64} * 1024> piece{};
    for (;;) {
        auto reading = x.read_body(piece);
        std::size_t const n = co_await std::move(reading);
        if (n == 0) break;
        auto append = [&] { file->append({piece.data(), n}); };
        co_await site.disk.submit(append);
    }
    if (file->size() == 0) co_return std::string();
    auto finish = [&file] { return file->finish(); };
    co_return co_await site.disk.submit(finish);
}

asio::awaitable<void> submit_job(service& site, http_exchange& x, std::string client) {
    if (auto const why = objection(site, x, client)) {
        auto refusing = refuse(site, x, *why);
        co_return co_await std::move(refusing);
    }
    job one;
    one.id = make_job_id();
    for (const auto& [name, value] : x.target().query) set_option(one, name, value);
    choose_model(site, one);
    std::string const key(x.request()["Idempotency-Key"]);
    if (key.size() > 255) throw bad_request("the Idempotency-Key is longer than 255 bytes");
    one.source = site.data.upload(one.id);
    auto receiving = receive_video(site, x, one.source);
    one.content = co_await std::move(receiving);
    if (one.content.empty()) throw bad_request("the request has no body: send the video in it");

    std::string const id = one.id;
    fs::path const source = one.source;
    auto submitting = site.jobs.submit(std::move(one), key);
    submitted const done = co_await std::move(submitting);
    if (done.what != submitted::outcome::accepted) {
        auto remove = [source] { fs::remove(source); };
        co_await site.disk.submit(remove);
    }
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

// Jobs --------------------------------------------------------------------------------------------

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
    bool const never_began = now && now->attempt == 0;
    if (never_began && !is_final(one.state)) { // else the run sees to it
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
    auto chunks = tidegate::read_chunks(site.disk, path);
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

// The service -------------------------------------------------------------------------------------

asio::awaitable<void> show_readiness(service& site, http_exchange& x) {
    const char* why = nullptr;
    if (site.is_draining()) why = "draining";
    else if (!site.jobs.is_reachable()) why = "the queue cannot be reached";
    else if (!site.engine.models.get_if_ready()) why = "the model is not loaded yet";
    if (why) return x.refuse(status::service_unavailable, why, {{"Retry-After", "1"}});
    return x.respond(status::ok, "text/plain", "ready\n");
}

json::object to_json(model_store& models, const named_model& which) {
    json::object one{{"name", which.name},
                     {"file", which.file.filename().string()},
                     {"current", which.name == models.current()},
                     {"ready", false}};
    if (auto const loaded = models.get_if_ready(which.name)) {
        const auto& layout = loaded->model.layout();
        one["ready"] = true;
        one["execution_provider"] = loaded->model.execution_provider();
        one["layout"] = layout.description();
        one["classes"] = json::array(layout.class_names.begin(), layout.class_names.end());
        one["workers"] = loaded->tuned.chosen.workers;
        one["batch"] = loaded->tuned.chosen.batch;
        one["bytes"] = loaded->bytes();
    }
    return one;
}

asio::awaitable<void> show_models(service& site, http_exchange& x) {
    json::array all;
    for (const named_model& one : site.engine.models.all()) {
        all.push_back(to_json(site.engine.models, one));
    }
    json::object const answer{{"models", std::move(all)}};
    return x.respond(status::ok, json::value(answer));
}

// Jobs submitted from now on are looked at with it; those before keep theirs.
asio::awaitable<void> activate_model(service& site, http_exchange& x) {
    const std::string& name = x.target().segments[2]; // v1 models NAME activate
    auto& models = site.engine.models;
    std::string complaint;
    status how = status::ok;
    if (x.is_cross_site()) {
        how = status::forbidden;
        complaint = "not from a page of another site";
    } else if (!models.knows(name)) {
        how = status::not_found;
        complaint = "there is no such model";
    } else {
        try {
            auto switching = models.switch_to(name);
            co_await std::move(switching);
        } catch (const std::exception& e) {
            how = status::service_unavailable;
            complaint = "the model was not loaded, and the current one stays";
            site.log.warn("model not loaded",
                          [&] { return json::object{{"model", name}, {"why", e.what()}}; });
        }
    }
    if (how != status::ok) {
        auto refusing = x.refuse(how, complaint);
        co_return co_await std::move(refusing);
    }
    site.log.info("model activated", [&] { return json::object{{"model", name}}; });
    auto answering = show_models(site, x);
    co_await std::move(answering);
}

// What the page shows.
asio::awaitable<void> show_status(service& site, http_exchange& x) {
    auto const cached = site.results.cache().statistics();
    json::object const all{
        {"ready", site.engine.models.get_if_ready() != nullptr && site.jobs.is_reachable() &&
                      !site.is_draining()},
        {"queued", site.jobs.queued()},
        {"running", site.jobs.running()},
        {"stages", tidegate::to_json(site.engine.monitor.summary())},
        {"results",
         {{"entries", cached.entries}, {"hits", cached.hits}, {"misses", cached.misses}}},
        {"clients", site.submissions.size()},
        {"backend", to_string(site.engine.backend.state())},
    };
    return x.respond(status::ok, json::value(all), {{"Cache-Control", "no-store"}});
}

asio::awaitable<void> show_metrics(service& site, http_exchange& x) {
    auto answer = tidegate::http::answer_metrics(x.request(), site.metrics, x.request().target());
    std::string const type(answer[field::content_type]);
    return x.respond(answer.result(), type, std::move(answer.body()));
}

using handler = asio::awaitable<void> (*)(service&, http_exchange&, const std::string& client);

struct route {
    std::string_view path; // its segments; "*" stands for any
    std::string_view methods;
    handler answer;
};

constexpr auto submit_or_list = [](service& site, http_exchange& x, const std::string& client) {
    return x.request().method() == verb::post ? submit_job(site, x, client) : list_jobs(site, x);
};
constexpr auto about_job = [](service& site, http_exchange& x, const std::string&) {
    return answer_about_job(site, x);
};

const route routes[] = {
    {"v1/jobs", "GET, HEAD, POST", submit_or_list},
    {"v1/jobs/*", "GET, HEAD, DELETE", about_job},
    {"v1/jobs/*/*", "GET, HEAD", about_job},
    {"v1/models", "GET, HEAD",
     [](service& site, http_exchange& x, const std::string&) { return show_models(site, x); }},
    {"v1/models/*/activate", "POST",
     [](service& site, http_exchange& x, const std::string&) { return activate_model(site, x); }},
    {"v1/config", "GET, HEAD",
     [](service& site, http_exchange& x, const std::string&) {
         return x.respond(status::ok, json::value(to_json(site.options)));
     }},
    {"v1/status", "GET, HEAD",
     [](service& site, http_exchange& x, const std::string&) { return show_status(site, x); }},
    {"livez", "GET, HEAD",
     [](service&, http_exchange& x, const std::string&) {
         return x.respond(status::ok, "text/plain", "live\n");
     }},
    {"readyz", "GET, HEAD",
     [](service& site, http_exchange& x, const std::string&) { return show_readiness(site, x); }},
    {"metrics", "GET, HEAD",
     [](service& site, http_exchange& x, const std::string&) { return show_metrics(site, x); }},
    {"", "GET, HEAD",
     [](service&, http_exchange& x, const std::string&) {
         return x.respond(
             status::ok, "text/html; charset=utf-8", std::string(page),
             {{"Cache-Control", "no-cache"}, {"Content-Security-Policy", page_policy}});
     }},
};

bool matches(std::string_view pattern, const std::vector<std::string>& segments) {
    for (const std::string& segment : segments) {
        if (pattern.empty()) return false;
        auto const wanted = pattern.substr(0, pattern.find('/'));
        if (wanted != "*" && wanted != segment) return false;
        pattern.remove_prefix(std::min(pattern.size(), wanted.size() + 1));
    }
    return pattern.empty();
}

bool allows(std::string_view methods, std::string_view method) {
    auto const at = methods.find(method);
    return at != std::string_view::npos && !method.empty() && (at == 0 || methods[at - 1] == ' ') &&
           (at + method.size() == methods.size() || methods[at + method.size()] == ',');
}

} // namespace

asio::awaitable<void> answer(service& site, http_exchange& x, std::string client) {
    auto const found = std::ranges::find_if(
        routes, [&](const route& r) { return matches(r.path, x.target().segments); });
    if (found == std::end(routes)) {
        auto refusing = x.refuse(status::not_found, "there is nothing at this path");
        co_return co_await std::move(refusing);
    }
    if (!allows(found->methods, x.request().method_string())) {
        auto refusing =
            x.refuse(status::method_not_allowed, fmt::format("allowed is {}", found->methods),
                     {{"Allow", std::string(found->methods)}});
        co_return co_await std::move(refusing);
    }
    std::string complaint;
    status how = status::internal_server_error;
    try {
        auto answering = found->answer(site, x, client);
        co_return co_await std::move(answering);
    } catch (const bad_request& e) {
        how = status::bad_request;
        complaint = e.what();
    } catch (const output_error&) {
        how = status::insufficient_storage;
        complaint = "the upload could not be stored";
        site.refused.with({"disk"}).increment();
    } catch (const boost::system::system_error& e) {
        if (e.code() != http::error::body_limit) throw;
        how = status::payload_too_large;
        complaint = fmt::format("more than {} bytes", site.options.http.body_bytes);
        site.refused.with({"too_large"}).increment();
    } catch (const queue_unreachable& e) {
        how = status::service_unavailable;
        complaint = "the queue cannot be reached";
        site.refused.with({"queue_unreachable"}).increment();
        site.log.warn("queue unreachable", [&] { return json::object{{"why", e.what()}}; });
    } catch (const std::exception& e) {
        complaint = "something went wrong here";
        site.log.warn("request failed", [&] {
            return json::object{{"target", x.request().target()}, {"why", e.what()}};
        });
    }
    if (x.answered() != 0) throw boost::system::system_error(http::error::partial_message);
    http_fields fields;
    if (how == status::service_unavailable) fields.emplace_back("Retry-After", "5");
    auto refusing = x.refuse(how, complaint, std::move(fields));
    co_await std::move(refusing);
}

} // namespace vision::service
