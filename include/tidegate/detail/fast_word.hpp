// SPDX-License-Identifier: BSL-1.0
// The 64-bit word beside a primitive's lock.
#pragma once

#include <tidegate/null_mutex.hpp>

#include <atomic>
#include <cstdint>
#include <type_traits>

#if defined(__has_include)
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define TIDEGATE_HAS_SINGLE_THREADED 1
#endif
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// True while the process has one thread, as glibc knows it (its own mutexes ask the same): then
/// no other thread can see the word half-changed, and starting one orders all that came before.
inline bool process_has_one_thread() noexcept {
#if defined(TIDEGATE_HAS_SINGLE_THREADED)
    return __libc_single_threaded != 0;
#else
    return false;
#endif
}

/// An atomic word that costs an ordinary one where no second thread can be there: with
/// `null_mutex`, or in a process with one thread.
template <class Mutex>
class fast_word {
public:
    explicit fast_word(std::uint64_t value) noexcept : value_(value) {}

    std::uint64_t load() const noexcept { return value_.load(std::memory_order_relaxed); }

    /// For those who go on to read what was stored before the value.
    std::uint64_t load_acquire() const noexcept { return value_.load(std::memory_order_acquire); }

    /// Replaces the value that `expected` was read from; on failure `expected` is the current one.
    /// Whoever reads a value sees everything done before it was stored (acquire and release).
    bool exchange(std::uint64_t& expected, std::uint64_t desired) noexcept {
        if (std::is_same_v<Mutex, null_mutex> || process_has_one_thread()) {
            std::uint64_t const now = load();
            if (now != expected) {
                expected = now;
                return false;
            }
            value_.store(desired, std::memory_order_relaxed);
            return true;
        }
        return value_.compare_exchange_weak(expected, desired, std::memory_order_acq_rel,
                                            std::memory_order_relaxed);
    }

    /// Stores while nobody else may change the word. Still a release, for those who look next.
    void store_alone(std::uint64_t value) noexcept {
        value_.store(value, std::memory_order_release);
    }

    /// Applies `change` to the value until it sticks; returns the new value.
    template <class Change>
    std::uint64_t update(Change change) noexcept {
        std::uint64_t seen = load();
        for (;;) {
            std::uint64_t const desired = change(seen);
            if (exchange(seen, desired)) return desired;
        }
    }

private:
    std::atomic<std::uint64_t> value_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
