// SPDX-License-Identifier: BSL-1.0
// Out and back in again.
#include <tidegate/value_codec.hpp>

#include <catch2/catch_test_macros.hpp>

#include <limits>
#include <stdexcept>

using tidegate::default_codec;

namespace {

enum class colour : signed char { red = -3, green = 4 };

template <class V>
void check(V const& value) {
    auto const codec = default_codec<V>();
    CHECK(codec.decode(codec.encode(value)) == value);
}

} // namespace

TEST_CASE("default codecs give back what they got") {
    check(std::string("a\0b", 3));
    check(std::string());
    check(std::vector<std::byte>{std::byte{0}, std::byte{255}});
    check(std::vector<unsigned char>{});
    check(std::numeric_limits<std::int64_t>::min());
    check(std::numeric_limits<std::uint64_t>::max());
    check(static_cast<unsigned char>(200));
    check(colour::red);
    CHECK(default_codec<int>().encode(-12) == "-12");
}

TEST_CASE("what is no integer of the type is refused") {
    for (auto const text : {"", "x", "1x", " 1", "1.0", "300", "-1"}) {
        CHECK_THROWS_AS(default_codec<unsigned char>().decode(text), std::invalid_argument);
    }
}
