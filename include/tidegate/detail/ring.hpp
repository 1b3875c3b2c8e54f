// SPDX-License-Identifier: BSL-1.0
// A first-in, first-out buffer of fixed capacity.
#pragma once

#include <tidegate/config.hpp>

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Holds up to `capacity` values in memory taken once. Push and pop are O(1) and do not throw.
template <class T>
class ring {
    static_assert(std::is_nothrow_move_constructible_v<T>);

public:
    explicit ring(std::size_t capacity)
        : capacity_(capacity), slots_(std::allocator<T>().allocate(capacity)) {}
    ring(ring const&) = delete;
    ring& operator=(ring const&) = delete;
    ~ring() {
        while (!empty()) static_cast<void>(pop());
        std::allocator<T>().deallocate(slots_, capacity_);
    }

    std::size_t capacity() const noexcept { return capacity_; }
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    bool full() const noexcept { return size_ == capacity_; }

    /// Not when full.
    void push(T&& value) noexcept {
        std::construct_at(slots_ + wrap(first_ + size_), std::move(value));
        ++size_;
    }

    /// Not when empty.
    T pop() noexcept {
        T* const slot = slots_ + first_;
        T value(std::move(*slot));
        std::destroy_at(slot);
        first_ = wrap(first_ + 1);
        --size_;
        return value;
    }

private:
    std::size_t wrap(std::size_t i) const noexcept { return i >= capacity_ ? i - capacity_ : i; }

    std::size_t capacity_;
    T* slots_;
    std::size_t first_ = 0;
    std::size_t size_ = 0;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
