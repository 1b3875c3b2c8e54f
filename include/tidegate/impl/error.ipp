// SPDX-License-Identifier: BSL-1.0
// Names and messages of the library's errors.
#pragma once

#include <tidegate/error.hpp>

#include <string>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {

class error_category_impl final : public boost::system::error_category {
public:
    constexpr error_category_impl() noexcept : boost::system::error_category(0x6d1f0c2ab8e35d47) {}

    char const* name() const noexcept override { return "tidegate"; }

    char const* message(int value, char*, std::size_t) const noexcept override {
        switch (static_cast<error>(value)) {
        case error::closed: return "closed";
        case error::deadline_exceeded: return "deadline exceeded";
        case error::queue_full: return "queue full";
        case error::dropped: return "dropped to make room for a newer item";
        case error::invalid_count: return "permit count is zero or above the limit";
        case error::result_count_mismatch:
            return "batch function returned another number of results than items";
        case error::rate_limited: return "rate limited";
        case error::circuit_open: return "circuit open";
        case error::overloaded: return "overloaded";
        case error::exception_thrown: return "exception thrown";
        case error::not_found: return "not found";
        case error::recursive_load: return "a load asked for what it is loading itself";
        case error::over_budget: return "larger than the whole budget";
        }
        return "unknown tidegate error";
    }

    std::string message(int value) const override { return message(value, nullptr, 0); }
};

class condition_category_impl final : public boost::system::error_category {
public:
    constexpr condition_category_impl() noexcept
        : boost::system::error_category(0x3b7a92e1c05f64d8) {}

    char const* name() const noexcept override { return "tidegate.condition"; }

    std::string message(int value) const override {
        return static_cast<condition>(value) == condition::rejected ? "rejected because of load"
                                                                    : "unknown tidegate condition";
    }

    bool equivalent(error_code const& code, int value) const noexcept override {
        if (static_cast<condition>(value) != condition::rejected) return false;
        return code == error::queue_full || code == error::deadline_exceeded ||
               code == error::dropped || code == error::rate_limited ||
               code == error::circuit_open || code == error::overloaded;
    }
};

} // namespace detail

TIDEGATE_DECL boost::system::error_category const& error_category() noexcept {
    static constexpr detail::error_category_impl instance;
    return instance;
}

TIDEGATE_DECL boost::system::error_category const& condition_category() noexcept {
    static constexpr detail::condition_category_impl instance;
    return instance;
}

TIDEGATE_END_NAMESPACE
