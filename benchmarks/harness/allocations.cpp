// SPDX-License-Identifier: BSL-1.0
// Replaces malloc and its relatives by counting ones. Replacing operator new alone would miss
// Asio, whose handlers come from std::aligned_alloc.
#include "allocations.hpp"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace {

// A counter a thread, each on its own cache line, so that counting does not slow down whoever
// allocates from several threads at once. Slots are never given back: a scenario starts hundreds
// of threads, not thousands.
constexpr std::size_t slot_count = 4096;
struct alignas(64) slot {
    std::atomic<std::int64_t> allocations;
};
constinit slot slots[slot_count];
constinit std::atomic<std::size_t> slots_taken{0};
constinit thread_local slot* own_slot = nullptr;

[[maybe_unused]] void count() noexcept {
    if (own_slot == nullptr) [[unlikely]] {
        auto const index = slots_taken.fetch_add(1, std::memory_order_relaxed);
        if (index >= slot_count) {
            std::fputs("bench: more threads than allocation counters\n", stderr);
            std::abort();
        }
        own_slot = &slots[index];
    }
    // Only this thread writes here, so no read-modify-write is needed.
    auto& counter = own_slot->allocations;
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

} // namespace

std::int64_t bench::allocations_so_far() noexcept {
    auto const taken = slots_taken.load(std::memory_order_relaxed);
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < taken && i < slot_count; ++i)
        sum += slots[i].allocations.load(std::memory_order_relaxed);
    return sum;
}

#if defined(__GLIBC__)

const bool bench::allocations_are_counted = true;

// glibc's own entry points; free() needs no replacement.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) noexcept {
    count();
    return __libc_malloc(size);
}

void* calloc(std::size_t n, std::size_t size) noexcept {
    count();
    return __libc_calloc(n, size);
}

void* realloc(void* old, std::size_t size) noexcept {
    count();
    return __libc_realloc(old, size);
}

void* memalign(std::size_t alignment, std::size_t size) noexcept {
    count();
    return __libc_memalign(alignment, size);
}

void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
    count();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void** result, std::size_t alignment, std::size_t size) noexcept {
    count();
    void* memory = __libc_memalign(alignment, size);
    if (memory == nullptr) return ENOMEM;
    *result = memory;
    return 0;
}
}

#else

const bool bench::allocations_are_counted = false;

#endif
