// SPDX-License-Identifier: BSL-1.0
// The vision service while it has more to do than it can, beside serving as it is often found.
#include "bench.hpp"
#include "client.hpp"
#include "input.hpp"
#include "naive_server.hpp"
#include "opencv_setup.hpp"
#include "program.hpp"

#include <boost/json/parse.hpp>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace bench;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

std::string bytes_of(fs::path const& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

fs::path short_video() {
    return fs::path(TIDEGATE_SOURCE_ROOT) / "examples/vision/assets/shapes.mp4";
}

std::vector<std::string> serve_command(fs::path const& data, int running, int queued) {
    return {TIDEGATE_VISION_PROGRAM,
            "serve",
            "--port",
            "0",
            "--log-level",
            "off",
            "--rate",
            "1000000",
            "--burst",
            "1000000",
            "--stall-threshold",
            "5", // ms; naming the calls of a stall takes memory that would be measured, too
            "--max-queued",
            std::to_string(queued),
            "--max-running",
            std::to_string(running),
            "--model",
            find_input().model.string(),
            "--data",
            data.string()};
}

class site {
public:
    explicit site(int running, int queued = 10'000)
        : process_(serve_command(data_.path() / "data", running, queued)) {
        while (ask(process_.port(), http::verb::get, "/readyz").status != 200) {
            std::this_thread::yield();
        }
    }

    program const& process() const { return process_; }
    answer get(std::string const& target) const {
        return ask(process_.port(), http::verb::get, target);
    }
    // `n` tells it from others, which would share its run.
    answer submit(std::string const& video, int n, std::string const& more = "") const {
        return ask(process_.port(), http::verb::post,
                   "/v1/jobs?annotate=false&confidence=0." + std::to_string(300000 + n) + more,
                   video);
    }
    std::string id_of(answer const& submitted) const {
        return std::string(boost::json::parse(submitted.body).at("id").as_string());
    }
    std::string state_of(std::string const& id) const {
        return std::string(boost::json::parse(get("/v1/jobs/" + id).body).at("state").as_string());
    }
    // Returns when the job has ended: its events do then.
    std::string wait_for(std::string const& id) const {
        get("/v1/jobs/" + id + "/events");
        return state_of(id);
    }

    // The sum of a metric's samples whose labels have `label`.
    double metric(std::string const& name, std::string const& label = "") const {
        double sum = 0;
        std::istringstream lines(get("/metrics").body);
        for (std::string line; std::getline(lines, line);) {
            bool const is_it = line.starts_with(name + "{") || line.starts_with(name + " ");
            if (is_it && line.find(label) != std::string::npos) {
                sum += std::stod(line.substr(line.rfind(' ')));
            }
        }
        return sum;
    }
    double succeeded() const { return metric("tidegate_vision_jobs_total", "state=\"succeeded\""); }

private:
    output_folder data_;
    program process_;
};

// Ten videos of the street, in a loop, keep both cores busy; measured is what clients see then.
void saturated(run& r) {
    r.skip_warm_up();
    while (r.more()) {
        site const service(10);
        std::string const video = bytes_of(find_input().video);
        std::vector<std::string> ids;
        for (int i = 0; i < 10; ++i) ids.push_back(service.id_of(service.submit(video, i)));
        std::string const small(std::size_t{1} << 20, 'x'); // no video, but it has to be taken
        std::vector<double> posts;
        std::vector<double> looks;
        std::vector<double> cancels;
        for (int i = 0; i < 100; ++i) {
            posts.push_back(service.submit(small, 100 + i).milliseconds);
            looks.push_back(service.get("/livez").milliseconds);
            looks.push_back(service.get("/v1/jobs/" + ids[0]).milliseconds);
        }
        r.report("busy", service.state_of(ids[9]) == "running" ? 1 : 0);
        r.report("peak_mb_of_10", service.process().memory_mb("VmHWM"));
        r.report("post_p99_ms", percentile(posts, 0.99));
        r.report("look_p99_ms", percentile(looks, 0.99));
        auto const stalls = [&service](std::string const& cause) {
            return service.metric("tidegate_stall_detector_stalls_total", "\"" + cause + "\"");
        };
        r.report("blocked_5_ms", stalls("blocked"));
        r.report("busy_5_ms", stalls("busy"));
        r.report("starved_5_ms", stalls("starved"));
        for (std::string const& id : ids) {
            cancels.push_back(
                ask(service.process().port(), http::verb::delete_, "/v1/jobs/" + id).milliseconds);
        }
        r.report("cancel_p99_ms", percentile(cancels, 0.99));
    }
}

// All of twenty at once end well, in bounded memory.
void twenty(run& r) {
    r.skip_warm_up();
    while (r.more()) {
        site const service(20);
        std::string const video = bytes_of(find_input().video);
        std::vector<std::string> ids;
        for (int i = 0; i < 20; ++i) {
            ids.push_back(service.id_of(service.submit(video, i, "&every_n=10")));
        }
        double done = 0;
        for (std::string const& id : ids) done += service.wait_for(id) == "succeeded" ? 1 : 0;
        r.report("succeeded", done);
        r.report("peak_mb_of_20", service.process().memory_mb("VmHWM"));
    }
}

// One short video after the other.
void many_jobs(run& r) {
    r.skip_warm_up();
    while (r.more()) {
        site const service(4);
        std::string const video = bytes_of(find_input().video);
        double after_20 = 0;
        for (int i = 0; i < 200; ++i) {
            service.wait_for(service.id_of(service.submit(video, i, "&every_n=100")));
            if (i == 19) after_20 = service.process().memory_mb("VmRSS");
        }
        r.report("growth_mb", service.process().memory_mb("VmRSS") - after_20);
    }
}

// Jobs that end in a second, when as many clients as it has places for each wait for their job.
double capacity(site const& service, std::string const& video, int places, std::atomic<int>& next,
                std::chrono::seconds time) {
    auto const begun = std::chrono::steady_clock::now();
    std::vector<std::thread> clients;
    double const before = service.succeeded();
    for (int i = 0; i < places; ++i) {
        clients.emplace_back([&] {
            while (std::chrono::steady_clock::now() - begun < time) {
                auto const submitted = service.submit(video, ++next, "&every_n=10");
                if (submitted.status == 202) service.wait_for(service.id_of(submitted));
            }
        });
    }
    for (std::thread& one : clients) one.join();
    std::chrono::duration<double> const took = std::chrono::steady_clock::now() - begun;
    return (service.succeeded() - before) / took.count();
}

// What clients are told that come at a given rate, whatever they are told.
struct onslaught {
    std::vector<double> refusals; // milliseconds
    double accepted = 0;
    double others = 0; // neither accepted nor refused for now
};

onslaught overload_with(site const& service, std::string const& video, double a_second,
                        std::atomic<int>& next, std::chrono::seconds time) {
    constexpr int clients = 8;
    auto const begun = std::chrono::steady_clock::now();
    std::vector<onslaught> told(clients);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < clients; ++i) {
        threads.emplace_back([&, i] {
            for (double n = static_cast<double>(i);; n += clients) {
                auto const at = std::chrono::duration<double>(n / a_second);
                if (at > time) return;
                std::this_thread::sleep_until(begun +
                                              std::chrono::round<std::chrono::nanoseconds>(at));
                auto const answered = service.submit(video, ++next, "&every_n=10");
                if (answered.status == 202) ++told[i].accepted;
                else if (answered.status == 503) told[i].refusals.push_back(answered.milliseconds);
                else ++told[i].others;
            }
        });
    }
    for (std::thread& one : threads) one.join();
    onslaught all;
    for (onslaught const& one : told) {
        all.refusals.insert(all.refusals.end(), one.refusals.begin(), one.refusals.end());
        all.accepted += one.accepted;
        all.others += one.others;
    }
    return all;
}

// Five times what it can do, for a minute.
void overload(run& r) {
    r.skip_warm_up();
    while (r.more()) {
        constexpr int running = 2;
        constexpr int queued = 4;
        site const service(running, queued);
        std::string const video = bytes_of(short_video());
        std::atomic<int> next{0};
        double const usual = capacity(service, video, running + queued, next, 10s);
        double const before = service.succeeded();
        auto const begun = std::chrono::steady_clock::now();
        onslaught const told = overload_with(service, video, 5 * usual, next, 60s);
        std::chrono::duration<double> const took = std::chrono::steady_clock::now() - begun;
        r.report("throughput_then", (service.succeeded() - before) / took.count() / usual);
        std::this_thread::sleep_for(2s);
        r.report("throughput_after", capacity(service, video, running + queued, next, 10s) / usual);
        r.report("refusal_p99_ms", percentile(told.refusals, 0.99));
        r.report("refused_share", static_cast<double>(told.refusals.size()) /
                                      (told.accepted + static_cast<double>(told.refusals.size())));
        r.report("others", told.others);
        r.report("not_succeeded",
                 service.metric("tidegate_vision_jobs_total") - service.succeeded());
    }
}

// Ten clients come at once, each with a video of the same kind. `each` makes one request and
// returns when the client has its first answer.
template <class Each>
std::vector<double> ten_clients(Each each) {
    std::vector<double> first(10);
    std::vector<std::thread> clients;
    for (std::size_t i = 0; i < first.size(); ++i) {
        clients.emplace_back([&, i] { first[i] = each(static_cast<int>(i)); });
    }
    for (std::thread& one : clients) one.join();
    return first;
}

void report_clients(run& r, std::vector<double> const& first, double frames, double seconds) {
    r.report("first_answer_ms", percentile(first, 0.5));
    double late = 0;
    for (double const ms : first) late += ms > 3000 ? 1 : 0;
    r.report("late_share", late / static_cast<double>(first.size()));
    r.report("frames_per_second", frames / seconds);
}

void ten_clients_here(run& r) {
    r.skip_warm_up();
    while (r.more()) {
        site const service(10);
        std::string const video = bytes_of(short_video());
        auto const begun = std::chrono::steady_clock::now();
        std::vector<std::string> ids(10);
        auto const first = ten_clients([&](int i) {
            auto const submitted = service.submit(video, i);
            ids[static_cast<std::size_t>(i)] = service.id_of(submitted);
            return submitted.milliseconds;
        });
        for (std::string const& id : ids) service.wait_for(id);
        std::chrono::duration<double> const took = std::chrono::steady_clock::now() - begun;
        report_clients(r, first, 3000, took.count());
    }
}

void ten_clients_naive(run& r) {
    r.skip_warm_up();
    while (r.more()) {
        output_folder const folder;
        boost::asio::io_context io(1);
        vision::detector_options model;
        model.model = find_input().model;
        naive_server server(io, model, folder.path());
        std::thread thread([&io] { io.run(); });
        std::string const video = bytes_of(short_video());
        auto const begun = std::chrono::steady_clock::now();
        auto const first = ten_clients(
            [&](int) { return ask(server.port(), http::verb::post, "/", video).milliseconds; });
        std::chrono::duration<double> const took = std::chrono::steady_clock::now() - begun;
        io.stop();
        thread.join();
        report_clients(r, first, static_cast<double>(server.frames()), took.count());
    }
}

group const service_claims{[] {
    auto const once = [](std::string const& name, int rounds, std::function<void(run&)> body) {
        row(name, wall_time, std::move(body))->Iterations(1)->Repetitions(rounds);
    };
    once("service/saturated", 3, saturated);
    claim("service_post_p99_ms", least_of("service/saturated", "post_p99_ms"), at_most(50));
    claim("service_look_p99_ms", least_of("service/saturated", "look_p99_ms"), at_most(20));
    claim("service_handlers_blocked_5_ms", most_of("service/saturated", "blocked_5_ms"),
          at_most(0));
    claim("service_handlers_busy_5_ms", most_of("service/saturated", "busy_5_ms"), at_most(0));
    claim("service_handlers_starved_5_ms", most_of("service/saturated", "starved_5_ms"),
          at_most(0));
    claim("service_cancel_p99_ms", least_of("service/saturated", "cancel_p99_ms"), at_most(250));
    claim("service_was_busy", least_of("service/saturated", "busy"), at_least(1));
    claim("service_peak_mb_of_10", most_of("service/saturated", "peak_mb_of_10"), at_most(350));

    once("service/twenty", 1, twenty);
    claim("service_twenty_succeed", least_of("service/twenty", "succeeded"), at_least(20));
    claim("service_peak_mb_of_20", most_of("service/twenty", "peak_mb_of_20"), at_most(500));

    once("service/many_jobs", 1, many_jobs);
    claim("service_growth_mb_of_180_jobs", most_of("service/many_jobs", "growth_mb"), at_most(10));

    once("service/overload", 1, overload);
    claim("service_overload_refusal_p99_ms", most_of("service/overload", "refusal_p99_ms"),
          at_most(20));
    claim("service_overload_throughput", least_of("service/overload", "throughput_then"),
          at_least(0.9));
    claim("service_throughput_after_overload", least_of("service/overload", "throughput_after"),
          at_least(0.9));
    claim("service_overload_lost", most_of("service/overload", "not_succeeded"), at_most(0));

    once("service/clients", 3, ten_clients_here);
    once("service/clients_naive", 3, ten_clients_naive);
    claim("service_first_answer",
          ratio_of(most_of("service/clients_naive", "first_answer_ms"),
                   most_of("service/clients", "first_answer_ms")),
          at_least(20));
    claim("service_late_share", most_of("service/clients", "late_share"), at_most(0));
    claim("service_late_share_naive", least_of("service/clients_naive", "late_share"),
          at_least(0.5));
    claim("service_throughput",
          ratio_of(most_of("service/clients", "frames_per_second"),
                   most_of("service/clients_naive", "frames_per_second")),
          at_least(1.7));
}};

} // namespace
