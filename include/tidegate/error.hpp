// SPDX-License-Identifier: BSL-1.0
// The library's error codes: one enumeration, one category.
#pragma once

#include <tidegate/config.hpp>

#include <boost/system/error_category.hpp>
#include <boost/system/error_code.hpp>
#include <boost/system/error_condition.hpp>
#include <boost/system/is_error_code_enum.hpp>
#include <boost/system/is_error_condition_enum.hpp>

TIDEGATE_BEGIN_NAMESPACE

using error_code = boost::system::error_code;

/// Why an operation of this library failed. Compares with `error_code` directly:
/// `if (ec == tidegate::error::closed)`.
///
/// Cancellation by the caller is not in here: it is `boost::asio::error::operation_aborted`, as
/// everywhere in Asio.
enum class error {
    /// The primitive was closed or destroyed, or its execution context is going away.
    closed = 1,
    /// The operation's deadline passed before it could be carried out.
    deadline_exceeded = 2,
    /// The queue was full, or too long for the time that there was, and the primitive is set to
    /// refuse rather than to wait.
    queue_full = 3,
    /// The item was the oldest in a full queue and made room for a newer one.
    dropped = 4,
    /// The number of permits asked for is zero or more than the primitive can ever have.
    invalid_count = 5,
    /// A batch function returned another number of results than it was given items.
    result_count_mismatch = 6,
    /// The rate allows no more now, or not in time.
    rate_limited = 7,
    /// A circuit breaker is open: what it guards failed too often of late.
    circuit_open = 8,
    /// An adaptive limit on concurrent calls is used up, or a semaphore that serves the newest
    /// first under overload let an old waiter go.
    overloaded = 9,
    /// A callback threw something that carries no error code, where only a code can be reported.
    exception_thrown = 10,
    /// There is no task of that id, or it was forgotten.
    not_found = 11,
    /// A load asked for what it is loading itself, be it by way of other loads.
    recursive_load = 12,
    /// It is larger than all that it has to fit into.
    over_budget = 13,
};

/// What a failure means to the caller, whichever primitive reported it.
enum class condition {
    /// The work was refused before it started because of load: it may be tried again later.
    rejected = 1,
};

/// The category of `error`; its name is "tidegate". Thread-safe.
TIDEGATE_DECL boost::system::error_category const& error_category() noexcept;

/// The category of `condition`; its name is "tidegate.condition". Thread-safe.
TIDEGATE_DECL boost::system::error_category const& condition_category() noexcept;

inline error_code make_error_code(error e) noexcept {
    return {static_cast<int>(e), error_category()};
}

inline boost::system::error_condition make_error_condition(condition c) noexcept {
    return {static_cast<int>(c), condition_category()};
}

TIDEGATE_END_NAMESPACE

namespace boost::system {

template <>
struct is_error_code_enum<tidegate::error> : std::true_type {};

template <>
struct is_error_condition_enum<tidegate::condition> : std::true_type {};

} // namespace boost::system

#if defined(TIDEGATE_HEADER_ONLY)
#include <tidegate/impl/error.ipp>
#endif
