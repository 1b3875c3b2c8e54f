// SPDX-License-Identifier: BSL-1.0
// Cells hold every byte of what is set, whatever its size.
#include <tidegate/core/cache/entry_cell.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <array>
#include <cstddef>
#include <string>
#include <type_traits>

using namespace tidegate::core;

namespace {

template <std::size_t size>
std::array<unsigned char, size> pattern(unsigned char first) {
    std::array<unsigned char, size> bytes{};
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<unsigned char>(first + i);
    return bytes;
}

template <std::size_t size>
using bytes_of = std::integral_constant<std::size_t, size>;

} // namespace

TEMPLATE_TEST_CASE("a shared cell gives back what was set, and is no larger than its words", "",
                   bytes_of<1>, bytes_of<7>, bytes_of<8>, bytes_of<9>, bytes_of<16>, bytes_of<20>,
                   bytes_of<64>) {
    constexpr std::size_t size = TestType::value;
    shared_cell<std::array<unsigned char, size>> cell;
    STATIC_CHECK(sizeof(cell) == (size + 7) / 8 * 8);
    CHECK(cell.get() == std::array<unsigned char, size>{});
    cell.set(pattern<size>(1));
    CHECK(cell.get() == pattern<size>(1));
    auto other = pattern<size>(100);
    cell.exchange(other);
    CHECK(cell.take() == pattern<size>(100));
    CHECK(other == pattern<size>(1));
}

TEST_CASE("a plain cell holds what can only be moved") {
    plain_cell<std::string> cell(std::string(100, 'a'));
    std::string other(100, 'b');
    cell.exchange(other);
    CHECK(cell.get() == std::string(100, 'b'));
    CHECK(other == std::string(100, 'a'));
    std::string const taken = cell.take();
    CHECK(taken == std::string(100, 'b'));
}
