// SPDX-License-Identifier: BSL-1.0
// How the service ends.
#include "running_site.hpp"

#include <catch2/catch_test_macros.hpp>

#include <csignal>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

using test::running_site;
using test::shapes_video;
using vision::service::job_state;

namespace {

// Events of a job, read while other things happen.
class watching {
public:
    watching(running_site& site, const std::string& id) : client_(site.port()) {
        client_.send_raw("GET /v1/jobs/" + id + "/events HTTP/1.0\r\nHost: a\r\n\r\n");
        read_until("event: snapshot");
    }
    void read_until(const std::string& text) {
        while (seen_.find(text) == std::string::npos) {
            std::array<char, 4096> some{};
            boost::system::error_code ec;
            std::size_t const n = client_.socket().read_some(boost::asio::buffer(some), ec);
            seen_.append(some.data(), n);
            if (ec) break;
        }
        CHECK(seen_.find(text) != std::string::npos);
    }

private:
    test::http_client client_;
    std::string seen_;
};

} // namespace

TEST_CASE("a service that is to end finishes what runs, takes no more, and says so") {
    auto options = test::usual_options();
    options.max_running = 1;
    test::held_up inference(options);
    running_site site(options);
    std::string const running = site.submit(shapes_video(), "?chunk=1");
    std::string const waiting = site.submit(shapes_video(), "?every_n=2");
    watching client(site, running);
    client.read_until("\"running\"");
    watching other(site, waiting);
    site.begin_to_stop();
    inference.let_go();
    site.stop();
    other.read_until("event: draining");
    CHECK(site.job_at_the_end(running).state == job_state::succeeded);
    CHECK(site.job_at_the_end(waiting).state == job_state::queued);
}

TEST_CASE("without patience for what runs it ends at once, and the job waits for the next one") {
    auto options = test::usual_options();
    options.drain = std::chrono::seconds(0);
    running_site site(options);
    std::string const running = site.submit(shapes_video(), "?chunk=1");
    watching client(site, running);
    client.read_until("\"running\"");
    site.stop();
    auto const left = site.job_at_the_end(running);
    CHECK((left.state == job_state::queued || left.state == job_state::succeeded));
}

TEST_CASE("the data folder is one service's, and files of others in it stay") {
    temp_folder folder;
    auto options = test::usual_options();
    options.data = folder.path();
    std::filesystem::create_directories(folder / "results");
    std::ofstream(folder / "results/mine.txt") << "mine";
    std::filesystem::create_directories(folder / ("results/" + std::string(64, 'a')));
    std::filesystem::create_directories(folder / "uploads");
    std::ofstream(folder / ("uploads/" + std::string(32, '0') + ".part")) << "left behind";
    boost::asio::io_context io;
    vision::service::service const first(io, options);
    CHECK(file_text(folder / "results/mine.txt") == "mine");
    CHECK(!std::filesystem::exists(folder / ("results/" + std::string(64, 'a'))));
    CHECK(std::filesystem::is_empty(folder / "uploads"));
}

TEST_CASE("the program ends well at a signal, and at once at a second one") {
    temp_folder folder;
    int out[2];
    REQUIRE(pipe(out) == 0);
    auto const text = [&] {
        std::string line;
        for (char c = 0; read(out[0], &c, 1) == 1 && c != '\n';) line += c;
        return line;
    };
    std::string const model = (test::assets / "shapes.onnx").string();
    std::string const data = (folder / "data").string();
    pid_t const pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        execl(TIDEGATE_VISION_PROGRAM, TIDEGATE_VISION_PROGRAM, "serve", "--model", model.c_str(),
              "--data", data.c_str(), "--port", "0", "--log-level", "off", nullptr);
        _exit(127);
    }
    std::string const hello = text();
    REQUIRE(hello.starts_with("tidegate-vision on http://127.0.0.1:"));
    auto const port = static_cast<std::uint16_t>(std::stoul(hello.substr(hello.rfind(':') + 1)));
    int status = 0;
    SECTION("idle") {
        CHECK(test::ask(port, "GET", "/livez").status == 200);
        std::string const second = std::string(TIDEGATE_VISION_PROGRAM) +
                                   " serve --port 0 --model " + model + " --data " + data + " 2>" +
                                   (folder / "err").string();
        CHECK(WEXITSTATUS(std::system(second.c_str())) == 1);
        CHECK(file_text(folder / "err") ==
              "tidegate-vision: the folder '" + data + "' is used by another process\n");
        kill(pid, SIGTERM);
        waitpid(pid, &status, 0);
        CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
    }
    SECTION("busy, and then again") {
        std::string const id(test::ask(port, "POST", "/v1/jobs?chunk=1", shapes_video())
                                 .json()
                                 .at("id")
                                 .as_string());
        kill(pid, SIGTERM);
        while (kill(pid, SIGTERM) == 0 && waitpid(pid, &status, WNOHANG) == 0) {
            sched_yield();
        }
        CHECK((WIFEXITED(status) && (WEXITSTATUS(status) == 130 || WEXITSTATUS(status) == 0)));
    }
    close(out[0]);
    close(out[1]);
}
