// SPDX-License-Identifier: BSL-1.0
// One parked operation, and the list that it is parked in.
#pragma once

#include <tidegate/error.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <tuple>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

class waiter_list;

/// Names a parked operation for those that must not hold a pointer to it (a cancellation slot, a
/// deadline): the operation may be gone by then, and its slot in the directory reused.
struct waiter_id {
    std::uint32_t slot = 0;
    std::uint32_t generation = 0; // 0: no operation

    explicit operator bool() const noexcept { return generation != 0; }
};

/// Runs something after a completion handler has run, whichever way that ended.
class after_handler {
public:
    virtual void handler_finished() noexcept = 0;

protected:
    ~after_handler() = default;
};

/// A parked operation without its type. It is finished exactly once, which frees it.
class waiter {
public:
    waiter(waiter const&) = delete;
    waiter& operator=(waiter const&) = delete;

    /// Completes with `ec` and an empty result.
    void abort(error_code ec) noexcept { finish_(this, outcome::abort, &ec); }

    /// Destroys the handler without calling it.
    void destroy() noexcept { finish_(this, outcome::destroy, nullptr); }

protected:
    enum class outcome { complete, complete_here, abort, destroy };
    using finish_fn = void (*)(waiter*, outcome, void* argument); // throws if complete_here only

    explicit waiter(finish_fn how) noexcept : finish_(how) {}
    ~waiter() = default;

    void finish(void* results) noexcept { finish_(this, outcome::complete, results); }

    /// Runs the handler inside the call, for those who already are where it is to run.
    void finish_here(void* results) { finish_(this, outcome::complete_here, results); }

    std::shared_ptr<after_handler> afterwards_;

private:
    friend class waiter_list;
    friend class waiter_directory;

    template <class, class, class>
    friend class waiting_room;

    waiter* next_ = nullptr;
    waiter* previous_ = nullptr;
    waiter_list* home_ = nullptr;
    finish_fn finish_;
    waiter_id id_;
    bool has_deadline_ = false;
};

/// A parked operation that completes with the arguments of `Signature`.
template <class Signature, class Base = waiter>
class waiter_of;

template <class Failure, class... Results, class Base>
class waiter_of<void(Failure, Results...), Base> : public Base {
public:
    using signature = void(Failure, Results...);
    using results = std::tuple<Failure, Results...>;

    void complete(Failure failure, Results... values) noexcept {
        results all(std::move(failure), std::move(values)...);
        this->finish(&all);
    }

protected:
    using Base::Base;
};

/// Owns an operation that is neither parked nor finished.
struct destroy_waiter {
    void operator()(waiter* w) const noexcept { w->destroy(); }
};
template <class Waiter>
using waiter_ptr = std::unique_ptr<Waiter, destroy_waiter>;

/// A first-in, first-out list of waiters linked through themselves. Every call but `append` and
/// the destructor is O(1); nothing allocates. A waiter that is still in the list when the list
/// goes is destroyed uncalled.
class waiter_list {
public:
    waiter_list() = default;
    waiter_list(waiter_list const&) = delete;
    waiter_list& operator=(waiter_list const&) = delete;
    ~waiter_list() {
        while (waiter* w = pop_front()) w->destroy();
    }

    bool empty() const noexcept { return first_ == nullptr; }
    std::size_t size() const noexcept { return size_; }
    waiter* front() const noexcept { return first_; }
    waiter* back() const noexcept { return last_; }

    void push_back(waiter& w) noexcept {
        w.home_ = this;
        w.next_ = nullptr;
        w.previous_ = last_;
        (last_ ? last_->next_ : first_) = &w;
        last_ = &w;
        ++size_;
    }

    /// Unlinks `w`, which must be in this list.
    void erase(waiter& w) noexcept {
        (w.previous_ ? w.previous_->next_ : first_) = w.next_;
        (w.next_ ? w.next_->previous_ : last_) = w.previous_;
        w.next_ = w.previous_ = nullptr;
        w.home_ = nullptr;
        --size_;
    }

    waiter* pop_front() noexcept {
        waiter* const w = first_;
        if (w) erase(*w);
        return w;
    }

    /// Moves all of `other` behind the last one here; O(size of `other`).
    void append(waiter_list& other) noexcept {
        while (waiter* w = other.pop_front()) push_back(*w);
    }

    void abort_all(error_code ec) noexcept {
        while (waiter* w = pop_front()) w->abort(ec);
    }

private:
    waiter* first_ = nullptr;
    waiter* last_ = nullptr;
    std::size_t size_ = 0;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
