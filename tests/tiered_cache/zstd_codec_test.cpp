// SPDX-License-Identifier: BSL-1.0
// Compressed with the real library, and bytes that are not what they should be.
#include "support/stress.hpp"

#include <tidegate/zstd_codec.hpp>

#include <catch2/catch_test_macros.hpp>

using tidegate::zstd_options;

namespace {

tidegate::value_codec<std::string> codec(zstd_options settings = {}) {
    return tidegate::zstd_codec(tidegate::default_codec<std::string>(), settings);
}

std::string noise(std::size_t size) {
    test::random random(1);
    std::string bytes(size, ' ');
    for (char& c : bytes) c = static_cast<char>(test::below(random, 256));
    return bytes;
}

} // namespace

TEST_CASE("large values that shrink are compressed, others stay as they are") {
    std::string const same(100'000, 'x');
    CHECK(codec().encode(same).size() < 100);
    CHECK(codec().encode(std::string(1023, 'x')).size() == 1024);
    CHECK(codec().encode(std::string(1024, 'x')).size() < 100);
    CHECK(codec().encode(noise(5000)).size() == 5001);
    for (auto const& text : {std::string(), std::string("a"), same, noise(5000)}) {
        CHECK(codec().decode(codec().encode(text)) == text);
        CHECK(codec(zstd_options().above(0).level(19)).decode(codec().encode(text)) == text);
    }
}

TEST_CASE("bytes that no codec made are refused, and take no memory") {
    auto packed = codec().encode(std::string(100'000, 'x'));
    CHECK_THROWS_AS(codec().decode(""), std::runtime_error);
    CHECK_THROWS_AS(codec().decode("q"), std::runtime_error);
    CHECK_THROWS_AS(codec().decode("znonsense"), std::runtime_error);
    CHECK_THROWS_AS(codec().decode(packed.substr(0, packed.size() - 1)), std::runtime_error);
    CHECK_THROWS_AS(codec(zstd_options().max_size(99'999)).decode(packed), std::runtime_error);
    test::random random(2);
    for (int i = 0; i < 2000; ++i) {
        auto bad = packed;
        bad[test::below(random, bad.size())] = static_cast<char>(test::below(random, 256));
        std::size_t size = 0;
        try {
            size = codec(zstd_options().max_size(200'000)).decode(bad).size();
        } catch (std::runtime_error const&) { // as it should
        }
        CHECK(size <= 200'000);
    }
}

TEST_CASE("options out of range are refused") {
    CHECK_THROWS_AS(zstd_options().level(0), std::invalid_argument);
    CHECK_THROWS_AS(zstd_options().level(20), std::invalid_argument);
    CHECK_THROWS_AS(zstd_options().max_size(0), std::invalid_argument);
}
