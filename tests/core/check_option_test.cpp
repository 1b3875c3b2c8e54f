// SPDX-License-Identifier: BSL-1.0
// An option may be as low and as high as it says, and a refusal tells all one has to know.
#include <tidegate/core/check_option.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <cstdint>
#include <limits>
#include <stdexcept>

using Catch::Matchers::Message;
using tidegate::detail::check_option;

TEST_CASE("the lowest and the highest value are allowed, and what lies between") {
    for (int value = -2; value <= 3; ++value) CHECK_NOTHROW(check_option("places", value, -2, 3));
    CHECK_NOTHROW(check_option("places", 7, 7, 7));
    constexpr auto most = std::numeric_limits<std::uint64_t>::max();
    CHECK_NOTHROW(check_option<std::uint64_t>("places", most, 0, most));
    CHECK_NOTHROW(check_option<std::uint64_t>("places", 0, 0, most));
}

TEST_CASE("what is refused names the option, its value and what is allowed") {
    CHECK_THROWS_MATCHES(check_option("places", 0, 1, 9), std::invalid_argument,
                         Message("tidegate: places is 0, allowed is 1 to 9"));
    CHECK_THROWS_MATCHES(check_option("places", 10, 1, 9), std::invalid_argument,
                         Message("tidegate: places is 10, allowed is 1 to 9"));
    CHECK_THROWS_MATCHES(check_option<std::int64_t>("delay in ns", -3, -2, -1),
                         std::invalid_argument,
                         Message("tidegate: delay in ns is -3, allowed is -2 to -1"));
    CHECK_THROWS_MATCHES(
        check_option<std::uint64_t>("burst", ~std::uint64_t{0}, 1, ~std::uint64_t{0} - 1),
        std::invalid_argument,
        Message("tidegate: burst is 18446744073709551615, allowed is 1 to 18446744073709551614"));
}
