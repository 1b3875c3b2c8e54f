// SPDX-License-Identifier: BSL-1.0
// An executor on which only one thing runs at a time.
#pragma once

#include <tidegate/config.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// `executor` if it is a strand, else a new strand of it: for an operation that runs beside the
/// coroutine that may cancel it.
inline boost::asio::any_io_executor serial_executor(boost::asio::any_io_executor const& executor) {
    namespace asio = boost::asio;
    using io_executor = asio::io_context::executor_type;
    if (executor.target<asio::strand<io_executor>>() ||
        executor.target<asio::strand<asio::any_io_executor>>()) {
        return executor;
    }
    if (auto const* io = executor.target<io_executor>()) return asio::make_strand(*io);
    return asio::make_strand(executor);
}

} // namespace detail
TIDEGATE_END_NAMESPACE
