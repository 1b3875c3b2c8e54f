// SPDX-License-Identifier: BSL-1.0
// Which bytes are UTF-8, at the bounds of each row of Unicode's table 3-7.
#include <tidegate/detail/utf8.hpp>

#include <catch2/catch_test_macros.hpp>

#include <string>
#include <string_view>

using namespace std::string_view_literals;
using tidegate::detail::is_utf8;
using tidegate::detail::to_utf8;

TEST_CASE("what is UTF-8 stays as it is") {
    for (auto const text :
         {""sv, "\0"sv, "a\x7F"sv, "\xC2\x80"sv, "\xDF\xBF"sv, "\xE0\xA0\x80"sv, "\xE0\xBF\xBF"sv,
          "\xE1\x80\x80"sv, "\xEC\xBF\xBF"sv, "\xED\x80\x80"sv, "\xED\x9F\xBF"sv, "\xEE\x80\x80"sv,
          "\xEF\xBF\xBF"sv, "\xF0\x90\x80\x80"sv, "\xF0\xBF\xBF\xBF"sv, "\xF1\x80\x80\x80"sv,
          "\xF3\xBF\xBF\xBF"sv, "\xF4\x80\x80\x80"sv, "\xF4\x8F\xBF\xBF"sv}) {
        INFO(text);
        std::string const twice = "x" + std::string(text) + std::string(text) + "y";
        CHECK(is_utf8(twice));
        CHECK(to_utf8(twice) == twice);
    }
}

TEST_CASE("each byte that is not part of a character becomes U+FFFD") {
    for (auto const text : {"\x80"sv,
                            "\xBF"sv,
                            "\xC0\x80"sv,
                            "\xC1\xBF"sv,
                            "\xC2"sv,
                            "\xC2\xC0"sv,
                            "\xC2\x7F"sv,
                            "\xE0\x9F\xBF"sv,
                            "\xE0\xC0\x80"sv,
                            "\xE1\x7F\x80"sv,
                            "\xE1\x80"sv,
                            "\xE1\x80\xC0"sv,
                            "\xED\xA0\x80"sv,
                            "\xED\xBF\xBF"sv,
                            "\xF0\x8F\xBF\xBF"sv,
                            "\xF1\x80\x80"sv,
                            "\xF1\x80\x80\xC0"sv,
                            "\xF1\x80\x7F\x80"sv,
                            "\xF4\x90\x80\x80"sv,
                            "\xF5\x80\x80\x80"sv,
                            "\xFE"sv,
                            "\xFF"sv}) {
        std::string mended = "x";
        for (char const c : text) mended += c == '\x7F' ? "\x7F" : "\xEF\xBF\xBD";
        for (std::string_view const after : {"", "y", "\xC3\xA9"}) {
            std::string const whole = "x" + std::string(text) + std::string(after);
            INFO(whole);
            CHECK_FALSE(is_utf8(whole));
            CHECK(to_utf8(whole) == mended + std::string(after));
        }
    }
}
