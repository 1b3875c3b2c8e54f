// SPDX-License-Identifier: BSL-1.0
// The service in this process, on a thread and a port of its own.
#pragma once

#include "http_client.hpp"
#include "service.hpp"
#include "temp_folder.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/use_future.hpp>

#include <future>
#include <latch>
#include <memory>
#include <thread>
#include <utility>

namespace test {

inline const std::filesystem::path assets =
    std::filesystem::path(TIDEGATE_SOURCE_ROOT) / "examples" / "vision" / "assets";

inline vision::service::service_options usual_options() {
    vision::service::service_options o;
    o.engine.model.model = assets / "shapes.onnx";
    o.engine.workers = 1; // not calibrated: that takes two seconds
    o.engine.batch = 1;
    o.port = 0;
    o.rate = 1'000'000;
    o.burst = 1'000'000;
    o.max_running = 2;
    o.log_level = "off";
    return o;
}

// Holds up all inference, so that what runs goes on running, until the end or `let_go`.
class held_up {
public:
    explicit held_up(vision::service::service_options& options) {
        options.engine.before_inference = [gate = gate_] { gate->wait(); };
    }
    ~held_up() { let_go(); }
    held_up(const held_up&) = delete;
    held_up& operator=(const held_up&) = delete;

    void let_go() {
        if (!std::exchange(open_, true)) gate_->count_down();
    }

private:
    std::shared_ptr<std::latch> gate_ = std::make_shared<std::latch>(1);
    bool open_ = false;
};

class running_site {
public:
    explicit running_site(vision::service::service_options options = usual_options()) {
        if (options.data.empty()) options.data = folder_.path() / "data";
        site_.emplace(io_, options);
        running_ = boost::asio::co_spawn(site_->executor, site_->run(), boost::asio::use_future);
        thread_ = std::thread([this] { io_.run(); });
    }
    ~running_site() {
        if (running_.valid()) stop();
        thread_.join();
    }
    running_site(const running_site&) = delete;
    running_site& operator=(const running_site&) = delete;

    std::uint16_t port() { return site_->endpoint().port(); }
    std::filesystem::path data() const { return folder_.path() / "data"; }

    // Runs `what(service)` where the service runs.
    template <class Function>
    auto on_site(Function what) {
        auto task = std::packaged_task<std::invoke_result_t<Function, vision::service::service&>()>(
            [&] { return what(*site_); });
        auto result = task.get_future();
        boost::asio::dispatch(io_, [task = std::move(task)]() mutable { task(); });
        return result.get();
    }

    // Drains, and waits for the end. Throws what `run` threw.
    void stop() {
        begin_to_stop();
        running_.get();
    }
    void begin_to_stop() {
        if (!std::exchange(stopping_, true)) on_site([](auto& site) { site.stop(); });
    }

    reply ask(const std::string& method, const std::string& target, const std::string& body = {},
              const headers& more = {}) {
        return test::ask(port(), method, target, body, more);
    }

    // After `stop`.
    vision::service::job job_at_the_end(const std::string& id) {
        boost::asio::io_context io;
        auto found = boost::asio::co_spawn(io, site_->jobs.find(id), boost::asio::use_future);
        io.run();
        return found.get().value();
    }

    // After `stop`.
    const vision::engine& engine() const { return site_->engine; }

    // Submits a video and returns the job's id.
    std::string submit(const std::string& video, const std::string& options = {}) {
        reply const r = ask("POST", "/v1/jobs" + options, video);
        if (r.status != 202) throw std::runtime_error(std::to_string(r.status) + ": " + r.body);
        return std::string(r.json().at("id").as_string());
    }
    // The job once it has ended, as its events tell it.
    boost::json::object end_of(const std::string& id) {
        return parse_events(ask("GET", "/v1/jobs/" + id + "/events").body).back().data;
    }

private:
    temp_folder folder_;
    boost::asio::io_context io_{1};
    std::optional<vision::service::service> site_;
    std::future<void> running_;
    std::thread thread_;
    bool stopping_ = false;
};

inline std::string shapes_video() { return file_text(assets / "shapes.mp4"); }

// What is found in the bundled clip where nobody disturbs.
inline std::string undisturbed(const std::string& query) {
    running_site site;
    std::string const id = site.submit(shapes_video(), query);
    if (site.end_of(id).at("state").as_string() != "succeeded")
        throw std::runtime_error("the job failed");
    return site.ask("GET", "/v1/jobs/" + id + "/result").body;
}

} // namespace test
