// SPDX-License-Identifier: BSL-1.0
// What a thread says about itself: that it is inside a handler. No Asio in here: the tracking
// header is included by Asio itself.
#pragma once

#include <tidegate/config.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Written by its thread alone, with plain stores; read by the watchdog.
struct activity_slot {
    std::atomic<std::uint64_t> sequence{first()}; ///< odd inside a handler; never the same twice
    std::atomic<char const*> label{nullptr};      ///< of what runs; a string that stays
    std::atomic<char const*> loop{nullptr};       ///< of the executor that it came from
#if defined(__unix__) || defined(__APPLE__)
    pthread_t thread = pthread_self();
#endif
#if defined(__linux__)
    long id = ::syscall(SYS_gettid);
#else
    long id = 0;
#endif

private:
    // Not of another thread's range either, whose slot was in the same place.
    static std::uint64_t first() noexcept {
        static std::atomic<std::uint64_t> threads{0};
        return threads.fetch_add(1, std::memory_order_relaxed) << 32;
    }
};

/// The slots of all threads that ran a handler. Never destroyed: threads may end last.
class activity_slots {
public:
    static activity_slots& all() {
        static auto* const only = new activity_slots;
        return *only;
    }

    void add(activity_slot& slot) {
        std::lock_guard lock(mutex_);
        slots_.push_back(&slot);
    }
    void remove(activity_slot& slot) noexcept {
        std::lock_guard lock(mutex_);
        std::erase(slots_, &slot);
    }
    /// No thread that has a slot ends meanwhile.
    template <class Visit>
    void for_each(Visit&& visit) {
        std::lock_guard lock(mutex_);
        for (auto* const slot : slots_) visit(*slot);
    }

private:
    std::mutex mutex_;
    std::vector<activity_slot*> slots_;
};

inline constinit thread_local activity_slot* this_thread_activity = nullptr;

/// Makes the slot. Null if there is no memory, or if the thread has ended but for destructors.
[[gnu::noinline]] inline activity_slot* make_activity_slot() noexcept {
    struct owner {
        owner() { activity_slots::all().add(slot); }
        ~owner() {
            this_thread_activity = nullptr;
            activity_slots::all().remove(slot);
            ended() = true;
        }
        static bool& ended() noexcept {
            static constinit thread_local bool value = false;
            return value;
        }
        activity_slot slot;
    };
    if (owner::ended()) return nullptr;
    try {
        static thread_local owner mine;
        return this_thread_activity = &mine.slot;
    } catch (...) { // this thread is not watched
        return nullptr;
    }
}

/// While it lives the thread is inside a handler. Those that a handler runs are part of it.
class handler_scope {
public:
    explicit handler_scope(char const* loop = nullptr) noexcept : slot_(this_thread_activity) {
        if (!slot_) [[unlikely]]
            slot_ = make_activity_slot();
        if (slot_) begin(loop);
    }
    handler_scope(handler_scope const&) = delete;
    handler_scope& operator=(handler_scope const&) = delete;
    ~handler_scope() {
        if (slot_) slot_->sequence.store(sequence_ + 2, std::memory_order_relaxed);
    }

private:
    void begin(char const* loop) noexcept {
        sequence_ = slot_->sequence.load(std::memory_order_relaxed);
        if (sequence_ & 1) {
            slot_ = nullptr; // of the handler around it
            return;
        }
        if (loop) slot_->loop.store(loop, std::memory_order_relaxed);
        slot_->sequence.store(sequence_ + 1, std::memory_order_relaxed);
    }

    activity_slot* slot_;
    std::uint64_t sequence_ = 0;
};

/// For the tracking header: a scope that begins later.
class tracked_invocation {
public:
    tracked_invocation() noexcept = default;
    tracked_invocation(tracked_invocation const&) = delete;
    tracked_invocation& operator=(tracked_invocation const&) = delete;
    ~tracked_invocation() { end(); }

    void begin() noexcept {
        auto* const slot = this_thread_activity ? this_thread_activity : make_activity_slot();
        if (!slot) return;
        sequence_ = slot->sequence.load(std::memory_order_relaxed);
        if (sequence_ & 1) return;
        slot->sequence.store(sequence_ + 1, std::memory_order_relaxed);
        slot_ = slot;
    }
    void end() noexcept {
        if (slot_) slot_->sequence.store(sequence_ + 2, std::memory_order_relaxed);
        slot_ = nullptr;
    }

private:
    activity_slot* slot_ = nullptr;
    std::uint64_t sequence_ = 0;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
