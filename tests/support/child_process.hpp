// SPDX-License-Identifier: BSL-1.0
// A program in a process of its own, to be killed, stopped and told to end.
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
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

namespace test {

class child_process {
public:
    // `words` are the program's path and its arguments. `log` gets what it says.
    child_process(std::vector<std::string> words, std::filesystem::path log)
        : log_(std::move(log)) {
        std::vector<char*> arguments;
        for (std::string& each : words) arguments.push_back(each.data());
        arguments.push_back(nullptr);
        pid_ = ::fork();
        if (pid_ < 0) throw std::runtime_error("fork failed");
        if (pid_ > 0) return;
        int const file = ::open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
        ::dup2(file, STDOUT_FILENO);
        ::dup2(file, STDERR_FILENO);
        ::execv(arguments[0], arguments.data());
        ::_exit(127);
    }
    child_process(const child_process&) = delete;
    child_process& operator=(const child_process&) = delete;
    ~child_process() { kill(); }

    pid_t pid() const { return pid_; }
    void stop() const { ::kill(pid_, SIGSTOP); }
    void go_on() const { ::kill(pid_, SIGCONT); }
    void kill() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        int status = 0;
        ::waitpid(std::exchange(pid_, 0), &status, 0);
    }
    // Asks it to end, as often as it takes if `again_and_again`. Its exit status; -1: it was
    // killed.
    int end(bool again_and_again = false) {
        ::kill(pid_, SIGTERM);
        int status = 0;
        int const how = again_and_again ? WNOHANG : 0;
        while (::waitpid(pid_, &status, how) == 0) {
            ::sched_yield();
            ::kill(pid_, SIGTERM);
        }
        pid_ = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }

    // What it has said so far.
    std::string said() const {
        std::ifstream in(log_, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    // The first line that begins so, once it is there. Throws if the program ends before.
    std::string line(const std::string& begin) {
        for (;;) {
            int status = 0;
            bool const ended = ::waitpid(pid_, &status, WNOHANG) != 0;
            std::string const all = "\n" + said();
            auto const at = all.find("\n" + begin);
            auto const end = at == std::string::npos ? at : all.find('\n', at + 1);
            if (ended) pid_ = 0;
            if (end != std::string::npos) return all.substr(at + 1, end - at - 1);
            if (ended) throw std::runtime_error("the program ended, and had said:" + all);
            ::sched_yield(); // the processor is the program's
        }
    }

private:
    std::filesystem::path log_;
    pid_t pid_ = 0;
};

} // namespace test
