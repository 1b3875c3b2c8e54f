// SPDX-License-Identifier: BSL-1.0
// The table under keyed limits: it agrees with a map, however keys collide.
#include <tidegate/detail/bucket_table.hpp>
#include <tidegate/detail/key_mixing.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>

using tidegate::detail::bucket_table;
using tidegate::detail::key_bucket;

namespace {

std::string name_of(std::uint64_t n) {
    return "a key that is too long to be kept inside of a string: " + std::to_string(n);
}

// Few hashes, some of them at the very end of the table, where probing wraps round.
std::uint32_t colliding(std::uint64_t n) {
    return static_cast<std::uint32_t>(n % 7 == 0 ? ~std::uint64_t{0} : (n % 13 + 1) << 28);
}

class brittle {
public:
    explicit brittle(int n) : n_(n) {}
    brittle(brittle const& other) : n_(other.n_) {
        if (n_ == 13) throw std::runtime_error("not to be copied");
    }
    brittle(brittle&&) noexcept = default;
    bool operator==(brittle const&) const = default;

private:
    int n_;
};

} // namespace

TEST_CASE("the table of buckets agrees with a map") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random random(seed);
        bucket_table<std::string, std::equal_to<std::string>> table;
        std::map<std::string, std::uint64_t> model;
        std::map<std::uint64_t, std::string> key_of; // by what is granted, another for each key
        for (int i = 0; i < 3000; ++i) {
            std::uint64_t const n = test::below(random, 300);
            std::string const key = name_of(n);
            std::uint32_t const hash = colliding(n);
            key_bucket* const found = table.find(key, hash);
            REQUIRE((found != nullptr) == model.contains(key));
            if (found) {
                REQUIRE(found->granted == model[key]);
                REQUIRE(found->quota == n);
            } else {
                key_bucket const what{n + 1000, hash, static_cast<std::uint32_t>(n)};
                REQUIRE(table.insert(key, what).granted == what.granted);
                model[key] = what.granted;
                key_of[what.granted] = key;
            }
            if (test::below(random, 4) == 0) {
                table.sweep(test::below(random, 12), [&](key_bucket const& b) {
                    if (test::below(random, 2) == 0) return false;
                    model.erase(key_of.at(b.granted));
                    return true;
                });
            }
            REQUIRE(table.size() == model.size());
        }
        for (std::uint64_t n = 0; n < 300; ++n) {
            REQUIRE((table.find(name_of(n), colliding(n)) != nullptr) ==
                    model.contains(name_of(n)));
        }
    }
}

TEST_CASE("sweeping a table of buckets comes to every key") {
    bucket_table<int, std::equal_to<int>> table;
    for (int n = 0; n < 1000; ++n) {
        std::uint32_t const hash = static_cast<std::uint32_t>(n) * 2654435761u | 1u;
        table.insert(n, {static_cast<std::uint64_t>(n), hash, 0});
    }
    for (int calls = 0; table.size() > 0 && calls < 1000; ++calls) {
        table.sweep(24, [](key_bucket const&) { return true; });
    }
    CHECK(table.size() == 0);
    table.sweep(24, [](key_bucket const&) { return true; });
}

TEST_CASE("a key that cannot be copied leaves a table of buckets as it was") {
    bucket_table<brittle, std::equal_to<brittle>> table;
    for (int n = 0; n < 6; ++n) {
        table.insert(brittle(n), {1, static_cast<std::uint32_t>(n + 1) << 29 | 1u, 0});
    }
    CHECK_THROWS_AS(table.insert(brittle(13), {1, 77, 0}), std::runtime_error);
    CHECK(table.size() == 6);
    CHECK(table.find(brittle(13), 77) == nullptr);
    for (int n = 0; n < 6; ++n) {
        CHECK(table.find(brittle(n), static_cast<std::uint32_t>(n + 1) << 29 | 1u) != nullptr);
    }
}

TEST_CASE("keys in steps neither crowd in one row of a table nor behind one lock") {
    constexpr std::uint64_t keys = 20'000;
    for (std::uint64_t const seed : test::seeds()) {
        tidegate::detail::key_mixing const mixing(seed);
        for (unsigned shift = 0; shift < 64; ++shift) {
            INFO("seed " << seed << ", steps of 2^" << shift);
            bucket_table<std::uint64_t, std::equal_to<std::uint64_t>> table;
            std::array<std::uint64_t, 16> behind_lock{};
            // As many as differ: those whose bits are not shifted out.
            std::uint64_t const count = shift < 49 ? keys : std::uint64_t{1} << (63 - shift);
            for (std::uint64_t i = 0; i < count; ++i) {
                std::uint64_t const mixed = mixing(i << shift);
                key_bucket what;
                what.hash = decltype(table)::stored(mixed);
                table.insert(i << shift, what);
                ++behind_lock[mixed % behind_lock.size()];
            }
            // 1.5 steps are to be expected where three quarters of the slots are in use.
            CHECK(table.displacement() < count * 3 + 100);
            if (count == keys) {
                auto const [least, most] = std::ranges::minmax(behind_lock);
                CHECK(least > keys / 16 * 8 / 10); // six standard deviations off
                CHECK(most < keys / 16 * 12 / 10);
            }
        }
    }
}
