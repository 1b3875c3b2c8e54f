// SPDX-License-Identifier: BSL-1.0
// After which failures the work may have been done.
#include <tidegate/call.hpp>

#include <boost/asio/error.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/websocket/error.hpp>
#include <catch2/catch_test_macros.hpp>

#include <exception>
#include <stdexcept>

namespace asio = boost::asio;
namespace beast = boost::beast;
using tidegate::error_code;
using tidegate::failure;

TEST_CASE("an answer that was lost leaves open whether the work was done") {
    CHECK(failure(tidegate::error::deadline_exceeded).is_ambiguous());
    CHECK(failure(asio::error::connection_reset).is_ambiguous());
    CHECK(failure(asio::error::eof).is_ambiguous());
    CHECK(failure(error_code(beast::error::timeout)).is_ambiguous());
    CHECK(failure(error_code(beast::http::error::end_of_stream)).is_ambiguous());
    CHECK(failure(error_code(beast::http::error::partial_message)).is_ambiguous());
    CHECK(failure(error_code(beast::http::error::bad_value)).is_ambiguous());
    CHECK(failure(error_code(beast::websocket::error::closed)).is_ambiguous());
}

TEST_CASE("what was not begun, and what was answered, is not ambiguous") {
    CHECK_FALSE(failure().is_ambiguous());
    CHECK_FALSE(failure(asio::error::connection_refused).is_ambiguous());
    CHECK_FALSE(failure(asio::error::host_not_found).is_ambiguous());
    CHECK_FALSE(failure(tidegate::error::circuit_open).is_ambiguous());
    CHECK_FALSE(failure::before_start(tidegate::error::deadline_exceeded).is_ambiguous());
    CHECK_FALSE(failure(std::make_exception_ptr(std::runtime_error("503"))).is_ambiguous());
}
