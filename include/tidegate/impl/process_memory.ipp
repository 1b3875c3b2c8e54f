// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <tidegate/process_memory.hpp>

#if defined(__linux__)
#include <array>
#include <charconv>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

#if defined(__linux__)
// The beginning of a file of /proc.
class proc_text {
public:
    explicit proc_text(char const* path) noexcept {
        int const file = ::open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0) return;
        ::ssize_t const got = ::read(file, bytes_.data(), bytes_.size());
        if (got > 0) text_ = {bytes_.data(), static_cast<std::size_t>(got)};
        ::close(file);
    }
    proc_text(proc_text const&) = delete;
    proc_text& operator=(proc_text const&) = delete;

    /// The number after `key`, or the next one where that is empty.
    std::optional<std::uint64_t> number(std::string_view key = {}) noexcept {
        std::size_t at = key.empty() ? 0 : text_.find(key);
        if (at == text_.npos) return std::nullopt;
        at = text_.find_first_of("0123456789", at + key.size());
        if (at == text_.npos) return std::nullopt;
        std::uint64_t value = 0;
        auto const [end, error] =
            std::from_chars(text_.data() + at, text_.data() + text_.size(), value);
        if (error != std::errc()) return std::nullopt;
        text_.remove_prefix(key.empty() ? static_cast<std::size_t>(end - text_.data()) : 0);
        return value;
    }

private:
    std::array<char, 512> bytes_;
    std::string_view text_;
};
#endif

} // namespace detail

TIDEGATE_DECL std::optional<memory_usage> read_memory_usage() noexcept {
#if defined(__linux__)
    detail::proc_text process("/proc/self/statm");
    auto const mapped = process.number(), resident = process.number();
    detail::proc_text machine("/proc/meminfo");
    auto const total = machine.number("MemTotal:"), available = machine.number("MemAvailable:");
    if (!mapped || !resident || !total || !available) return std::nullopt;
    auto const page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    return memory_usage{*resident * page, *mapped * page, *available * 1024, *total * 1024};
#else
    return std::nullopt;
#endif
}

TIDEGATE_END_NAMESPACE
