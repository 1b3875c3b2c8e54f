// SPDX-License-Identifier: BSL-1.0
// Shows whether a coroutine goes on where it belongs.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>

namespace test {

/// True in a function that `executor` runs: an io_context's, or a strand of one.
inline bool runs_here(boost::asio::any_io_executor const& executor) {
    using of_context = boost::asio::io_context::executor_type;
    using boost::asio::strand;
    auto const runs = [](auto const* found) { return found && found->running_in_this_thread(); };
    return runs(executor.target<strand<boost::asio::any_io_executor>>()) ||
           runs(executor.target<strand<of_context>>()) || runs(executor.target<of_context>());
}

} // namespace test
