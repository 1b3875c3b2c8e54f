// SPDX-License-Identifier: BSL-1.0
// Calls that block further down, and code that is not called.
#include "prelude.hpp"

namespace chains {

void naps() { std::this_thread::sleep_for(1ms); } // finds blocking-sleep
void naps2() { naps(); }
void naps3() { naps2(); }
task p01() { naps(); co_return; }

void one() { ::usleep(1); } // finds blocking-sleep
void two() { one(); }
void three() { two(); }
void four() { three(); }
task p02() { four(); co_return; }

template <class T> void generic(T t) { std::this_thread::sleep_for(t); } // finds blocking-sleep
task p03() { generic(1ms); co_return; }

struct file_reader { file_reader() { std::ifstream in("x"); } }; // finds blocking-file
task p04() { file_reader r; co_return; }
task p05() { auto r = std::pair<file_reader, int>(); (void)r; co_return; }

struct joins { std::thread t; ~joins() { t.join(); } }; // finds blocking-wait
task p06() { joins j; co_return; }

struct service { void load() { ::sleep(1); } }; // finds blocking-sleep
task p07(service& s) { s.load(); co_return; }

task p08() { auto nap = [] { ::usleep(2); }; nap(); co_return; } // finds blocking-sleep
task p09() { [] { ::usleep(3); }(); co_return; } // finds blocking-sleep
template <class F> void call_twice(F f) { f(); f(); }
task p10() { call_twice([] { ::usleep(4); }); co_return; } // finds blocking-sleep
task p11(std::vector<int> v) { std::for_each(v.begin(), v.end(), [](int) { ::usleep(5); }); co_return; } // finds blocking-sleep
task p12(std::vector<int> v) { std::sort(v.begin(), v.end(), [](int a, int b) { ::usleep(6); return a < b; }); co_return; } // finds blocking-sleep
std::once_flag once;
task p13() { std::call_once(once, [] { ::usleep(7); }); co_return; } // finds blocking-sleep
task p14() { std::invoke([] { ::usleep(8); }); co_return; } // finds blocking-sleep

struct base { virtual ~base() = default; virtual void go() { ::usleep(9); } }; // finds blocking-sleep
task p15(base& b) { b.go(); co_return; }

int initial() { ::usleep(10); return 1; } // finds blocking-sleep
struct member { int n = initial(); };
task p16() { member m; co_return; }
task p17() { int const n = initial(); (void)n; co_return; }
struct delegates { delegates() : delegates(initial()) {} explicit delegates(int) {} };
task p18() { delegates d; co_return; }

struct number { int n; };
number operator+(number a, number b) { ::usleep(11); return {a.n + b.n}; } // finds blocking-sleep
task p19(number a) { a = a + a; co_return; }
struct converts { operator int() const { ::usleep(12); return 1; } }; // finds blocking-sleep
task p20(converts c) { int n = c; (void)n; co_return; }

void overload(int) { ::usleep(13); } // finds blocking-sleep
void overload(double) {}
task p21() { overload(1); co_return; }
asio::awaitable<int> value() { ::usleep(14); co_return 1; } // finds blocking-sleep
task p22() { int const v = co_await value(); (void)v; }
void recursive(int n) { if (n) recursive(n - 1); else ::usleep(15); } // finds blocking-sleep
task p23() { recursive(3); co_return; }
auto generic_lambda = [](auto t) { std::this_thread::sleep_for(t); }; // finds blocking-sleep
task p24() { generic_lambda(1ms); co_return; }

void not_called() { std::this_thread::sleep_for(1ms); }
task n01() { overload(1.0); co_return; }
task n02() { auto nap = [] { ::usleep(1); }; (void)nap; co_return; }
task n03() { std::function<void()> later = [] { ::usleep(1); }; (void)later; co_return; }
task n04() { std::thread([] { ::usleep(1); }).detach(); co_return; }
task n05() { auto f = std::async(std::launch::async, [] { ::usleep(1); }); (void)f; co_return; }
task n06() { std::thread(naps).detach(); co_return; }
template <class F> void keeps(F f) { static auto kept = f; (void)kept; }
task n07() { keeps([] { ::usleep(1); }); co_return; }
struct never { void wait_long() { ::usleep(1); } void quick() {} };
task n08(never& n) { n.quick(); co_return; }
task n09() { struct local { static void f() { ::usleep(1); } }; co_return; }
template <class T> void only_for_int(T) { if constexpr (std::is_same_v<T, int>) ::usleep(1); }
task n10() { only_for_int(1.0); co_return; }
void plain() { naps3(); }
task n11() { auto bound = std::bind([] { ::usleep(1); }); (void)bound; co_return; }
task n12() { std::packaged_task<void()> job([] { ::usleep(1); }); co_return; }

} // namespace chains
