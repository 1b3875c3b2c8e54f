// SPDX-License-Identifier: BSL-1.0
// A lock for a few dozen instructions, beside which others may read.
#pragma once

#include <tidegate/detail/cpu_pause.hpp>
#include <tidegate/detail/fast_word.hpp>

#include <atomic>
#include <cstdint>
#include <thread>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// A lock that counts: odd while somebody has it. Who only reads takes it not at all, looks at the
/// count before and after, and believes what he read if it was even and is the same.
///
/// After Boehm, "Can seqlocks get along with programming language memory models?" (MSPC 2012). What
/// is read beside the lock has to be atomic, stored with release by the holder and loaded with
/// acquire by readers; no fences are needed then. Why that is enough: whoever loads something that
/// a holder stored has synchronised with that store, which comes after the count became odd, so
/// that the second look cannot see the count as it was before.
///
/// In a process with one thread locking is a plain store, as in glibc's mutexes. Else it is one
/// exchange; unlocking is a store. Who has to wait looks for a moment, then gives up its turn. For
/// critical sections that are short and call nothing unknown.
class sequence_lock {
public:
    /// `count`, which must be even, is for tests. It wraps round after 2^63 times.
    explicit sequence_lock(std::uint64_t count = 0) noexcept : count_(count) {}
    sequence_lock(sequence_lock const&) = delete;
    sequence_lock& operator=(sequence_lock const&) = delete;

    void lock() noexcept {
        if (!try_lock()) [[unlikely]]
            wait();
    }
    bool try_lock() noexcept {
        std::uint64_t seen = count_.load(std::memory_order_relaxed);
        if (is_held(seen)) return false;
        if (process_has_one_thread()) {
            count_.store(seen + 1, std::memory_order_relaxed);
            return true;
        }
        return count_.compare_exchange_strong(seen, seen + 1, std::memory_order_acquire,
                                              std::memory_order_relaxed);
    }
    void unlock() noexcept {
        count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }

    /// The first look, and whether reading makes sense now.
    std::uint64_t look() const noexcept { return count_.load(std::memory_order_acquire); }
    static bool is_held(std::uint64_t seen) noexcept { return (seen & 1) != 0; }
    /// The second look, after loads with acquire.
    bool is_still(std::uint64_t seen) const noexcept {
        return count_.load(std::memory_order_relaxed) == seen;
    }

private:
    void wait() noexcept {
        int looks = 0;
        do {
            while (is_held(count_.load(std::memory_order_relaxed))) {
                if (++looks < 64) cpu_pause();
                else std::this_thread::yield();
            }
        } while (!try_lock());
    }

    std::atomic<std::uint64_t> count_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
