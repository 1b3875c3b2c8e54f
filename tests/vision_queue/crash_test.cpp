// SPDX-License-Identifier: BSL-1.0
// Three processes share jobs while they are killed and stopped and Redis goes away: all jobs
// succeed, once, with the results of an undisturbed run.
//
// TIDEGATE_CRASH_TEST=full makes it as long as it is meant to be; else it takes half a minute.
#include "shared_queue.hpp"
#include "support/child_process.hpp"
#include "worker_command.hpp"

#include <catch2/catch_test_macros.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <sstream>

using namespace std::chrono_literals;
using vision::service::job;
using vision::service::job_state;
using steady = std::chrono::steady_clock;
namespace fs = std::filesystem;

namespace {

struct plan {
    int jobs = 12;
    std::chrono::seconds lease{2};
    std::chrono::milliseconds between_kills{1500};
    int most_kills = 4; // on a slow machine no job would live long enough to end
    std::chrono::milliseconds outage{1500};
    std::chrono::seconds patience{200};

    static plan wanted() {
        const char* const text = std::getenv("TIDEGATE_CRASH_TEST");
        if (!text || std::string(text) != "full") return {};
        return {40, 15s, 3s, 1'000'000, 20s, 1200s};
    }
};

std::string file_text(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

auto front_options(const plan& how, const fs::path& data) {
    vision::service::redis_job_queue_options o;
    o.lease = how.lease;
    o.beat = 50ms;
    o.max_queued = 1000;
    o.uploads = data / "uploads";
    return o;
}

using process = std::unique_ptr<test::child_process>;

class site {
public:
    explicit site(plan how)
        : how_(how),
          server(test::redis_server::data::is_kept),
          front(server, front_options(how, data())) {
        fs::create_directories(data() / "uploads");
    }

    fs::path data() const { return folder_ / "data"; }

    process spawn() {
        auto const words = test::worker_command(server.port(), data(),
                                                {"--lease", std::to_string(how_.lease.count()),
                                                 "--max-running", "2", "--drain", "0",
                                                 "--max-crashes", "1000", "--max-errors", "1000"});
        auto const log = fmt::format("worker-{}", ++spawned_);
        return std::make_unique<test::child_process>(words, folder_ / log.c_str());
    }

    // As the HTTP side does it. `content` makes a run of its own of the same video.
    std::string submit(const std::string& content, std::size_t every_n) {
        job one = test::some_job(content);
        one.options.every_n = every_n;
        one.options.chunk = 5;
        fs::copy_file(test::assets / "shapes.mp4", data() / "uploads" / one.id);
        return front.submit(one);
    }

    // All of them, or none while Redis is away.
    std::vector<job> jobs() {
        try {
            return front.run(front.queue.list(1000));
        } catch (const vision::service::queue_unreachable&) {
            return {};
        }
    }
    bool all_have_ended() {
        auto const all = jobs();
        return !all.empty() &&
               std::ranges::all_of(all, [](const job& one) { return is_final(one.state); });
    }

    // The process that runs a job now, of some job; and which.
    std::optional<std::pair<std::string, pid_t>> somebody_at_work() {
        for (const job& one : jobs()) {
            if (one.state != job_state::running) continue;
            test::client redis(server);
            auto const said = redis.run(
                test::ask(redis.redis, {"HGET", "{tidegate-vision}:job:" + one.id, "owner"}));
            std::istringstream owner(said.at(0).value); // host:process:random
            std::string part;
            std::getline(owner, part, ':');
            std::getline(owner, part, ':');
            return std::pair(one.id, static_cast<pid_t>(std::stol(part)));
        }
        return std::nullopt;
    }

    std::string detections_of(const job& one) const {
        return file_text(data() / "results" / one.result / "detections.jsonl");
    }

    // What all workers have said of themselves.
    std::string all_logs() const {
        std::string all;
        for (int i = 1; i <= spawned_; ++i) {
            all += file_text(folder_ / fmt::format("worker-{}", i).c_str());
        }
        return all;
    }

    // Until `done`, or the patience of the plan is over.
    template <class Function>
    void until(Function done) {
        auto const end = steady::now() + how_.patience;
        while (!done()) {
            if (steady::now() > end) throw std::runtime_error("took too long:\n" + all_logs());
            front.run_for(50ms);
        }
    }
    void wait(std::chrono::milliseconds time) {
        auto const end = steady::now() + time;
        until([end] { return steady::now() > end; });
    }

private:
    test::folder folder_;
    plan how_;
    int spawned_ = 0;

public:
    test::redis_server server;
    test::worker front;
};

// Null: it was done with its job before it was stopped. Else the job has another owner by now.
process* stop_at_work(site& here, std::vector<process>& workers) {
    std::optional<std::pair<std::string, pid_t>> found;
    here.until([&] { return (found = here.somebody_at_work()).has_value(); });
    auto const victim = std::ranges::find_if(
        workers, [&](const process& one) { return one->pid() == found->second; });
    if (victim == workers.end()) throw std::runtime_error("a job has an unknown owner");
    (*victim)->stop();
    auto const before = here.front.find(found->first);
    job now = before;
    here.until([&] {
        now = here.front.find(found->first);
        return is_final(now.state) || now.attempt > before.attempt;
    });
    if (before.state == job_state::running && now.attempt > before.attempt) return &*victim;
    (*victim)->go_on();
    return nullptr;
}

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
}

} // namespace

TEST_CASE("no job is lost, doubled or spoilt while its workers and Redis die") {
    NEEDS_REDIS();
    plan const how = plan::wanted();
    site here(how);
    auto const begun = steady::now();
    auto const note = [&](const std::string& what) {
        fmt::print("{:7.1f} s  {}\n", std::chrono::duration<double>(steady::now() - begun).count(),
                   what);
        std::fflush(stdout);
    };

    // Undisturbed.
    std::map<std::size_t, std::string> expected;
    {
        process const calm = here.spawn();
        for (std::size_t n = 1; n <= 3; ++n) here.submit("calm", n);
        here.until([&] { return here.all_have_ended(); });
        for (const job& one : here.jobs()) {
            REQUIRE(one.state == job_state::succeeded);
            expected[one.options.every_n] = here.detections_of(one);
            CHECK(!expected[one.options.every_n].empty());
        }
        CHECK(calm->end() == 0);
    }
    note("three undisturbed results");

    std::map<std::string, std::size_t> wanted;
    auto const submit = [&](int jobs) {
        for (int i = 0; i < jobs; ++i) {
            std::size_t const every_n = 1 + static_cast<std::size_t>(i) % 3;
            auto const content = fmt::format("content {}", wanted.size());
            wanted[here.submit(content, every_n)] = every_n;
        }
    };
    submit(4);
    std::vector<process> workers;
    workers.reserve(3);
    for (int i = 0; i < 3; ++i) workers.push_back(here.spawn());

    // One of them is stopped for longer than the lease, and comes back late.
    process* late = nullptr;
    while (!late) late = stop_at_work(here, workers);
    note("a stopped worker lost its job");
    (*late)->go_on();
    here.until([&] { return (*late)->said().find("\"state\":\"lost\"") != std::string::npos; });
    note("it came back, and was refused");

    submit(how.jobs);
    // All of them die, one after the other, and Redis does in between.
    std::mt19937_64 random(7);
    int kills = 0;
    bool outage_is_over = false;
    auto next_kill = steady::now() + how.between_kills;
    here.until([&] {
        if (kills < how.most_kills && steady::now() > next_kill) {
            auto& one = workers[random() % workers.size()];
            one->kill();
            one = here.spawn();
            next_kill = steady::now() + how.between_kills;
            ++kills;
        }
        if (kills >= 2 && !outage_is_over) {
            here.server.kill();
            here.wait(how.outage);
            here.server.start();
            outage_is_over = true;
            next_kill = steady::now() + how.between_kills;
            note("Redis was away");
        }
        return outage_is_over && here.all_have_ended();
    });
    note(fmt::format("{} jobs have ended, {} kills", wanted.size(), kills));

    std::uint32_t attempts = 0;
    std::size_t seen = 0;
    std::string const said = here.all_logs();
    for (const job& one : here.jobs()) {
        if (!wanted.contains(one.id)) continue;
        ++seen;
        attempts += one.attempt;
        INFO(one.id << " " << (one.problem ? one.problem->detail : ""));
        CHECK(one.state == job_state::succeeded);
        CHECK(count(said, "\"job\":\"" + one.id + "\",\"state\":\"succeeded\"") <= 1);
        CHECK(here.detections_of(one) == expected[wanted[one.id]]);
    }
    CHECK(seen == wanted.size());
    note(fmt::format("{} attempts, {} went on from a checkpoint; all results as undisturbed",
                     attempts, count(said, "\"job resumed\"")));
    CHECK(count(said, "\"job resumed\"") > 0);
    CHECK(kills >= 2);
    CHECK(count(said, "\"state\":\"succeeded\"") > 0);
    for (auto const& one : workers) {
        here.until([&] { return !one->said().empty(); }); // before, the signal would just kill it
        INFO(one->said());
        CHECK(one->end() == 0);
    }
}
