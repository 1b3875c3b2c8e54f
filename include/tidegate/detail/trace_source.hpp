// SPDX-License-Identifier: BSL-1.0
// What a primitive's state has for those who listen to it.
#pragma once

#include <tidegate/trace.hpp>

#include <boost/config.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#if !defined(TIDEGATE_NO_TRACE)
#include <atomic>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// The observers of one primitive: a list that only grows, at its front, so that whoever has read
/// the front may walk it without a lock. Call nothing of it with a lock held, but `is_heard`.
class trace_source {
public:
    trace_source() noexcept = default;
    trace_source(trace_source const&) = delete;
    trace_source& operator=(trace_source const&) = delete;

    /// `primitive` must live for ever.
    void attach(std::string_view primitive, std::shared_ptr<trace_observer> observer,
                std::string name) {
        if (!observer) refuse<std::invalid_argument>(primitive, "observe: the observer is null");
#if defined(TIDEGATE_NO_TRACE)
        static_cast<void>(name);
        refuse<std::logic_error>(primitive, "observe: built with TIDEGATE_NO_TRACE");
#else
        auto* const fresh = new link{std::move(observer), primitive, std::move(name),
                                     newest_.load(std::memory_order_relaxed)};
        while (!newest_.compare_exchange_weak(fresh->next, fresh, std::memory_order_release,
                                              std::memory_order_relaxed)) {
        }
#endif
    }

    void emit(trace_event event, std::uint64_t count = 1) const noexcept {
        if (is_heard()) [[unlikely]]
            tell(event, count, {}, {});
    }
    /// For what is worked out only if somebody listens, put the arguments behind `is_heard`.
    void emit(trace_event event, std::uint64_t count, error_code const& ec,
              std::chrono::nanoseconds duration = {}) const noexcept {
        if (is_heard()) [[unlikely]]
            tell(event, count, ec, duration);
    }

#if defined(TIDEGATE_NO_TRACE)
    static constexpr bool is_heard() noexcept { return false; }

private:
    static void tell(trace_event, std::uint64_t, error_code const&,
                     std::chrono::nanoseconds) noexcept {}
#else
    ~trace_source() {
        for (link* one = newest_.load(std::memory_order_acquire); one;) {
            delete std::exchange(one, one->next);
        }
    }

    bool is_heard() const noexcept { return newest_.load(std::memory_order_acquire) != nullptr; }

private:
    struct link {
        std::shared_ptr<trace_observer> observer;
        std::string_view primitive;
        std::string name;
        link* next;
    };

    // Not inline, so that what emits is.
    BOOST_NOINLINE void tell(trace_event event, std::uint64_t count, error_code const& ec,
                             std::chrono::nanoseconds duration) const noexcept {
        for (link const* one = newest_.load(std::memory_order_acquire); one; one = one->next) {
            one->observer->on_event({one->primitive, one->name, event, count, duration, ec});
        }
    }

    std::atomic<link*> newest_{nullptr};
#endif

    template <class Exception>
    [[noreturn]] static void refuse(std::string_view primitive, char const* what) {
        throw Exception("tidegate: " + std::string(primitive) + " " + what);
    }
};

} // namespace detail
TIDEGATE_END_NAMESPACE
