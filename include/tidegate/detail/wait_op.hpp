// SPDX-License-Identifier: BSL-1.0
// A waiter together with its completion handler: how every operation of the library completes.
#pragma once

#include <tidegate/detail/compat.hpp>
#include <tidegate/detail/posting_work.hpp>
#include <tidegate/detail/waiter.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_allocator.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/recycling_allocator.hpp>
#include <boost/system/system_error.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

namespace asio = boost::asio;

/// Where an operation completes, kept running until it does: outstanding work on the handler's
/// executor, and on the primitive's when that is another one.
template <class Handler, class Executor>
class completion_site {
    using handler_executor = asio::associated_executor_t<Handler, Executor>;

public:
    completion_site(Handler const& handler, Executor const& executor)
        : completion_site(asio::get_associated_executor(handler, executor), executor, 0) {}

    /// True if the handler's executor is the primitive's.
    bool at_home() const noexcept { return !primitive_work_; }

    /// Never runs `function` inside the call.
    template <class Function, class Allocator>
    void post(Function&& function, Allocator const& allocator) {
        if constexpr (can_post<handler_executor>) {
            to_.post(std::forward<Function>(function), allocator);
        } else {
            // By way of the primitive's executor: from there it may even run at once.
            primitive_work_->post(
                [to = std::move(to_), f = std::forward<Function>(function)]() mutable {
                    to.execute(std::move(f));
                },
                allocator);
        }
    }

private:
    completion_site(handler_executor const& to, Executor const& executor, int) : to_(to) {
        if constexpr (std::is_same_v<handler_executor, Executor> && can_post<Executor>) {
            if (to == executor) return;
        }
        primitive_work_.emplace(executor);
    }

    std::conditional_t<can_post<handler_executor>, posting_work<handler_executor>,
                       plain_work<handler_executor>>
        to_;
    std::optional<posting_work<Executor>> primitive_work_;
};

template <class Failure>
Failure to_failure(error_code ec) {
    if constexpr (std::is_same_v<Failure, std::exception_ptr>) {
        return std::make_exception_ptr(boost::system::system_error(ec));
    } else {
        return ec;
    }
}

/// Tells once the handler has run, or was destroyed uncalled.
class finished_handler {
public:
    explicit finished_handler(std::shared_ptr<after_handler> told) noexcept
        : told_(std::move(told)) {}
    finished_handler(finished_handler&&) noexcept = default;
    finished_handler& operator=(finished_handler&&) = delete;
    ~finished_handler() {
        if (told_) told_->handler_finished();
    }

private:
    std::shared_ptr<after_handler> told_;
};

/// What is posted to the handler's executor.
template <class Handler, class Results>
struct completion {
    finished_handler afterwards; // first: it goes after the handler
    Handler handler;
    Results results;
    bool clear_slot;

    void operator()() {
        finished_handler const at_exit = std::move(afterwards);
        // Here, where the handler runs, and not on the waking thread: a slot belongs to the
        // handler's executor.
        if (clear_slot) asio::get_associated_cancellation_slot(handler).clear();
        std::apply([this](auto&&... values) { std::move(handler)(std::move(values)...); },
                   std::move(results));
    }
};

/// The usual case, in a sixteenth of the memory: the handler runs where the primitive lives, which
/// is an io_context behind a type-erased executor.
class home_site {
    using io_executor = asio::io_context::executor_type;

public:
    template <class Handler>
    home_site(Handler const&, io_executor const& home) : home_(home) {}

    template <class Handler, class Executor>
    static constexpr bool is_possible =
        std::is_same_v<Executor, asio::any_io_executor> &&
        std::is_same_v<asio::associated_executor_t<Handler, Executor>, Executor>;

    /// The io_context of `executor`, if `handler` is at home there.
    template <class Handler, class Executor>
    static io_executor const* of(Handler const& handler, Executor const& executor) noexcept {
        auto const* const io = executor.template target<io_executor>();
        return io && asio::get_associated_executor(handler, executor) == executor ? io : nullptr;
    }

    static constexpr bool at_home() noexcept { return true; }

    template <class Function, class Allocator>
    void post(Function&& function, Allocator const& allocator) {
        home_.post(std::forward<Function>(function), allocator);
    }

private:
    posting_work<io_executor> home_;
};

template <class Node, class Handler, class Executor, class Site>
class wait_op_at;

/// `Node` is what the primitive's lists see, derived from `waiter_of<Signature>`. Where it
/// completes comes behind it, in a class of its own, since that can be small.
template <class Node, class Handler, class Executor>
class wait_op : public Node {
public:
    template <class SomeHandler, class... NodeArguments>
    static waiter_ptr<wait_op> make(SomeHandler&& handler, Executor const& executor,
                                    NodeArguments&&... arguments) {
        if constexpr (home_site::is_possible<Handler, Executor>) {
            if (auto const* const io = home_site::of(std::as_const(handler), executor)) {
                return wait_op_at<Node, Handler, Executor, home_site>::make(
                    *io, std::forward<SomeHandler>(handler),
                    std::forward<NodeArguments>(arguments)...);
            }
        }
        return wait_op_at<Node, Handler, Executor, completion_site<Handler, Executor>>::make(
            executor, std::forward<SomeHandler>(handler),
            std::forward<NodeArguments>(arguments)...);
    }

    /// True if the handler runs on the primitive's own executor.
    bool completes_at_home() const noexcept { return at_home_; }

    auto cancellation_slot() const noexcept {
        return asio::get_associated_cancellation_slot(handler_);
    }

    /// A handler is installed in the cancellation slot: clear it before the handler runs.
    void clear_slot_on_completion() noexcept { clear_slot_ = true; }

protected:
    template <class SomeHandler, class... NodeArguments>
    wait_op(waiter::finish_fn how, SomeHandler&& handler, NodeArguments&&... arguments)
        : Node(how, std::forward<NodeArguments>(arguments)...),
          handler_(std::forward<SomeHandler>(handler)) {}
    ~wait_op() = default;

    Handler handler_;
    bool clear_slot_ = false;
    bool at_home_ = false;
};

template <class Node, class Handler, class Executor, class Site>
class wait_op_at final : public wait_op<Node, Handler, Executor> {
    using base = wait_op<Node, Handler, Executor>;

public:
    /// `where` is an executor that `Site` takes.
    template <class Where, class SomeHandler, class... NodeArguments>
    static waiter_ptr<base> make(Where const& where, SomeHandler&& handler,
                                 NodeArguments&&... arguments) {
        allocator_type allocator(allocator_of(handler));
        auto* const memory = std::allocator_traits<allocator_type>::allocate(allocator, 1);
        try {
            return waiter_ptr<base>(::new (static_cast<void*>(memory))
                                        wait_op_at(where, std::forward<SomeHandler>(handler),
                                                   std::forward<NodeArguments>(arguments)...));
        } catch (...) {
            std::allocator_traits<allocator_type>::deallocate(allocator, memory, 1);
            throw;
        }
    }

private:
    using results = typename Node::results;
    using failure = std::tuple_element_t<0, results>;

    template <class Where, class SomeHandler, class... NodeArguments>
    wait_op_at(Where const& where, SomeHandler&& handler, NodeArguments&&... arguments)
        : base(&wait_op_at::finish, std::forward<SomeHandler>(handler),
               std::forward<NodeArguments>(arguments)...),
          site_(std::as_const(this->handler_), where) {
        this->at_home_ = site_.at_home();
    }

    static auto allocator_of(Handler const& handler) noexcept {
        return asio::get_associated_allocator(handler, asio::recycling_allocator<void>());
    }
    using allocator_type = typename std::allocator_traits<decltype(allocator_of(
        std::declval<Handler const&>()))>::template rebind_alloc<wait_op_at>;

    // The memory is given back before the handler runs or is posted, so that posting can use it
    // again. No memory for the posting leaves no way to keep the promise to complete: terminate.
    static void finish(waiter* node, waiter::outcome how, void* argument) {
        auto* const self = static_cast<wait_op_at*>(node);
        allocator_type allocator(allocator_of(self->handler_));
        bool const destroyed = how == waiter::outcome::destroy;
        completion<Handler, results> done{
            finished_handler(destroyed ? nullptr : std::move(self->afterwards_)),
            std::move(self->handler_), results_from<results>(how, argument), self->clear_slot_};
        Site site(std::move(self->site_));
        self->~wait_op_at();
        std::allocator_traits<allocator_type>::deallocate(allocator, self, 1);
        if (how == waiter::outcome::complete_here) done();
        else if (!destroyed) site.post(std::move(done), allocator);
    }

    template <class Results>
    static Results results_from(waiter::outcome how, void* argument) {
        if (how == waiter::outcome::complete || how == waiter::outcome::complete_here) {
            return std::move(*static_cast<Results*>(argument));
        }
        Results empty{};
        if (how == waiter::outcome::abort) {
            std::get<0>(empty) = to_failure<failure>(*static_cast<error_code*>(argument));
        }
        return empty;
    }

    Site site_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
