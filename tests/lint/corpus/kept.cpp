// SPDX-License-Identifier: BSL-1.0
// Callables that are kept and called later, virtual functions, and calls told not to wait.
#include "prelude.hpp"

#include <tidegate/worker_pool.hpp>

#include <functional>
#include <utility>

#include <sys/wait.h>

namespace kept {

struct worker {
    std::function<void()> on_done = [] { ::usleep(1); }; // finds blocking-sleep
    std::function<void()> later;
    void (*plain)() = nullptr;
    worker() : later([] { ::usleep(2); }) {} // finds blocking-sleep
    task p01() { on_done(); co_return; }
    task p02() { later(); co_return; }
    task p03() { plain(); co_return; }
    void set() { plain = [] { ::usleep(3); }; } // finds blocking-sleep
    std::function<void()> unused = [] { ::usleep(4); };
    std::function<void()> harmless = [] {};
    task n01() { harmless(); co_return; }
};

task p04() { std::function<void()> const f = [] { ::usleep(5); }; f(); co_return; } // finds blocking-sleep
task p05() { std::function<void()> f; f = [] { ::usleep(6); }; f(); co_return; } // finds blocking-sleep
task n02(tidegate::worker_pool& pool) { std::function<void()> f = [] { ::usleep(1); }; co_await pool.submit(std::move(f)); }
task n03() { std::function<void()> f = [] { ::usleep(1); }; (void)f; co_return; }

struct store {
    virtual ~store() = default;
    virtual void save() { ::usleep(7); } // finds blocking-sleep
    virtual void load() = 0;
};
struct slow_store : store {
    void save() override {}
    void load() override { ::usleep(8); } // finds blocking-sleep
};
task p06(store& s) { s.save(); co_return; }
task n04(store& s) { s.load(); co_return; }
task n05(slow_store& s) { s.save(); co_return; }
task p07(slow_store& s) { s.load(); co_return; }

void p08(asio::signal_set& s) { s.async_wait([](auto, int) { ::waitpid(-1, nullptr, 0); }); } // finds blocking-process
void n06(asio::signal_set& s) { s.async_wait([](auto, int) { int status = 0; while (::waitpid(-1, &status, WNOHANG) > 0) {} }); }
void n07(tcp::socket& s, asio::mutable_buffer b) { ::recv(s.native_handle(), b.data(), b.size(), MSG_DONTWAIT); }
task n08(tcp::socket& s, asio::mutable_buffer b) { ::recv(s.native_handle(), b.data(), b.size(), MSG_DONTWAIT | MSG_PEEK); co_return; }

} // namespace kept
