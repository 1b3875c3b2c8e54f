// SPDX-License-Identifier: BSL-1.0
// Where a key or a value of a cache entry is kept.
#pragma once

#include <tidegate/config.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// For those who have the store to themselves.
template <class T>
class plain_cell {
public:
    explicit plain_cell(T&& value) noexcept : value_(std::move(value)) {}

    T const& get() const noexcept { return value_; }
    T&& take() noexcept { return std::move(value_); }
    void exchange(T& other) noexcept { std::swap(value_, other); }

private:
    T value_;
};

/// One that others may look at while it changes: words that are loaded with acquire and stored with
/// release, as `detail::sequence_lock` wants it. What is looked at meanwhile may be half of one
/// value and half of another.
template <class T>
class shared_cell {
    static_assert(std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T>);
    static constexpr std::size_t count = (sizeof(T) + 7) / 8;

public:
    shared_cell() noexcept = default; // all zeros

    T get() const noexcept {
        std::uint64_t raw[count];
        for (std::size_t i = 0; i < count; ++i) raw[i] = words_[i].load(std::memory_order_acquire);
        T value;
        std::memcpy(static_cast<void*>(std::addressof(value)), raw, sizeof(T));
        return value;
    }
    T take() const noexcept { return get(); }
    void set(T const& value) noexcept {
        std::uint64_t raw[count] = {};
        std::memcpy(raw, static_cast<void const*>(std::addressof(value)), sizeof(T));
        for (std::size_t i = 0; i < count; ++i) words_[i].store(raw[i], std::memory_order_release);
    }
    void exchange(T& other) noexcept {
        T const before = get();
        set(other);
        other = before;
    }

private:
    std::atomic<std::uint64_t> words_[count] = {};
};

/// Memory that nobody finds any more, but that somebody who found it before may still look at.
using retired_block = std::unique_ptr<void, void (*)(void*)>;

template <class T>
retired_block retired(std::unique_ptr<T[]> block) noexcept {
    return {block.release(), [](void* p) { delete[] static_cast<T*>(p); }};
}

} // namespace core
TIDEGATE_END_NAMESPACE
