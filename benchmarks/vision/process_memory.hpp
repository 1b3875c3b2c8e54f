// SPDX-License-Identifier: BSL-1.0
// The peak memory of another program.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace bench {

// Of a process that runs, in MB (10^6 bytes); 0 once it has ended.
inline double peak_memory_mb(pid_t process) {
    std::ifstream status("/proc/" + std::to_string(process) + "/status");
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) * 1024 / 1e6;
    }
    return 0;
}

// Runs a program, its output thrown away, to its end; gives its peak memory. Throws
// std::runtime_error where it fails.
//
// Looks at the process while it runs, because wait4's ru_maxrss would not do: Linux counts there
// what the process was before exec too, and that is a copy of this one with its model loaded.
// posix_spawn returns after exec, so nothing of that is seen here. What the last few milliseconds
// add is missed; the peak of a video is long before.
inline double peak_memory_of(std::vector<std::string> command) {
    std::vector<char*> arguments;
    for (auto& word : command) arguments.push_back(word.data());
    arguments.push_back(nullptr);

    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    for (int const stream : {STDOUT_FILENO, STDERR_FILENO}) {
        posix_spawn_file_actions_addopen(&quiet, stream, "/dev/null", O_WRONLY, 0);
    }
    pid_t process = 0;
    bool const spawned =
        posix_spawn(&process, arguments[0], &quiet, nullptr, arguments.data(), environ) == 0;
    posix_spawn_file_actions_destroy(&quiet);
    if (!spawned) throw std::runtime_error("cannot start " + command[0]);

    double peak = 0;
    int status = 0;
    while (waitpid(process, &status, WNOHANG) == 0) {
        peak = std::max(peak, peak_memory_mb(process));
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    if (status != 0) throw std::runtime_error(command[0] + " failed");
    return peak;
}

} // namespace bench
