// SPDX-License-Identifier: BSL-1.0
#include "api.hpp"

#include "error.hpp"
#include "job_answers.hpp"
#include "page.hpp"
#include "query.hpp"
#include "service.hpp"
#include "site_answers.hpp"
#include "submission.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace vision::service {

namespace asio = boost::asio;
namespace json = boost::json;
using http::status;
using http::verb;

namespace {

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

// All that a process answers which only works for others.
bool is_for_operators(const route& one) {
    return one.path == "livez" || one.path == "readyz" || one.path == "metrics";
}

bool allows(std::string_view methods, std::string_view method) {
    auto const at = methods.find(method);
    return at != std::string_view::npos && !method.empty() && (at == 0 || methods[at - 1] == ' ') &&
           (at + method.size() == methods.size() || methods[at + method.size()] == ',');
}

} // namespace

asio::awaitable<void> answer(service& site, http_exchange& x, std::string client) {
    auto const found = std::ranges::find_if(routes, [&](const route& r) {
        return matches(r.path, x.target().segments) &&
               (site.options.listens || is_for_operators(r));
    });
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
