// SPDX-License-Identifier: BSL-1.0
// The program as a user meets it: messages, exit codes, Ctrl-C, and what it leaves behind.
#include "real_data.hpp"
#include "temp_folder.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <fcntl.h>
#include <fstream>
#include <sched.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

const std::filesystem::path assets =
    std::filesystem::path(TIDEGATE_SOURCE_ROOT) / "examples" / "vision" / "assets";

struct outcome {
    int status = -1; // 128 + signal when it was killed
    std::string out;
    std::string err;
};

class program {
public:
    explicit program(std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), TIDEGATE_VISION_PROGRAM);
        std::vector<char*> argv;
        for (auto& a : arguments) argv.push_back(a.data());
        argv.push_back(nullptr);
        pid_ = fork();
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            redirect("out", STDOUT_FILENO);
            redirect("err", STDERR_FILENO);
            execv(argv[0], argv.data());
            _exit(127);
        }
    }

    void signal(int number) const { kill(pid_, number); }

    // Until the program has written `text` to its standard error.
    void wait_for_error_text(const std::string& text) const {
        while (file_text(files_ / "err").find(text) == std::string::npos) {
            REQUIRE(waitpid(pid_, nullptr, WNOHANG) == 0);
            sched_yield(); // the processor is the program's
        }
    }

    outcome wait() {
        int status = 0;
        REQUIRE(waitpid(pid_, &status, 0) == pid_);
        return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
                file_text(files_ / "out"), file_text(files_ / "err")};
    }

private:
    void redirect(const char* name, int to) const {
        int const fd = open((files_ / name).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(fd, to);
    }

    temp_folder files_;
    pid_t pid_ = -1;
};

outcome run(std::vector<std::string> arguments) { return program(std::move(arguments)).wait(); }

std::vector<std::string> detect(const std::filesystem::path& model,
                                const std::filesystem::path& source,
                                const std::filesystem::path& out,
                                std::vector<std::string> more = {}) {
    std::vector<std::string> all{"detect", "--model", model, "--source", source, "--out", out};
    all.insert(all.end(), more.begin(), more.end());
    return all;
}

std::ptrdiff_t lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

// One line of error, a failure, and nothing left behind.
void check_refused(const std::vector<std::string>& arguments, const std::filesystem::path& out) {
    auto const r = run(arguments);
    CAPTURE(r.err, r.out);
    CHECK(r.status != 0);
    CHECK(r.status < 128);
    CHECK(lines(r.err) == 1);
    if (std::filesystem::is_directory(out)) CHECK(std::filesystem::is_empty(out));
}

} // namespace

TEST_CASE("a good run says where its results are") {
    temp_folder const out;
    auto const r = run(detect(assets / "shapes.onnx", assets / "shapes.mp4", out / "o",
                              {"--workers", "2", "--every-n", "10"}));
    CAPTURE(r.err);
    CHECK(r.status == 0);
    CHECK(r.out.find("30 frames") != std::string::npos);
    for (const char* name : {"detections.jsonl", "annotated.mp4", "report.txt", "report.json"}) {
        CHECK(std::filesystem::file_size(out / "o" / name) > 0);
    }
    auto const report = boost::json::parse(file_text(out / "o" / "report.json"));
    CHECK(report.at("frames").to_number<int>() == 30);
}

TEST_CASE("help helps") {
    CHECK(run({"--help"}).status == 0);
    auto const r = run({"detect", "--help"});
    CHECK(r.status == 0);
    for (const char* option : {"--model", "--batch", "--every-n", "--queue", "--naive"}) {
        CHECK(r.out.find(option) != std::string::npos);
    }
}

TEST_CASE("bad sources are refused in one line") {
    temp_folder const in, out;
    for (std::filesystem::path const& source :
         {std::filesystem::path("/nowhere/at/all.mp4"), in.put("text.mp4", "not a video"),
          in.put("empty.mp4", ""), in.put("cut.avi", std::string("RIFF\x7f\0\0\0AVI LIST", 16)),
          in.path(), std::filesystem::path("rtsp://localhost/stream")}) {
        CAPTURE(source.string());
        check_refused(detect(assets / "shapes.onnx", source, out / "o", {"--workers", "1"}),
                      out / "o");
        check_refused(detect(assets / "shapes.onnx", source, out / "n", {"--naive"}), out / "n");
    }
}

TEST_CASE("bad models are refused in one line") {
    temp_folder const in, out;
    for (std::filesystem::path const& model :
         {std::filesystem::path("/nowhere/at/all.onnx"), in.put("text.onnx", "not a model")}) {
        CAPTURE(model.string());
        check_refused(detect(model, assets / "shapes.mp4", out / "o"), out / "o");
    }
}

TEST_CASE("absurd options are refused in one line that names them") {
    temp_folder const out;
    auto const option = GENERATE(values<std::vector<std::string>>({{"--batch", "0"},
                                                                   {"--batch", "17"},
                                                                   {"--batch", "-3"},
                                                                   {"--workers", "0"},
                                                                   {"--queue", "-1"},
                                                                   {"--queue", "1"},
                                                                   {"--every-n", "0"},
                                                                   {"--chunk", "0"},
                                                                   {"--confidence", "1.5"},
                                                                   {"--iou", "-0.1"},
                                                                   {"--max-delay", "-5"},
                                                                   {"--decoder-timeout", "0"},
                                                                   {"--layout", "yolov99"}}));
    CAPTURE(option[0], option[1]);
    auto const r = run(detect(assets / "shapes.onnx", assets / "shapes.mp4", out / "o", option));
    CAPTURE(r.err);
    CHECK(r.status != 0);
    CHECK(r.err.find(option[0].substr(2)) != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(out / "o"));
}

TEST_CASE("an output folder that cannot be made or written is refused") {
    temp_folder const in;
    auto const blocked = in.put("file", "in the way");
    check_refused(detect(assets / "shapes.onnx", assets / "shapes.mp4", blocked / "o"),
                  blocked / "o");
    check_refused(detect(assets / "shapes.onnx", assets / "shapes.mp4", "/proc/nothing"),
                  "/proc/nothing");
}

TEST_CASE("every broken video ends in an error or a result, quietly") {
    NEEDS_REAL_DATA();
    temp_folder const out;
    for (const auto& entry : std::filesystem::directory_iterator(real_data() / "video_bad")) {
        CAPTURE(entry.path().filename().string());
        auto const r = run(detect(real_data() / "models/synthetic_blob_v8_416_dyn.onnx",
                                  entry.path(), out / entry.path().stem(),
                                  {"--workers", "2", "--no-video", "--every-n", "5"}));
        CAPTURE(r.err);
        CHECK(r.status < 128);
        bool const truncated = entry.path().stem().string().ends_with("_trunc");
        if (truncated) CHECK(r.err.find("truncated") != std::string::npos);
        if (r.status != 0 || truncated) CHECK(lines(r.err) == 1);
        else CHECK(std::filesystem::exists(out / entry.path().stem() / "report.json"));
    }
}

TEST_CASE("Ctrl-C ends a run soon, with whole files and exit code 130") {
    temp_folder const out;
    program p(detect(assets / "shapes.onnx", assets / "shapes.mp4", out / "o",
                     {"--workers", "1", "--chunk", "1"}));
    p.wait_for_error_text("frames/s");
    auto const start = std::chrono::steady_clock::now();
    p.signal(GENERATE(SIGINT, SIGTERM));
    auto const r = p.wait();
    auto const took = std::chrono::steady_clock::now() - start;
    CAPTURE(r.out, r.err);
    if (r.status == 0) SKIP("it was done before the signal came");
    CHECK(r.status == 130);
    // The promise is 250 ms; a loaded machine may take longer to schedule it.
    CHECK(took < std::chrono::seconds(2));
    double const milliseconds = std::chrono::duration<double, std::milli>(took).count();
    WARN("stopped after " << milliseconds << " ms");
    auto const report = boost::json::parse(file_text(out / "o" / "report.json"));
    CHECK(report.at("interrupted").as_bool());
    CHECK(report.at("frames").to_number<std::ptrdiff_t>() ==
          lines(file_text(out / "o" / "detections.jsonl")));
    for (const auto& entry : std::filesystem::directory_iterator(out / "o")) {
        CHECK(entry.path().string().find(".part") == std::string::npos);
    }
}
