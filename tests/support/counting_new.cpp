// SPDX-License-Identifier: BSL-1.0
// Replaces the global operator new; in a file of its own, so that nothing is inlined with it.
#include "support/counting_new.hpp"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::size_t> calls{0};
std::atomic<std::size_t> freed{0};
std::atomic<std::size_t> countdown{0};

void* counted(std::size_t size, std::size_t alignment) {
    if (countdown.load(std::memory_order_relaxed) > 0 && countdown.fetch_sub(1) == 1)
        throw std::bad_alloc();
    calls.fetch_add(1, std::memory_order_relaxed);
    std::size_t const whole = (size + alignment - 1) / alignment * alignment;
    if (void* const got = std::aligned_alloc(alignment, whole ? whole : alignment)) return got;
    throw std::bad_alloc();
}

void give_back(void* p) noexcept {
    if (p) freed.fetch_add(1, std::memory_order_relaxed);
    std::free(p);
}

} // namespace

std::size_t test::allocated() noexcept { return calls; }
std::size_t test::allocated_now() noexcept { return calls - freed; }
void test::fail_allocation(std::size_t n) noexcept { countdown = n; }
std::size_t test::until_failure() noexcept { return countdown; }

void* operator new(std::size_t size) { return counted(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
    return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* p) noexcept { give_back(p); }
void operator delete(void* p, std::size_t) noexcept { give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }
