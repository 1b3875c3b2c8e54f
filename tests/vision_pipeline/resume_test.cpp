// SPDX-License-Identifier: BSL-1.0
// Runs in processes that are killed in the middle: who goes on from what they left behind writes
// the files of a run that nobody disturbed, and does not do their work again.
#include "error.hpp"
#include "real_data.hpp"
#include "run_video.hpp"
#include "temp_folder.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <fmt/format.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <random>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

namespace fs = std::filesystem;

const fs::path assets = fs::path(TIDEGATE_SOURCE_ROOT) / "examples" / "vision" / "assets";
constexpr std::size_t frames_in_flight = 8;
constexpr std::uint64_t whole_run = 300; // frames of the bundled clip

// What processes have done, in memory that outlives them.
struct work_done {
    std::atomic<std::uint64_t> decoded, inferred;
    std::uint64_t die_at_inference; // of all processes; 0: never
    std::uint64_t die_at_read;

    std::uint64_t frames() const { return decoded + inferred; }
};

class shared_work {
public:
    explicit shared_work(const fs::path& file) {
        int const fd = ::open(file.c_str(), O_RDWR | O_CREAT, 0600);
        if (fd < 0 || ::ftruncate(fd, sizeof(work_done)) != 0) throw std::runtime_error("no file");
        void* const at =
            ::mmap(nullptr, sizeof(work_done), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        ::close(fd);
        if (at == MAP_FAILED) throw std::runtime_error("no memory");
        work_ = static_cast<work_done*>(at); // zeros are a valid beginning
    }
    ~shared_work() { ::munmap(work_, sizeof(work_done)); }
    shared_work(const shared_work&) = delete;
    shared_work& operator=(const shared_work&) = delete;

    work_done* operator->() const { return work_; }

private:
    work_done* work_ = nullptr;
};

struct wishes {
    fs::path source = assets / "shapes.mp4";
    bool annotate = false;
    std::size_t every_n = 1;
};

vision::engine_options usual_engine() {
    vision::engine_options options;
    options.model.model = assets / "shapes.onnx";
    options.workers = 2;
    options.batch = 1;
    options.frames_in_flight = frames_in_flight;
    return options;
}

vision::video_options usual_video(const wishes& wanted, const fs::path& out) {
    vision::video_options options;
    options.source = wanted.source;
    options.out = out;
    options.annotate = wanted.annotate;
    options.every_n = wanted.every_n;
    options.previews = true;
    options.checkpoint = out / "checkpoint.jsonl";
    return options;
}

std::string variable(const char* name) {
    const char* const text = std::getenv(name);
    return text ? text : "";
}

// Runs the hidden test below in a process of its own. True if it was killed.
bool run_in_process(const wishes& wanted, const fs::path& out, const fs::path& work) {
    std::vector<std::string> const settings{
        "RESUME_SOURCE=" + wanted.source.string(), "RESUME_OUT=" + out.string(),
        "RESUME_WORK=" + work.string(), fmt::format("RESUME_ANNOTATE={:d}", wanted.annotate),
        fmt::format("RESUME_EVERY_N={}", wanted.every_n)};
    std::vector<char*> environment;
    for (const auto& each : settings) environment.push_back(const_cast<char*>(each.c_str()));
    for (char** each = environ; *each; ++each) environment.push_back(*each);
    environment.push_back(nullptr);
    pid_t const pid = ::fork();
    if (pid < 0) throw std::runtime_error("fork failed");
    if (pid == 0) {
        ::execle("/proc/self/exe", "child", "[child]", static_cast<char*>(nullptr),
                 environment.data());
        ::_exit(127);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGKILL;
    if (WEXITSTATUS(status) != 0) throw std::runtime_error("the run failed");
    return false;
}

// The files of a run that nobody disturbs, by what was wished.
struct undisturbed {
    std::string detections;
    std::string video;
};

undisturbed run_undisturbed(const wishes& wanted) {
    temp_folder const out;
    auto options = usual_video(wanted, out.path());
    options.checkpoint.clear();
    run_video(usual_engine(), options);
    return {file_text(out / "detections.jsonl"), file_text(out / "annotated.mp4")};
}

// Pictures are nothing to print.
bool equal_files(const fs::path& one, const fs::path& other) {
    return file_text(one / "detections.jsonl") == file_text(other / "detections.jsonl") &&
           file_text(one / "annotated.mp4") == file_text(other / "annotated.mp4");
}

void check_files(const fs::path& out, const undisturbed& expected) {
    CHECK(file_text(out / "detections.jsonl") == expected.detections);
    CHECK((file_text(out / "annotated.mp4") == expected.video));
    CHECK(!fs::exists(out / "checkpoint.jsonl"));
}

} // namespace

TEST_CASE("the run of a process of its own", "[.][child]") {
    shared_work const work(variable("RESUME_WORK"));
    auto engine = usual_engine();
    auto const count = [&work](std::atomic<std::uint64_t>& counter, std::uint64_t last) {
        if (++counter == last) ::kill(::getpid(), SIGKILL);
    };
    engine.before_read = [&] { count(work->decoded, work->die_at_read); };
    engine.before_inference = [&] { count(work->inferred, work->die_at_inference); };
    wishes wanted;
    wanted.source = variable("RESUME_SOURCE");
    wanted.annotate = variable("RESUME_ANNOTATE") == "1";
    wanted.every_n = std::stoul(variable("RESUME_EVERY_N"));
    run_video(engine, usual_video(wanted, variable("RESUME_OUT")));
}

TEST_CASE("a run killed at any frame is gone on with: equal files, less than two runs' work") {
    auto const annotate = GENERATE(false, true);
    wishes wanted;
    wanted.annotate = annotate;
    auto const expected = run_undisturbed(wanted);
    CHECK(expected.video.empty() != annotate);
    std::uint64_t const fresh = std::random_device()();
    for (std::uint64_t seed : {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{3}, fresh}) {
        INFO("seed " << seed);
        std::mt19937_64 random(seed);
        temp_folder const folder;
        shared_work const work(folder / "work");
        if (random() % 2 == 0) work->die_at_inference = 1 + random() % whole_run;
        else work->die_at_read = 1 + random() % whole_run;
        CAPTURE(work->die_at_inference, work->die_at_read);
        REQUIRE(run_in_process(wanted, folder / "out", folder / "work"));
        CHECK(!fs::exists(folder / "out/detections.jsonl"));
        REQUIRE(!run_in_process(wanted, folder / "out", folder / "work"));
        check_files(folder / "out", expected);
        CAPTURE(work->decoded.load(), work->inferred.load());
        CHECK(work->frames() < 2 * 2 * whole_run); // a run decodes and infers each frame
        CHECK(work->inferred >= whole_run);
        CHECK(work->inferred <= whole_run + frames_in_flight);
    }
}

TEST_CASE("a run killed again and again gets done, and infers no more than was under way twice") {
    wishes wanted;
    wanted.annotate = true;
    wanted.every_n = 2;
    auto const expected = run_undisturbed(wanted);
    std::mt19937_64 random(11);
    temp_folder const folder;
    shared_work const work(folder / "work");
    std::uint64_t kills = 0;
    // Each begins with what those before it have left.
    do {
        work->die_at_inference = work->inferred + 1 + frames_in_flight + random() % 40;
    } while (run_in_process(wanted, folder / "out", folder / "work") && ++kills < 100);
    CHECK(kills >= 3);
    CHECK(kills < 20);
    check_files(folder / "out", expected);
    CAPTURE(kills, work->inferred.load());
    CHECK(work->inferred <= whole_run / 2 + kills * frames_in_flight);
}

TEST_CASE("a run that is stopped leaves a checkpoint alone, and another one goes on from it") {
    auto const annotate = GENERATE(false, true);
    wishes wanted;
    wanted.annotate = annotate;
    auto const expected = run_undisturbed(wanted);
    temp_folder const folder;
    auto const first = usual_video(wanted, folder / "first");
    auto const stopped =
        run_video(usual_engine(), first, [](vision::engine& engine, const auto& part) {
            if (part.frames_done >= 90) engine.stop();
        });
    CHECK(stopped.summary.interrupted);
    CHECK(std::distance(fs::directory_iterator(folder / "first"), {}) == 1);
    auto second = usual_video(wanted, folder / "second");
    second.earlier = {first.checkpoint, folder / "gone"};
    std::uint64_t inferred = 0, resumed = 0;
    auto const done = run_video(usual_engine(), second, [&](vision::engine& engine, const auto&) {
        inferred = engine.frames_inferred;
        resumed = engine.frames_resumed;
    });
    check_files(folder / "second", expected);
    CHECK(fs::exists(first.checkpoint)); // it is not this run's
    CHECK(done.summary.frames == 300);
    CHECK(done.summary.resumed >= 90);
    CHECK(resumed == static_cast<std::uint64_t>(done.summary.resumed));
    CHECK(inferred + resumed == whole_run);
    CHECK(done.parts.back().frames_resumed == done.summary.resumed);
    std::int64_t listed = 0;
    for (const auto& part : done.parts) listed += static_cast<std::int64_t>(part.frames.size());
    CHECK(listed == 300); // known ones, too
    std::int64_t detections = 0;
    for (const auto& part : done.parts) {
        for (const auto& frame : part.frames) {
            detections += static_cast<std::int64_t>(frame.found.size());
        }
    }
    CHECK(detections == done.summary.detections);
}

TEST_CASE("what another model or another threshold found is not gone on from") {
    temp_folder const folder;
    wishes const wanted;
    auto const first = usual_video(wanted, folder / "first");
    run_video(usual_engine(), first, [](vision::engine& engine, const auto&) { engine.stop(); });
    auto second = usual_video(wanted, folder / "second");
    second.earlier = {first.checkpoint};
    auto engine = usual_engine();
    SECTION("threshold") { second.confidence = 0.123F; }
    SECTION("model") {
        std::string changed = file_text(assets / "shapes.onnx");
        changed += std::string("\x92\x05\x01x", 4); // a field that readers pass over
        engine.model.model = folder.put("shapes.onnx", changed);
    }
    SECTION("frames") { second.every_n = 3; }
    auto const done = run_video(engine, second);
    CHECK(done.summary.resumed == 0);
    CHECK(done.summary.frames == (second.every_n == 3 ? 100 : 300));
}

TEST_CASE("a damaged video is gone on with as if it had been read from its beginning") {
    NEEDS_REAL_DATA();
    auto const annotate = GENERATE(false, true);
    for (const auto& entry : fs::directory_iterator(real_data() / "video_bad")) {
        if (!entry.is_regular_file()) continue;
        wishes wanted;
        wanted.source = entry.path();
        wanted.annotate = annotate;
        INFO(entry.path());
        temp_folder const folder;
        auto const plain = usual_video(wanted, folder / "plain");
        finished_video expected;
        try {
            expected = run_video(usual_engine(), plain);
        } catch (const vision::source_error&) {
            continue; // it is none
        }
        auto engine = usual_engine();
        auto first = usual_video(wanted, folder / "first");
        first.chunk = 1;
        run_video(engine, first, [&](vision::engine& running, const auto& part) {
            if (part.frames_done > expected.summary.frames / 2) running.stop();
        });
        auto second = usual_video(wanted, folder / "second");
        second.earlier = {first.checkpoint};
        auto const done = run_video(engine, second);
        bool equal = equal_files(folder / "second", folder / "plain");
        if (!equal) { // FFmpeg's threads may conceal damage in another way each time
            run_video(engine, usual_video(wanted, folder / "again"));
            equal = !equal_files(folder / "again", folder / "plain");
        }
        CHECK(equal);
        CHECK(done.summary.undecodable == expected.summary.undecodable);
        CHECK(done.summary.warnings == expected.summary.warnings);
    }
}
