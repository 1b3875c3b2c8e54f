// SPDX-License-Identifier: BSL-1.0
// The place of one object beside a pool's lock.
#pragma once

#include <tidegate/detail/fast_word.hpp>

#include <cstdint>
#include <memory>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Whoever borrows the object that is here, and whoever puts one here, needs one exchange and no
/// lock. It is shut while there is more to do than that; then, and with what it holds or does not
/// hold otherwise, one goes by way of the lock.
///
/// Nothing but `take` and `put` may be called beside another call that is no `take` or `put`.
template <class T, class Mutex>
class spare_slot {
public:
    explicit spare_slot(bool is_open) noexcept : word_(is_open ? empty : closed) {}
    spare_slot(spare_slot const&) = delete;
    spare_slot& operator=(spare_slot const&) = delete;
    ~spare_slot() { shut(); }

    /// What is here; null if nothing is.
    std::unique_ptr<T> take() noexcept {
        std::uint64_t seen = word_.load();
        while (is_object(seen)) {
            if (word_.exchange(seen, empty)) return object(seen);
        }
        return nullptr;
    }

    /// False, and `it` stays, if there is no room. Afterwards the slot may be gone, for it is for
    /// whoever takes the object to say.
    bool put(std::unique_ptr<T>& it) noexcept {
        std::uint64_t seen = word_.load();
        while (seen == empty) {
            if (word_.exchange(seen, word(it.get()))) {
                static_cast<void>(it.release());
                return true;
            }
        }
        return false;
    }

    /// Nothing can be put or taken any more; what was here.
    std::unique_ptr<T> shut() noexcept {
        std::uint64_t seen = word_.load();
        while (!word_.exchange(seen, closed)) {
        }
        return is_object(seen) ? object(seen) : nullptr;
    }

    /// Only while it is shut.
    void open(std::unique_ptr<T> with = nullptr) noexcept {
        word_.store_alone(with ? word(with.release()) : empty);
    }

    bool holds() const noexcept { return is_object(word_.load()); }

private:
    // No objects have these addresses.
    static constexpr std::uint64_t empty = 0;
    static constexpr std::uint64_t closed = 1;

    static bool is_object(std::uint64_t seen) noexcept { return seen > closed; }
    static std::uint64_t word(T* it) noexcept { return reinterpret_cast<std::uintptr_t>(it); }
    static std::unique_ptr<T> object(std::uint64_t seen) noexcept {
        // NOLINTNEXTLINE(performance-no-int-to-ptr)
        return std::unique_ptr<T>(reinterpret_cast<T*>(static_cast<std::uintptr_t>(seen)));
    }

    fast_word<Mutex> word_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
