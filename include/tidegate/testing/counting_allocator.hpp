// SPDX-License-Identifier: BSL-1.0
// An allocator that counts.
#pragma once

#include <tidegate/config.hpp>

#include <atomic>
#include <cstddef>
#include <memory>

TIDEGATE_BEGIN_NAMESPACE
namespace testing {

/// What the counting allocators of one test did. Outlives all of them.
struct allocation_counts {
    std::atomic<std::size_t> allocated{0};
    std::atomic<std::size_t> freed{0};

    std::size_t live() const noexcept { return allocated - freed; }
};

/// Counts calls, not bytes. Equal if they count in the same place.
template <class T = void>
class counting_allocator {
public:
    using value_type = T;

    explicit counting_allocator(allocation_counts& counts) noexcept : counts_(&counts) {}

    template <class U>
    counting_allocator(counting_allocator<U> const& other) noexcept : counts_(&other.counts()) {}

    T* allocate(std::size_t n) {
        T* const memory = std::allocator<T>().allocate(n);
        ++counts_->allocated;
        return memory;
    }

    void deallocate(T* memory, std::size_t n) noexcept {
        ++counts_->freed;
        std::allocator<T>().deallocate(memory, n);
    }

    allocation_counts& counts() const noexcept { return *counts_; }

    template <class U>
    friend bool operator==(counting_allocator const& a, counting_allocator<U> const& b) noexcept {
        return &a.counts() == &b.counts();
    }

private:
    allocation_counts* counts_;
};

} // namespace testing
TIDEGATE_END_NAMESPACE
