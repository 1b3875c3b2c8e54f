// SPDX-License-Identifier: BSL-1.0
// A small value that is read without a lock while another thread may replace it.
#pragma once

#include <tidegate/config.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Copied word by word: a reader may get a mixture of old and new. The owner keeps a version in an
/// atomic word of its own, which it changes before `store` (to turn readers away) and after it. A
/// reader that loads the word, then the value, and then finds the word unchanged in an exchange,
/// has read a value that belongs to the word: the loads acquire and the stores release, so whoever
/// sees a new piece also sees that the word has changed.
///
/// `T` comes apart into `T::word_count` words with `words()`, and together with `T::from_words`.
template <class T>
class published {
    using indices = std::make_index_sequence<T::word_count>;

public:
    explicit published(T const& value) noexcept { store(value); }

    T load() const noexcept { return load(indices()); }

    /// One thread at a time.
    void store(T const& value) noexcept {
        auto const words = value.words();
        for (std::size_t i = 0; i < words.size(); ++i) {
            words_[i].store(words[i], std::memory_order_release);
        }
    }

private:
    // Word by word into registers: a copy in memory would stall on its way there.
    template <std::size_t... I>
    T load(std::index_sequence<I...>) const noexcept {
        return T::from_words(words_[I].load(std::memory_order_acquire)...);
    }

    std::array<std::atomic<std::uint64_t>, T::word_count> words_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
