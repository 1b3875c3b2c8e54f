// SPDX-License-Identifier: BSL-1.0
// Calls that block, made by a coroutine itself.
#include "prelude.hpp"

namespace direct {

task p01() { std::this_thread::sleep_for(1ms); co_return; } // finds blocking-sleep
task p02() { std::this_thread::sleep_until(std::chrono::steady_clock::now()); co_return; } // finds blocking-sleep
task p03() { ::usleep(1); co_return; } // finds blocking-sleep
task p04() { sleep(1); co_return; } // finds blocking-sleep
task p05() { timespec t{}; nanosleep(&t, nullptr); co_return; } // finds blocking-sleep
task p06(std::future<int> f) { f.get(); co_return; } // finds blocking-wait
task p07(std::future<int> f) { f.wait(); co_return; } // finds blocking-wait
task p08(std::shared_future<int> f) { f.get(); co_return; } // finds blocking-wait
task p09(std::future<int> f) { f.wait_for(1ms); co_return; } // finds blocking-wait
task p10(std::thread t) { t.join(); co_return; } // finds blocking-wait
task p11() { std::jthread t([] {}); co_return; } // finds blocking-wait
task p12(std::latch& l) { l.wait(); co_return; } // finds blocking-wait
task p13(std::counting_semaphore<4>& s) { s.acquire(); co_return; } // finds blocking-wait
task p14(std::atomic<int>& a) { a.wait(0); co_return; } // finds blocking-wait
task p15(std::condition_variable& c, std::unique_lock<std::mutex>& l) { c.wait(l); co_return; } // finds blocking-wait
task p16() { pollfd p{}; poll(&p, 1, 10); co_return; } // finds blocking-wait
task p17() { int r = system("true"); (void)r; co_return; } // finds blocking-process
task p18() { int s = 0; waitpid(1, &s, 0); co_return; } // finds blocking-process
task p19(tcp::socket& s) { s.connect(tcp::endpoint()); co_return; } // finds blocking-socket
task p20(tcp::socket& s) { char b[4]; s.read_some(asio::buffer(b)); co_return; } // finds blocking-socket
task p21(tcp::socket& s) { char b[4]{}; asio::write(s, asio::buffer(b)); co_return; } // finds blocking-socket
task p22(tcp::socket& s) { char b[4]; asio::read(s, asio::buffer(b)); co_return; } // finds blocking-socket
task p23(tcp::acceptor& a) { tcp::socket s = a.accept(); co_return; } // finds blocking-socket
task p24(asio::steady_timer& t) { t.wait(); co_return; } // finds blocking-socket
task p25(int fd) { char b; ::recv(fd, &b, 1, 0); co_return; } // finds blocking-socket
task p26(tcp::resolver& r) { r.resolve("localhost", "80"); co_return; } // finds blocking-resolve
task p27() { addrinfo* a; getaddrinfo("localhost", "80", nullptr, &a); co_return; } // finds blocking-resolve
task p28() { std::ifstream in("x"); co_return; } // finds blocking-file
task p29() { std::ofstream out; out.open("x"); co_return; } // finds blocking-file
task p30() { FILE* f = fopen("x", "r"); (void)f; co_return; } // finds blocking-file
task p31(std::recursive_mutex& m) { m.lock(); co_return; } // finds blocking-lock
task p32(int fd) { fsync(fd); co_return; } // finds blocking-file
#define BLOCK_SHORTLY() std::this_thread::sleep_for(1ms)
task p33() { BLOCK_SHORTLY(); co_return; } // finds blocking-sleep
namespace alias = std::this_thread;
task p34() { alias::sleep_for(1ms); co_return; } // finds blocking-sleep
using std::this_thread::sleep_for;
task p35() { sleep_for(1ms); co_return; } // finds blocking-sleep
task p36(bool b) { if (b) { for (;;) { sleep_for(1ms); break; } } co_return; } // finds blocking-sleep

task n01() { co_await asio::steady_timer(co_await asio::this_coro::executor, 1ms).async_wait(); }
task n02(tcp::socket& s) { char b[4]; co_await s.async_read_some(asio::buffer(b)); }
task n03(tcp::resolver& r) { co_await r.async_resolve("localhost", "80"); }
task n04(std::promise<int> p) { p.set_value(1); co_return; }
task n05(std::thread t) { t.detach(); co_return; }
task n06(std::mutex& m) { std::lock_guard lock(m); co_return; }
task n07(std::mutex& m) { if (m.try_lock()) m.unlock(); co_return; }
task n08(std::atomic<int>& a) { a.store(1); a.notify_all(); co_return; }
task n09(std::latch& l) { l.count_down(); co_return; }
task n10(std::counting_semaphore<4>& s) { if (s.try_acquire()) s.release(); co_return; }
task n11(std::string s) { s.append("read"); std::string const read = s; co_return; }
task n12() { auto n = sizeof(std::this_thread::get_id()); (void)n; std::this_thread::yield(); co_return; }
struct of_the_users { void wait() {} void get() {} void join() {} void read() {} };
task n13(of_the_users u) { u.wait(); u.get(); u.join(); u.read(); co_return; }
namespace mine { inline void sleep(int) {} inline void write(int) {} }
task n14() { mine::sleep(1); mine::write(1); co_return; }
task n15() { using result = decltype(std::this_thread::sleep_for(1ms)); static_assert(std::is_void_v<result>); co_return; }
void n16() { std::this_thread::sleep_for(1ms); }
void n17() { std::future<int> f; f.get(); }
task n18(std::vector<int> v) { std::sort(v.begin(), v.end()); co_return; }
task n19(std::future<int> f) { bool const ok = f.valid(); (void)ok; co_return; }
task n20() { std::ifstream in; bool const open = in.is_open(); (void)open; co_return; }

} // namespace direct
