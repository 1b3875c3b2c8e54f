// SPDX-License-Identifier: BSL-1.0
// The list of entries beside std::list.
#include <tidegate/core/cache/entry_list.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <iterator>
#include <list>
#include <vector>

namespace {

using tidegate::core::entry_id;
using tidegate::core::entry_links;
using tidegate::core::entry_list;
using tidegate::core::no_entry;

std::list<entry_id> forwards(entry_list const& list, std::vector<entry_links> const& links) {
    std::list<entry_id> all;
    for (entry_id id = list.front(); id != no_entry; id = links[id].next) all.push_back(id);
    return all;
}
std::list<entry_id> backwards(entry_list const& list, std::vector<entry_links> const& links) {
    std::list<entry_id> all;
    for (entry_id id = list.back(); id != no_entry; id = links[id].previous) all.push_front(id);
    return all;
}

} // namespace

TEST_CASE("entries are linked as in a list of the standard library") {
    constexpr std::size_t entries = 12;
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::vector<entry_links> links(entries);
        auto const at = [&](entry_id id) -> entry_links& { return links[id]; };
        entry_list list;
        std::list<entry_id> model;
        for (std::size_t step = 0; step < test::schedules(4000); ++step) {
            auto const id = static_cast<entry_id>(test::below(random, entries));
            auto const found = std::ranges::find(model, id);
            if (found != model.end()) {
                list.erase(id, at);
                model.erase(found);
            } else if (random() % 2) {
                list.push_back(id, at);
                model.push_back(id);
            } else {
                auto const place =
                    std::next(model.begin(),
                              static_cast<std::ptrdiff_t>(test::below(random, model.size() + 1)));
                list.insert_before(place == model.end() ? no_entry : *place, id, at);
                model.insert(place, id);
            }
            REQUIRE(list.empty() == model.empty());
            REQUIRE(forwards(list, links) == model);
            REQUIRE(backwards(list, links) == model);
        }
    }
}
