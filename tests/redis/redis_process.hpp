// SPDX-License-Identifier: BSL-1.0
// A real redis-server for a test or a benchmark, on a free port of the loopback interface.
#pragma once

#include "../support/folder.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/redis/config.hpp>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

namespace test {

/// Where redis-server is; empty if it is not installed.
inline std::string redis_program() {
    char const* const path = std::getenv("PATH");
    std::istringstream folders(std::string(path ? path : "") + ":/usr/bin:/usr/local/bin");
    for (std::string folder; std::getline(folders, folder, ':');) {
        std::string const program = folder + "/redis-server";
        if (!folder.empty() && ::access(program.c_str(), X_OK) == 0) return program;
    }
    return {};
}

/// Runs while it lives; may be frozen, killed and started again on the same port.
class redis_server {
public:
    /// What becomes of its data when it is killed and started again.
    enum class data { is_lost, is_kept };

    explicit redis_server(data what = data::is_lost) : data_(what) {
        for (int attempt = 0;; ++attempt) {
            port_ = free_port(); // which somebody else may be quicker to take
            if (started()) return;
            if (attempt == 5) throw std::runtime_error("redis-server does not start");
        }
    }
    redis_server(redis_server const&) = delete;
    redis_server& operator=(redis_server const&) = delete;
    ~redis_server() { kill(); }

    unsigned short port() const noexcept { return port_; }
    boost::redis::config config() const {
        boost::redis::config c;
        c.addr = {"127.0.0.1", std::to_string(port_)};
        return c;
    }

    /// Returns when it accepts connections.
    void start() {
        if (!started()) throw std::runtime_error("redis-server does not start");
    }
    void kill() {
        if (process_ <= 0) return;
        ::kill(process_, SIGKILL);
        int status = 0;
        ::waitpid(process_, &status, 0);
        process_ = 0;
    }
    void freeze() { ::kill(process_, SIGSTOP); }
    void thaw() { ::kill(process_, SIGCONT); }

private:
    static unsigned short free_port() {
        boost::asio::io_context io;
        boost::asio::ip::tcp::acceptor one(io, {boost::asio::ip::address_v4::loopback(), 0});
        return one.local_endpoint().port();
    }

    // It says so when it is ready, and ends if it cannot be.
    bool started() {
        std::string const program = redis_program();
        std::string const port = std::to_string(port_);
        std::string const path = folder_.path().string();
        char const* const keeps = data_ == data::is_kept ? "yes" : "no";
        int ends[2] = {};
        if (::pipe(ends) != 0) throw std::runtime_error("pipe failed");
        process_ = ::fork();
        if (process_ < 0) throw std::runtime_error("fork failed");
        if (process_ == 0) {
            ::dup2(ends[1], 1);
            ::close(ends[0]);
            ::close(ends[1]);
            ::execl(program.c_str(), "redis-server", "--port", port.c_str(), "--bind", "127.0.0.1",
                    "--save", "", "--appendonly", keeps, "--appendfsync", "always", "--dir",
                    path.c_str(), static_cast<char*>(nullptr));
            ::_exit(127);
        }
        ::close(ends[1]);
        std::string said;
        char part[512];
        bool ready = false;
        for (::ssize_t n = 0; !ready && (n = ::read(ends[0], part, sizeof part)) > 0;) {
            said.append(part, static_cast<std::size_t>(n));
            ready = said.find("Ready to accept connections") != std::string::npos;
        }
        ::close(ends[0]);
        if (!ready) kill();
        return ready;
    }

    folder folder_;
    data data_;
    unsigned short port_ = 0;
    pid_t process_ = 0;
};

} // namespace test
