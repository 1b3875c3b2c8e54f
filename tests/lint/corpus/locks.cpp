// SPDX-License-Identifier: BSL-1.0
// Locks that are held while a coroutine waits, and those that are not.
#include "prelude.hpp"

namespace locks {

std::mutex m;
std::shared_mutex sm;

task p01() { std::lock_guard lock(m); co_await other(); } // finds await-under-lock
task p02() { std::unique_lock lock(m); co_await other(); } // finds await-under-lock
task p03() { std::scoped_lock lock(m); if (true) { co_await other(); } } // finds await-under-lock
task p04() { std::shared_lock lock(sm); co_await other(); } // finds await-under-lock
asio::awaitable<int> number();
task p05() { std::lock_guard lock(m); int const n = co_await number(); (void)n; } // finds await-under-lock
task p06() { std::lock_guard lock(m); int n = 0; n = co_await number(); (void)n; } // finds await-under-lock
task p07() { { std::lock_guard<std::mutex> lock(m); for (int i = 0; i < 3; ++i) co_await other(); } } // finds await-under-lock
task p08() { auto f = []() -> task { std::lock_guard lock(m); co_await other(); }; co_await f(); } // finds await-under-lock
asio::awaitable<int> p09() { std::lock_guard lock(m); co_return co_await number(); } // finds await-under-lock
task p10() { std::unique_lock lock(m); if (co_await number()) lock.unlock(); } // finds await-under-lock

task n01() { { std::lock_guard lock(m); } co_await other(); }
task n02() { std::unique_lock lock(m); lock.unlock(); co_await other(); }
task n03() { std::unique_lock lock(m, std::defer_lock); co_await other(); }
task n04() { std::lock_guard lock(m); co_return; }
task n05() { std::lock_guard lock(m); auto f = []() -> task { co_await other(); }; (void)f; co_return; }
task n06() { co_await other(); std::lock_guard lock(m); }
task n07() { std::unique_lock<std::mutex> lock; co_await other(); }
void n08() { std::lock_guard lock(m); }
task n09() { for (int i = 0; i < 3; ++i) { { std::scoped_lock lock(m); } co_await other(); } }
task n10() { auto const locked = [] { std::lock_guard lock(m); return 1; }; int const n = locked(); (void)n; co_await other(); }

} // namespace locks
