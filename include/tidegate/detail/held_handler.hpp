// SPDX-License-Identifier: BSL-1.0
// A handler that outlives an operation that could not be started.
#pragma once

#include <tidegate/detail/compat.hpp>
#include <tidegate/detail/one_block_allocator.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>

#include <memory>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// For waiting with one: where the handler runs elsewhere, on a strand say, it takes 272 bytes.
using held_wait_block = basic_one_block<512>;

/// Stands for a handler, of which there is one however many copies of this: an operation that
/// throws when it is started takes its copy with it, and another copy can still complete. `Owner`
/// has the memory, for the handler and for the operation, and stays until both are given back.
template <class Handler, class Owner>
class held_handler {
public:
    using executor_type = boost::asio::associated_executor_t<Handler, boost::asio::any_io_executor>;
    using allocator_type = one_block_allocator<void, held_wait_block>;
    using cancellation_slot_type = boost::asio::cancellation_slot;

    /// One that is not `stoppable` does not hear of cancellation. If this throws, `handler` is as
    /// it was.
    held_handler(std::shared_ptr<Owner> owner, one_block& handler_memory, held_wait_block& memory,
                 Handler&& handler, bool stoppable)
        : owner_(std::move(owner)),
          memory_(&memory),
          stoppable_(stoppable),
          handler_(std::allocate_shared<Handler>(one_block_allocator<Handler>(handler_memory),
                                                 std::move(handler))) {}

    executor_type get_executor() const noexcept {
        return boost::asio::get_associated_executor(*handler_, boost::asio::any_io_executor());
    }
    allocator_type get_allocator() const noexcept { return allocator_type(*memory_); }
    cancellation_slot_type get_cancellation_slot() const noexcept {
        return stoppable_ ? boost::asio::get_associated_cancellation_slot(*handler_)
                          : cancellation_slot_type();
    }

    /// Its memory is given back before the handler runs.
    template <class... Results>
    void operator()(Results&&... results) {
        auto const owner = std::move(owner_);
        Handler handler = std::move(*handler_);
        handler_.reset();
        std::move(handler)(std::forward<Results>(results)...);
    }

private:
    std::shared_ptr<Owner> owner_; // goes last
    held_wait_block* memory_;
    bool stoppable_;
    std::shared_ptr<Handler> handler_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
