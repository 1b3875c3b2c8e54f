// SPDX-License-Identifier: BSL-1.0
// A server in a process of its own, and what it takes.
#pragma once

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace bench {

class program {
public:
    // Waits for its first line, which ends in the port that it listens on.
    explicit program(std::vector<std::string> arguments) {
        int out[2];
        if (pipe(out) != 0) throw std::runtime_error("no pipe");
        pid_ = fork();
        if (pid_ == 0) {
            dup2(out[1], STDOUT_FILENO);
            std::vector<char*> argv;
            for (std::string& a : arguments) argv.push_back(a.data());
            argv.push_back(nullptr);
            execv(argv[0], argv.data());
            _exit(127);
        }
        close(out[1]);
        std::string line;
        for (char c = 0; read(out[0], &c, 1) == 1 && c != '\n';) line += c;
        close(out[0]);
        if (line.rfind(':') == std::string::npos) throw std::runtime_error("it did not start");
        port_ = static_cast<std::uint16_t>(std::stoul(line.substr(line.rfind(':') + 1)));
    }
    ~program() {
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    program(program const&) = delete;
    program& operator=(program const&) = delete;

    std::uint16_t port() const noexcept { return port_; }

    // The most that it ever had (VmHWM), and what it has now (VmRSS), in megabytes.
    double memory_mb(std::string const& what) const {
        std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
        for (std::string line; std::getline(status, line);) {
            if (line.starts_with(what + ":")) return std::stod(line.substr(what.size() + 1)) / 1024;
        }
        throw std::runtime_error("no " + what);
    }

private:
    pid_t pid_ = -1;
    std::uint16_t port_ = 0;
};

} // namespace bench
