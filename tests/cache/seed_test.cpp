// SPDX-License-Identifier: BSL-1.0
// Where keys lie in a cache cannot be foreseen.
#include "cache/support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <vector>

namespace {

// Of a divided cache, each part keeps its last few.
std::vector<int> kept_of_many() {
    boost::asio::io_context io;
    tidegate::cache<int, int, tidegate::eviction::lru> cache(
        io, tidegate::cache_options<int, int>{}.max_entries(64).shards(16));
    for (int key = 0; key < 1000; ++key) cache.put(key, key);
    auto keys = cache.hottest_keys();
    std::ranges::sort(keys);
    return keys;
}

} // namespace

TEST_CASE("which keys share a part differs between caches") {
    CHECK(kept_of_many() != kept_of_many());
}
