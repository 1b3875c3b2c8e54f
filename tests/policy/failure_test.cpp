// SPDX-License-Identifier: BSL-1.0
// What a failure knows of the exception that it was made of.
#include <tidegate/call.hpp>

#include <boost/asio/error.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cerrno>
#include <exception>
#include <future>
#include <system_error>

namespace asio = boost::asio;
using tidegate::failure;

TEST_CASE("the code of a standard system_error is the failure's") {
    auto const of = [](std::error_code ec) {
        return failure(std::make_exception_ptr(std::system_error(ec)));
    };
    failure const lost = of({asio::error::connection_reset, std::system_category()});
    CHECK(lost.code() == asio::error::connection_reset);
    CHECK(lost.is_ambiguous());
    CHECK_THROWS_AS(lost.rethrow(), std::system_error);
    CHECK(of({asio::error::operation_aborted, std::system_category()}).is_cancellation());
    CHECK(of(std::make_error_code(std::errc::no_such_file_or_directory)).code() ==
          boost::system::errc::no_such_file_or_directory);
#if !defined(_WIN32) // where the system's numbers are others
    CHECK(of(std::make_error_code(std::errc::connection_reset)).is_ambiguous());
    CHECK(of(std::make_error_code(std::errc::operation_canceled)).is_cancellation());
#endif
    std::error_code const other = std::make_error_code(std::future_errc::broken_promise);
    CHECK(std::error_code(of(other).code()) == other);
}

TEST_CASE("the library's own code is known in a standard system_error, too") {
    std::error_code const closed = tidegate::make_error_code(tidegate::error::closed);
    failure const f(std::make_exception_ptr(std::system_error(closed)));
    CHECK(f.code() == tidegate::error::closed);
}
