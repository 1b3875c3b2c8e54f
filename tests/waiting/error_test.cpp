// SPDX-License-Identifier: BSL-1.0
// Codes, what they say, and what they are counted as.
#include <tidegate/error.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/error.hpp>

#include <set>
#include <string>

using tidegate::condition;
using tidegate::error;
using tidegate::error_code;

TEST_CASE("every error says something else, and what is none says that") {
    std::set<std::string> said;
    error_code const last = error::over_budget;
    for (int value = 1; value <= last.value(); ++value) {
        error_code const code(value, last.category());
        CHECK(code.category().name() == std::string("tidegate"));
        CHECK(code.message() != "unknown tidegate error");
        CHECK(said.insert(code.message()).second);
    }
    for (int const value : {0, last.value() + 1, -1})
        CHECK(error_code(value, last.category()).message() == "unknown tidegate error");
}

TEST_CASE("what was rejected because of load says so, and nothing else is counted as that") {
    boost::system::error_condition const rejected = condition::rejected;
    CHECK(rejected.category().name() == std::string("tidegate.condition"));
    CHECK(rejected.message() == "rejected because of load");
    CHECK(error_code(error::queue_full) == rejected);
    CHECK_FALSE(error_code(error::closed) == rejected);
    CHECK_FALSE(error_code(boost::asio::error::operation_aborted) == rejected);
    boost::system::error_condition const other(rejected.value() + 1, rejected.category());
    CHECK(other.message() == "unknown tidegate condition");
    CHECK_FALSE(error_code(error::queue_full) == other);
}
