// SPDX-License-Identifier: BSL-1.0
#include "site_answers.hpp"

#include "service.hpp"

#include <tidegate/http/metrics_server.hpp>
#include <tidegate/json.hpp>

#include <boost/json/array.hpp>

namespace vision::service {

namespace asio = boost::asio;
namespace json = boost::json;
using http::field;
using http::status;

namespace {

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

} // namespace

asio::awaitable<void> show_readiness(service& site, http_exchange& x) {
    const char* why = nullptr;
    if (site.is_draining()) why = "draining";
    else if (!site.jobs.is_reachable()) why = "the queue cannot be reached";
    else if (!site.engine.models.get_if_ready()) why = "the model is not loaded yet";
    if (why) return x.refuse(status::service_unavailable, why, {{"Retry-After", "1"}});
    return x.respond(status::ok, "text/plain", "ready\n");
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

} // namespace vision::service
