// SPDX-License-Identifier: BSL-1.0
// Lets a stall_detector watch every handler of a program. For the compiler's command line:
//
//     -DBOOST_ASIO_CUSTOM_HANDLER_TRACKING='<tidegate/asio_tracking.hpp>'
//
// in every source file of the program, the same everywhere, or it is not one program (ODR). Costs
// two stores a handler.
#pragma once

#include <tidegate/detail/activity.hpp>

#define BOOST_ASIO_INHERIT_TRACKED_HANDLER
#define BOOST_ASIO_ALSO_INHERIT_TRACKED_HANDLER
#define BOOST_ASIO_HANDLER_TRACKING_INIT (void)0
#define BOOST_ASIO_HANDLER_LOCATION(args) (void)0
#define BOOST_ASIO_HANDLER_CREATION(args) (void)0
#define BOOST_ASIO_HANDLER_COMPLETION(args)                                                        \
    ::tidegate::detail::tracked_invocation tidegate_invocation
#define BOOST_ASIO_HANDLER_INVOCATION_BEGIN(args) tidegate_invocation.begin()
#define BOOST_ASIO_HANDLER_INVOCATION_END tidegate_invocation.end()
#define BOOST_ASIO_HANDLER_OPERATION(args) (void)0
#define BOOST_ASIO_HANDLER_REACTOR_REGISTRATION(args) (void)0
#define BOOST_ASIO_HANDLER_REACTOR_DEREGISTRATION(args) (void)0
#define BOOST_ASIO_HANDLER_REACTOR_READ_EVENT 0
#define BOOST_ASIO_HANDLER_REACTOR_WRITE_EVENT 0
#define BOOST_ASIO_HANDLER_REACTOR_ERROR_EVENT 0
#define BOOST_ASIO_HANDLER_REACTOR_EVENTS(args) (void)0
#define BOOST_ASIO_HANDLER_REACTOR_OPERATION(args) (void)0
