// SPDX-License-Identifier: BSL-1.0
// Functions that an executor runs, and those that a pool does.
#include "prelude.hpp"

#include <tidegate/worker_pool.hpp>

namespace handlers {

void named() { ::usleep(1); } // finds blocking-sleep

void p01(asio::io_context& io) { asio::post(io, [] { ::usleep(2); }); } // finds blocking-sleep
void p02(asio::io_context& io) { asio::dispatch(io, [] { ::usleep(3); }); } // finds blocking-sleep
void p03(asio::io_context& io) { asio::defer(io, [] { ::usleep(4); }); } // finds blocking-sleep
void p04(asio::steady_timer& t) { t.async_wait([](auto) { ::usleep(5); }); } // finds blocking-sleep
void p05(tcp::socket& s, asio::mutable_buffer b) { s.async_read_some(b, [](auto, auto) { ::usleep(6); }); } // finds blocking-sleep
void p06(asio::io_context& io) { asio::post(io, named); }
void p07(asio::io_context& io) { auto f = [] { ::usleep(7); }; asio::post(io, f); } // finds blocking-sleep
void p08(asio::io_context& io) { auto f = [] { ::usleep(8); }; asio::post(io, std::move(f)); } // finds blocking-sleep
void p09(asio::any_io_executor e) { asio::post(e, [] { [] { ::usleep(9); }(); }); } // finds blocking-sleep
void p10(tcp::acceptor& a) { a.async_accept([](boost::system::error_code, tcp::socket s) { char b; s.read_some(asio::buffer(&b, 1)); }); } // finds blocking-socket
struct session { void start(asio::steady_timer& t) { t.async_wait([this](auto) { nap(); }); } void nap() { ::usleep(10); } }; // finds blocking-sleep
void p11(asio::signal_set& s) { s.async_wait([](auto, int) { std::ofstream out("x"); }); } // finds blocking-file

void n01(asio::thread_pool& pool) { asio::post(pool, [] { ::usleep(1); }); }
void n02(tidegate::worker_pool& pool) { pool.post([] { ::usleep(1); }); }
task n03(tidegate::worker_pool& pool) { auto job = [] { ::usleep(1); }; co_await pool.submit(job); }
task n04(tidegate::worker_pool& pool) { auto job = [] { std::ifstream in("x"); return 1; }; auto running = pool.async_submit(job, asio::deferred); co_await std::move(running); }
void n05(asio::io_context& io) { asio::post(io, [] {}); }
void n06(asio::io_context& io) { auto f = [] { ::usleep(1); }; (void)f; asio::post(io, [] {}); }
void n07(asio::io_context& io) { io.run(); ::usleep(1); }
void n08(asio::thread_pool& pool) { asio::post(pool.get_executor(), [] { ::usleep(1); }); }
task n09(tidegate::worker_pool& pool) { auto outer = [] { auto inner = [] { ::usleep(1); }; inner(); }; co_await pool.submit(outer); }
void n10(asio::steady_timer& t) { t.async_wait([](auto) { std::thread([] { ::usleep(1); }).detach(); }); }
void n11(asio::io_context& io) { asio::post(io, [&io] { asio::post(io, [] {}); }); }

} // namespace handlers
