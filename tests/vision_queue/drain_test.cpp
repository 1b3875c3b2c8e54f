// SPDX-License-Identifier: BSL-1.0
// A worker that is told to end in the middle of a job: another one goes on from its checkpoint, at
// once, and the job is none the worse.
#include "shared_queue.hpp"
#include "support/child_process.hpp"
#include "worker_command.hpp"

#include <catch2/catch_test_macros.hpp>
#include <fmt/format.h>

#include <algorithm>

using namespace std::chrono_literals;
using vision::service::job;
using vision::service::job_state;
namespace fs = std::filesystem;

namespace {

std::string file_text(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

// A queue, and workers whose leases would hold for an hour.
class site {
public:
    site() : front(server, front_options(data())) { fs::create_directories(data() / "uploads"); }

    fs::path data() const { return folder_ / "data"; }

    std::unique_ptr<test::child_process> spawn() {
        auto const words =
            test::worker_command(server.port(), data(), {"--lease", "3600", "--max-running", "1"});
        auto const log = fmt::format("worker-{}", ++spawned_);
        return std::make_unique<test::child_process>(words, folder_ / log.c_str());
    }

    std::string submit(const std::string& content) {
        job one = test::some_job(content);
        one.options.chunk = 1;
        fs::copy_file(test::assets / "shapes.mp4", data() / "uploads" / one.id);
        return front.submit(one);
    }
    job until(const std::string& id, bool (*is_so)(const job&)) {
        job now = front.find(id);
        while (!is_so(now)) {
            front.run_for(1ms);
            now = front.find(id);
        }
        return now;
    }
    std::string result_of(const job& one) const {
        fs::path const folder = data() / "results" / one.result;
        return file_text(folder / "detections.jsonl") + file_text(folder / "annotated.mp4");
    }

private:
    static vision::service::redis_job_queue_options front_options(const fs::path& data) {
        vision::service::redis_job_queue_options o;
        o.uploads = data / "uploads";
        return o;
    }

    test::folder folder_;
    int spawned_ = 0;

public:
    test::redis_server server;
    test::worker front;
};

bool has_ended(const job& one) { return is_final(one.state); }
bool is_in_the_middle(const job& one) { return one.frames_done >= 20 || is_final(one.state); }

} // namespace

TEST_CASE("a worker that is told to end hands its job over at the next checkpoint") {
    NEEDS_REDIS();
    site here;
    auto first = here.spawn();
    std::string const calm = here.submit("calm");
    auto const expected = here.result_of(here.until(calm, has_ended));
    CHECK(!expected.empty());
    bool handed_over = false;
    for (int round = 0; !handed_over; ++round) { // until it is told before the job's last frames
        REQUIRE(round < 20);
        std::string const id = here.submit(fmt::format("content {}", round));
        here.until(id, is_in_the_middle);
        auto next = here.spawn();
        next->line(R"({)"); // from here on a signal is not just its death
        CHECK(first->end() == 0);
        auto const done = here.until(id, has_ended);
        CHECK(done.state == job_state::succeeded);
        CHECK(done.attempt == 1);
        CHECK((here.result_of(done) == expected));
        auto const resumed = "\"job resumed\",\"job\":\"" + id;
        handed_over = first->said().find("\"state\":\"again\"") != std::string::npos;
        CHECK((next->said().find(resumed) != std::string::npos) == handed_over);
        first = std::move(next);
    }
    CHECK(first->end() == 0);
}
