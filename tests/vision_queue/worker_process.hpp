// SPDX-License-Identifier: BSL-1.0
// "tidegate-vision work" in a process of its own, to be killed, stopped and told to end.
#pragma once

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace test {

class worker_process {
public:
    // `log` gets what it says of itself.
    worker_process(std::vector<std::string> arguments, std::filesystem::path log)
        : log_(std::move(log)) {
        arguments.insert(arguments.begin(), {TIDEGATE_VISION_PROGRAM, "work", "--log-json"});
        std::vector<char*> words;
        for (std::string& each : arguments) words.push_back(each.data());
        words.push_back(nullptr);
        pid_ = ::fork();
        if (pid_ < 0) throw std::runtime_error("fork failed");
        if (pid_ > 0) return;
        int const file = ::open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
        ::dup2(file, STDOUT_FILENO);
        ::dup2(file, STDERR_FILENO);
        ::execv(TIDEGATE_VISION_PROGRAM, words.data());
        ::_exit(127);
    }
    worker_process(const worker_process&) = delete;
    worker_process& operator=(const worker_process&) = delete;
    ~worker_process() { kill(); }

    pid_t pid() const { return pid_; }
    void stop() const { ::kill(pid_, SIGSTOP); }
    void go_on() const { ::kill(pid_, SIGCONT); }
    void kill() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        int status = 0;
        ::waitpid(std::exchange(pid_, 0), &status, 0);
    }
    // The exit status, after the signal by which services are ended.
    int end() {
        ::kill(pid_, SIGTERM);
        int status = 0;
        ::waitpid(std::exchange(pid_, 0), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    // What it has said so far.
    std::string said() const {
        std::ifstream in(log_, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }

private:
    std::filesystem::path log_;
    pid_t pid_ = 0;
};

} // namespace test
