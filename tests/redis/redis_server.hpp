// SPDX-License-Identifier: BSL-1.0
// A real redis-server for a test, on a free port of the loopback interface.
#pragma once

#include "support/folder.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/redis/config.hpp>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <string>

#include <fcntl.h>
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
    redis_server() : port_(free_port()) { start(); }
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
        std::string const program = redis_program();
        std::string const port = std::to_string(port_);
        std::string const folder = folder_.path().string();
        process_ = ::fork();
        if (process_ < 0) throw std::runtime_error("fork failed");
        if (process_ == 0) {
            int const nothing = ::open("/dev/null", O_RDWR);
            ::dup2(nothing, 1);
            ::dup2(nothing, 2);
            ::execl(program.c_str(), "redis-server", "--port", port.c_str(), "--bind", "127.0.0.1",
                    "--save", "", "--appendonly", "no", "--dir", folder.c_str(),
                    static_cast<char*>(nullptr));
            ::_exit(127);
        }
        await_connection();
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

    void await_connection() const {
        boost::asio::io_context io;
        auto const until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        for (;;) {
            boost::asio::ip::tcp::socket socket(io);
            boost::system::error_code ec;
            ec = socket.connect({boost::asio::ip::address_v4::loopback(), port_}, ec);
            if (!ec) return;
            if (std::chrono::steady_clock::now() > until)
                throw std::runtime_error("redis-server does not answer");
            boost::asio::steady_timer(io, std::chrono::milliseconds(5)).wait();
        }
    }

    folder folder_;
    unsigned short port_;
    pid_t process_ = 0;
};

} // namespace test

/// Skips the test where there is no redis-server.
#define NEEDS_REDIS()                                                                              \
    if (test::redis_program().empty()) SKIP("redis-server is not installed")
