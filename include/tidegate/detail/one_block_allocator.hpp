// SPDX-License-Identifier: BSL-1.0
// Memory for the one function that a primitive has posted at a time.
#pragma once

#include <tidegate/config.hpp>

#include <atomic>
#include <cstddef>
#include <memory>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// A block that is lent again and again; a second borrower, or a large one, gets heap memory.
/// `Size` bytes are enough for Asio to wait for a timer, or to post.
template <std::size_t Size = 192>
class basic_one_block {
public:
    void* borrow(std::size_t bytes) {
        if (bytes <= sizeof(memory_) && !lent_.exchange(true, std::memory_order_acquire)) {
            return memory_;
        }
        return ::operator new(bytes);
    }

    void give_back(void* p) noexcept {
        if (p == memory_) lent_.store(false, std::memory_order_release);
        else ::operator delete(p);
    }

private:
    alignas(std::max_align_t) std::byte memory_[Size];
    std::atomic<bool> lent_{false};
};

using one_block = basic_one_block<>;

template <class T, class Block = one_block>
class one_block_allocator {
public:
    using value_type = T;

    explicit one_block_allocator(Block& block) noexcept : block_(&block) {}
    template <class U>
    one_block_allocator(one_block_allocator<U, Block> const& other) noexcept
        : block_(other.block_) {}

    T* allocate(std::size_t n) {
        static_assert(alignof(T) <= alignof(std::max_align_t));
        return static_cast<T*>(block_->borrow(n * sizeof(T)));
    }
    void deallocate(T* p, std::size_t) noexcept { block_->give_back(p); }

    template <class U>
    friend bool operator==(one_block_allocator const& a,
                           one_block_allocator<U, Block> const& b) noexcept {
        return a.block_ == b.block_;
    }

private:
    template <class, class>
    friend class one_block_allocator;

    Block* block_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
