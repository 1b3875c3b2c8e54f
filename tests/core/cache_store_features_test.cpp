// SPDX-License-Identifier: BSL-1.0
// All that a store can keep of its entries beside a map, what it takes of memory, and looking on.
#include <tidegate/core/cache/adaptive.hpp>
#include <tidegate/core/cache/lru.hpp>
#include <tidegate/core/cache/soonest_expiry.hpp>
#include <tidegate/core/cache/store.hpp>

#include "support/stress.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using tidegate::removal_cause;
using namespace tidegate::core;

constexpr std::int64_t tick = std::int64_t{1} << 20; // of the wheel: about a millisecond
constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

std::uint32_t mixed(std::uint64_t key) {
    return static_cast<std::uint32_t>((key + 1) * 0x9e3779b97f4a7c15u >> 32);
}

struct nothing {
    template <class Key, class Value>
    void operator()(Key&&, Value&&, bool, removal_cause) const noexcept {}
};

// Large, so that few fill a chunk.
struct page {
    std::uint64_t number = 0;
    std::uint64_t rest[511] = {};
};
struct counted_page : page {
    static inline std::size_t alive = 0;

    explicit counted_page(std::uint64_t n) noexcept : page{n, {}} { ++alive; }
    counted_page(counted_page&& other) noexcept : page{std::exchange(other.number, 0), {}} {
        ++alive;
    }
    counted_page& operator=(counted_page&& other) noexcept {
        number = std::exchange(other.number, 0);
        return *this;
    }
    ~counted_page() { --alive; }
};

// First in, first out; notes what it is told that is not so.
class told_of_all {
public:
    struct node {};
    static inline std::string wrong;

    explicit told_of_all(std::uint64_t /*capacity*/) noexcept {}

    template <class Entries>
    void hit(Entries&, entry_id id) {
        note(known_.contains(id), "a hit on what is not there");
    }
    template <class Entries>
    void insert(Entries& entries, entry_id id) {
        auto const [at, added] = known_.try_emplace(id);
        note(added, "inserted twice");
        at->second = {entries.weight(id), entries.deadline(id)};
        order_.push_back(id);
    }
    template <class Entries>
    void erase(Entries& entries, entry_id id) {
        auto const at = known_.find(id);
        if (at == known_.end()) return note(false, "erased, but not there");
        note(at->second == seen{entries.weight(id), entries.deadline(id)}, "not told of a change");
        known_.erase(at);
        order_.erase(std::ranges::find(order_, id));
    }
    template <class Entries>
    void reweigh(Entries& entries, entry_id id, std::uint64_t before) {
        seen& s = known_.at(id);
        note(s.weight == before && entries.weight(id) != before, "weighs as before");
        s.weight = entries.weight(id);
    }
    template <class Entries>
    void deadline_changed(Entries& entries, entry_id id) {
        seen& s = known_.at(id);
        note(s.deadline != entries.deadline(id), "goes when it would have gone");
        s.deadline = entries.deadline(id);
    }
    template <class Entries>
    entry_id evict(Entries& entries) {
        entry_id const id = order_.front();
        erase(entries, id);
        return id;
    }
    void clear() { note(known_.empty(), "cleared, but something is left"); }
    template <class Entries, class Visit>
    void visit_hottest_first(Entries&, Visit&& visit) const {
        std::for_each(order_.rbegin(), order_.rend(), visit);
    }
    std::size_t bytes() const noexcept { return 0; }

private:
    struct seen {
        std::uint64_t weight;
        std::int64_t deadline;
        friend bool operator==(seen const&, seen const&) = default;
    };
    static void note(bool right, char const* what) {
        if (!right && wrong.empty()) wrong = what;
    }

    std::map<entry_id, seen> known_;
    std::vector<entry_id> order_;
};

template <class Policy, bool Shared>
struct kind {
    static constexpr bool shared = Shared;
    using value = std::conditional_t<Shared, page, counted_page>;
    using store = cache_store<std::uint32_t, value, Policy, Shared>;
};

// A store and what has to be in it.
template <class Kind>
class player {
    using store_type = typename Kind::store;
    using value = typename Kind::value;
    using times = typename store_type::times;

    struct kept {
        std::uint64_t number = 0;
        bool flag = false;
        std::uint64_t weight = 1;
        std::int64_t fresh_until = never;
        times when = {};
        std::int64_t since = 0; // when these times were set
    };

public:
    explicit player(test::random& random) : random_(random) {
        capacity_ = 1 + test::below(random_, random_() % 2 ? 10 : 120);
        keys_ = static_cast<std::uint32_t>(1 + capacity_ + test::below(random_, 30));
        features_.weighs = random_() % 2;
        features_.max_entries = features_.weighs ? 0 : capacity_;
        features_.expires = random_() % 4 > 0;
        features_.keeps_times = random_() % 2;
        features_.keeps_stale = features_.keeps_times && random_() % 2;
        store_.emplace(capacity_, features_, now_);
    }

    void step() {
        auto const key = static_cast<std::uint32_t>(test::below(random_, keys_));
        std::size_t const choice = test::below(random_, 200);
        entry_id const id = find(key);
        if (choice < 100) put(key, id);
        else if (choice < 130) touch(id);
        else if (choice < 145) erase(key, id);
        else if (choice < 165) set_times(key, id);
        else if (choice < 190) expire();
        else if (choice < 194) store_->release_memory();
        else if (choice < 198) take_retired();
        else if (choice < 199) erase_most();
        else clear();
        check();
    }

private:
    entry_id find(std::uint32_t key) const {
        return store_->find(mixed(key), key, std::equal_to<>());
    }

    void put(std::uint32_t key, entry_id id) {
        kept fresh{++last_, random_() % 2 > 0, 1, never, {}, now_};
        if (features_.weighs) {
            fresh.weight = test::below(
                random_, random_() % 4 ? std::min<std::uint64_t>(capacity_, 3) : capacity_ + 1);
        }
        draw_times(fresh);
        typename store_type::fresh_entry entry{mixed(key), key,          value{fresh.number},
                                               fresh.flag, fresh.weight, fresh.fresh_until,
                                               fresh.when};
        if (id == no_entry) {
            incoming_ = fresh.weight;
            store_->insert(std::move(entry), now_, removed());
            incoming_ = 0;
            model_[key] = fresh;
        } else {
            replaced_ = {key, std::exchange(model_.at(key), fresh)};
            store_->replace(id, std::move(entry), now_, removed());
            REQUIRE(!replaced_);
        }
    }

    void draw_times(kept& k) {
        if (!features_.expires) return;
        auto const some_time = [&] {
            std::int64_t const range = random_() % 2 ? 20 * tick : 500 * tick;
            std::int64_t const ahead =
                static_cast<std::int64_t>(test::below(random_, static_cast<std::size_t>(range)));
            return random_() % 4 ? now_ + ahead : never;
        };
        if (random_() % 4) k.fresh_until = some_time();
        if (features_.keeps_times) k.when = {some_time(), some_time(), some_time()};
        k.since = now_;
    }

    void touch(entry_id id) {
        if (id != no_entry) store_->touch(id);
    }
    void erase(std::uint32_t key, entry_id id) {
        if (id == no_entry) return;
        store_->erase(id, removal_cause::explicit_, removed());
        REQUIRE(!model_.contains(key));
    }
    void set_times(std::uint32_t key, entry_id id) {
        if (id == no_entry) return;
        kept& k = model_.at(key);
        draw_times(k);
        store_->set_times(id, k.fresh_until, k.when);
    }
    void expire() {
        now_ += static_cast<std::int64_t>(test::below(random_, 10 * tick));
        bool const all = random_() % 2;
        std::size_t const most = all ? 100'000 : test::below(random_, 10);
        std::size_t budget = most;
        std::size_t const before = model_.size();
        store_->expire(now_, budget, removed());
        REQUIRE(before - model_.size() <= most - budget);
        if (all) REQUIRE(!any_overdue());
    }
    void take_retired() {
        auto const blocks = store_->take_retired();
        REQUIRE(std::ranges::none_of(blocks, [](auto const& block) { return !block; }));
        REQUIRE(!store_->has_retired());
    }
    void erase_most() {
        std::uint32_t const left = static_cast<std::uint32_t>(test::below(random_, keys_));
        store_->for_each([&](entry_id id) {
            if (store_->key(id) != left) store_->erase(id, removal_cause::explicit_, removed());
        });
        REQUIRE(model_.size() <= 1);
        store_->release_memory();
    }
    void clear() {
        store_->clear(removed());
        REQUIRE(model_.empty());
    }

    std::int64_t deadline(kept const& k) const {
        bool const is_kept = features_.keeps_stale && k.fresh_until >= k.when.fresh_limit;
        return is_kept ? std::max(k.fresh_until, k.when.stale_limit) : k.fresh_until;
    }
    // Two milliseconds after its deadline, it is not there any more where all has expired.
    bool any_overdue() const {
        return std::ranges::any_of(model_, [this](auto const& one) {
            return std::max(deadline(one.second), one.second.since) <= now_ - 2 * tick;
        });
    }
    std::uint64_t weight() const {
        std::uint64_t sum = 0;
        for (auto const& [key, k] : model_) sum += k.weight;
        return sum;
    }

    auto removed() {
        return [this](std::uint32_t&& key, value&& v, bool flag, removal_cause cause) noexcept {
            on_removed(key, v.number, flag, cause);
        };
    }
    void note(bool right, char const* what) {
        if (!right && wrong_.empty()) wrong_ = what;
    }
    void on_removed(std::uint32_t key, std::uint64_t number, bool flag, removal_cause cause) {
        if (cause == removal_cause::replaced) {
            note(replaced_ && replaced_->first == key && replaced_->second.number == number &&
                     replaced_->second.flag == flag,
                 "replaced, but not this");
            replaced_.reset();
            return;
        }
        auto const at = model_.find(key);
        if (at == model_.end()) return note(false, "removed, but it was not there");
        kept const& k = at->second;
        note(k.number == number && k.flag == flag, "removed with another value or flag");
        if (cause == removal_cause::expired) note(deadline(k) <= now_, "expired too soon");
        if (cause == removal_cause::size) {
            note(weight() + incoming_ > capacity_, "there was room");
            note(!any_overdue(), "what has expired did not go first");
        }
        model_.erase(at);
    }

    void check() {
        REQUIRE(wrong_ == "");
        REQUIRE(told_of_all::wrong == "");
        REQUIRE(store_->size() == model_.size());
        REQUIRE(store_->total_weight() == weight());
        REQUIRE(store_->total_weight() <= capacity_);
        if (!Kind::shared) REQUIRE(counted_page::alive == model_.size());
        std::set<entry_id> ids;
        store_->for_each([&](entry_id id) {
            ids.insert(id);
            note(model_.contains(store_->key(id)), "visited, but it was not there");
        });
        REQUIRE(ids.size() == model_.size());
        std::size_t visited = 0;
        store_->visit_hottest_first([&](entry_id id) { visited += ids.contains(id); });
        REQUIRE(visited == ids.size());
        for (std::uint32_t key = 0; key < keys_; ++key) {
            auto const at = model_.find(key);
            note(is_as(find(key), at == model_.end() ? nullptr : &at->second), "found otherwise");
            if constexpr (Kind::shared) {
                note(looks_as(key, at == model_.end() ? nullptr : &at->second), "seen otherwise");
            }
        }
        REQUIRE(wrong_ == "");
    }
    bool is_as(entry_id id, kept const* k) const {
        if (!k) return id == no_entry;
        if (id == no_entry) return false;
        if (features_.keeps_times) {
            times const& when = store_->when(id);
            if (when.refresh_at != k->when.refresh_at || when.fresh_limit != k->when.fresh_limit ||
                when.stale_limit != k->when.stale_limit) {
                return false;
            }
        }
        return store_->value(id).number == k->number && store_->flag(id) == k->flag &&
               store_->weight(id) == k->weight && store_->fresh_until(id) == k->fresh_until &&
               store_->deadline(id) == deadline(*k);
    }
    bool looks_as(std::uint32_t key, kept const* k) {
        typename store_type::glimpse seen;
        if (!store_->glance(mixed(key), key, std::equal_to<>(), seen)) return false;
        if (!k) return !seen.found;
        return seen.found && seen.value.number == k->number && seen.flag == k->flag &&
               seen.mark == store_->mark(find(key)) && seen.fresh_until == k->fresh_until &&
               *seen.uses == store_->uses(find(key));
    }

    test::random& random_;
    std::uint64_t capacity_ = 0;
    std::uint32_t keys_ = 0;
    store_features features_;
    std::optional<store_type> store_;
    std::map<std::uint32_t, kept> model_;
    std::int64_t now_ = 12345;
    std::uint64_t last_ = 0;
    std::uint64_t incoming_ = 0;
    std::optional<std::pair<std::uint32_t, kept>> replaced_;
    std::string wrong_;
};

using adaptive_alone = kind<adaptive_eviction, false>;
using adaptive_shared = kind<adaptive_eviction, true>;
using soonest_shared = kind<soonest_expiry_eviction, true>;
using told_alone = kind<told_of_all, false>;
using told_shared = kind<told_of_all, true>;

} // namespace

TEMPLATE_TEST_CASE("a store keeps of each entry what it was made for, and says why one leaves", "",
                   adaptive_alone, adaptive_shared, soonest_shared, told_alone, told_shared) {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t round = 0; round < 1 + test::schedules(5000) / 100; ++round) {
            player<TestType> one(random);
            for (int step = 0; step < 300; ++step) one.step();
        }
        CHECK(counted_page::alive == 0);
    }
}

// Memory ------------------------------------------------------------------------------------------

namespace {

// An entry of two words takes 32 bytes, and its links, for the policy and for the wheel, 16.
constexpr std::size_t entry_bytes = 48;

template <bool Shared>
using words = cache_store<std::uint64_t, std::uint64_t, lru_eviction, Shared>;
using pages = cache_store<std::uint64_t, page, lru_eviction, true>;

template <class Store>
entry_id add(Store& store, std::uint64_t key, std::uint64_t weight = 1) {
    return store.insert({mixed(key), key, {key}, false, weight, never, {}}, 0, nothing());
}
template <class Store>
entry_id find(Store const& store, std::uint64_t key) {
    return store.find(mixed(key), key, std::equal_to<>());
}
template <class Store>
void erase(Store& store, std::uint64_t key) {
    store.erase(find(store, key), removal_cause::explicit_, nothing());
}

store_features at_most(std::size_t entries) {
    store_features features;
    features.max_entries = entries;
    return features;
}

// As large as its entries: the bytes of `entries` and what a table of them takes.
std::size_t table_bytes(std::size_t entries) { return (entries * 5 / 3 + 8) * 8; }

struct shared_words {
    using store = words<true>;
};
struct words_alone {
    using store = words<false>;
};

} // namespace

TEMPLATE_TEST_CASE("a store takes what its entries take, and little more", "", words_alone,
                   shared_words) {
    for (std::size_t const most : {1u, 2u, 16u, 128u, 2048u, 8192u}) {
        INFO("for " << most);
        typename TestType::store store(most, at_most(most), 0);
        std::size_t const empty = store.bytes();
        CHECK(empty >= sizeof(store) + 8 * 8); // and a table of eight places
        CHECK(empty <= sizeof(store) + 200);
        add(store, 0);
        CHECK(store.bytes() - empty >= entry_bytes + sizeof(void*));
        CHECK(store.bytes() - empty <= std::min<std::size_t>(most * entry_bytes, 100'000) + 200);
        for (std::uint64_t key = 1; key < most; ++key) add(store, key);
        store.take_retired();
        std::size_t const expected = most * entry_bytes + table_bytes(most);
        CHECK(store.bytes() - empty + 8 * 16 >= expected);
        CHECK(store.bytes() - empty <= expected + 200 * (1 + most / 1000));
    }
}

TEST_CASE("a store without a bound on its entries takes little for the first ones") {
    store_features features;
    features.weighs = true;
    words<true> store(1'000'000, features, 0);
    add(store, 0);
    CHECK(store.bytes() <= 65536 * (entry_bytes + 8) / 32 + 2000);
}

TEST_CASE("each feature takes its bytes, and only where it is wanted") {
    auto const bytes = [](auto set) {
        store_features features = at_most(64);
        set(features);
        words<true> store(64, features, 0);
        std::size_t const empty = store.bytes();
        add(store, 0);
        return std::pair(empty, store.bytes() - empty);
    };
    auto const [empty, plain] = bytes([](store_features&) {});
    auto const [weighing, with_weights] = bytes([](store_features& f) { f.weighs = true; });
    auto const [keeping, with_times] = bytes([](store_features& f) { f.keeps_times = true; });
    auto const [expiring, with_deadlines] = bytes([](store_features& f) { f.expires = true; });
    CHECK(with_weights - plain == 64 * 8);
    CHECK(with_times - plain == 64 * 3 * 8);
    CHECK(with_deadlines == plain);
    CHECK(weighing == empty);
    CHECK(keeping == empty);
    CHECK(expiring == empty + sizeof(expiry_wheel));
}

namespace {

struct with_much_memory : lru_eviction {
    using lru_eviction::lru_eviction;
    std::size_t bytes() const noexcept { return 1'000'000; }
};

} // namespace

TEST_CASE("what the policy takes counts") {
    cache_store<int, int, with_much_memory> much(10, {}, 0);
    cache_store<int, int, lru_eviction> little(10, {}, 0);
    CHECK(much.bytes() == little.bytes() + 1'000'000);
}

TEST_CASE("entries larger than a chunk ought to be are kept as well") {
    struct huge {
        std::uint64_t words[10'000];
    };
    store_features features;
    features.weighs = true;
    cache_store<std::uint64_t, huge, lru_eviction> store(6, features, 0);
    for (std::uint64_t key = 0; key < 8; ++key) {
        std::size_t const before = store.bytes();
        add(store, key);
        CHECK(store.bytes() - before <= (key < 6 ? sizeof(huge) + 400 : 0));
    }
    for (std::uint64_t key = 0; key < 8; ++key) {
        entry_id const id = find(store, key);
        REQUIRE((id != no_entry) == (key >= 2));
        if (id != no_entry) CHECK(store.value(id).words[0] == key);
    }
}

TEST_CASE("the room of what left is used again, wherever it was") {
    pages store(1000, at_most(1000), 0);
    for (std::uint64_t key = 0; key < 200; ++key) add(store, key);
    std::size_t const full = store.bytes();
    for (std::uint64_t round = 0; round < 3; ++round) {
        for (std::uint64_t key = 0; key < 200; key += 1 + round) erase(store, key);
        CHECK(store.bytes() == full);
        for (std::uint64_t key = 0; key < 200; key += 1 + round) add(store, key);
        CHECK(store.bytes() == full);
    }
    for (std::uint64_t key = 0; key < 200; ++key) {
        entry_id const id = find(store, key);
        REQUIRE(id != no_entry);
        CHECK(store.value(id).number == key);
    }
}

TEST_CASE("memory that nothing is in is given back, and entries keep their numbers") {
    store_features features = at_most(1000);
    features.weighs = true;
    features.keeps_times = true;
    pages store(1000, features, 0);
    std::size_t const empty = store.bytes();
    std::map<std::uint64_t, entry_id> ids;
    for (std::uint64_t key = 0; key < 200; ++key) ids[key] = add(store, key);
    store.take_retired();
    std::size_t const full = store.bytes();
    CHECK(full >= empty + 200 * sizeof(page));
    store.release_memory();
    CHECK(!store.has_retired());
    CHECK(store.bytes() == full);

    for (std::uint64_t key = 0; key < 200; ++key) {
        if (key % 100 != 50) erase(store, key);
    }
    store.release_memory();
    CHECK(store.has_retired());
    CHECK(store.bytes() >= empty + 200 * sizeof(page)); // others might still look at it
    store.take_retired();
    CHECK(!store.has_retired());
    CHECK(store.bytes() >= empty + 2 * sizeof(page));
    CHECK(store.bytes() <= empty + 2 * 65536 + 10'000);
    for (std::uint64_t const key : {50u, 150u}) {
        REQUIRE(find(store, key) == ids[key]);
        CHECK(store.value(ids[key]).number == key);
    }

    for (std::uint64_t key = 0; key < 200; ++key) {
        if (key % 100 != 50) add(store, key);
    }
    store.take_retired();
    CHECK(store.bytes() == full);
    for (std::uint64_t key = 0; key < 200; ++key) {
        entry_id const id = find(store, key);
        REQUIRE(id != no_entry);
        CHECK(store.value(id).number == key);
    }

    store.clear(nothing());
    store.release_memory();
    store.take_retired();
    CHECK(store.bytes() == empty);
}

TEST_CASE("thousands of entries come, stay and go") {
    words<true> store(30'000, at_most(30'000), 0);
    std::size_t const empty = store.bytes();
    for (std::uint64_t key = 0; key < 30'000; ++key) add(store, key);
    for (std::uint64_t key = 0; key < 30'000; ++key) {
        if (key % 3 > 0) erase(store, key);
    }
    for (std::uint64_t key = 0; key < 30'000; ++key) {
        words<true>::glimpse seen;
        bool const known = store.glance(mixed(key), key, std::equal_to<>(), seen);
        REQUIRE(known);
        REQUIRE(seen.found == (key % 3 == 0));
        if (seen.found) REQUIRE(seen.value == key);
    }
    CHECK(store.size() == 10'000);
    std::vector<bool> visited(30'000);
    store.for_each([&](entry_id id) { visited[store.key(id)] = true; });
    CHECK(std::ranges::count(visited, true) == 10'000);
    store.clear(nothing());
    CHECK(store.size() == 0);
    store.release_memory();
    store.take_retired();
    CHECK(store.bytes() == empty);
}

TEST_CASE("a store that nothing was ever in gives nothing back") {
    words<true> store(10, at_most(10), 0);
    std::size_t const empty = store.bytes();
    store.release_memory();
    CHECK(!store.has_retired());
    CHECK(store.take_retired().empty());
    CHECK(store.bytes() == empty);
    add(store, 1);
    CHECK(find(store, 1) != no_entry);
}

TEST_CASE("what others might still look at counts until it is taken") {
    auto const taken = [](words<true>& store) {
        std::size_t const before = store.bytes();
        store.take_retired();
        return before - store.bytes();
    };
    words<true> store(32, at_most(32), 0);
    for (std::uint64_t key = 0; key < 4; ++key) add(store, key);
    CHECK(!store.has_retired());
    CHECK(taken(store) == 0);
    add(store, 4); // the table of eight places was outgrown, which knows how many they are
    CHECK(store.has_retired());
    CHECK(taken(store) == (8 + 1) * 8);
    for (std::uint64_t key = 5; key < 32; ++key) add(store, key);
    store.take_retired();
    for (std::uint64_t key = 0; key < 32; ++key) erase(store, key);
    CHECK(!store.has_retired());
    store.release_memory();
    CHECK(taken(store) == 32 * 32);

    words<false> alone(32, at_most(32), 0);
    for (std::uint64_t key = 0; key < 32; ++key) add(alone, key);
    alone.clear(nothing());
    alone.release_memory();
    CHECK(!alone.has_retired());
}

namespace {

// There is no memory for some entries.
struct refusing : lru_eviction {
    using lru_eviction::lru_eviction;

    template <class Entries>
    void insert(Entries& entries, entry_id id) {
        if (entries.hash(id) % 3 == 0) throw std::bad_alloc();
        lru_eviction::insert(entries, id);
    }
};

} // namespace

TEST_CASE("nothing was added if adding throws") {
    cache_store<std::uint64_t, counted_page, refusing> store(50, at_most(50), 0);
    std::size_t refused = 0;
    for (std::uint64_t key = 0; key < 50; ++key) {
        std::size_t const before = store.size();
        bool added = true;
        try {
            store.insert({mixed(key), key, counted_page{key}, false, 1, never, {}}, 0, nothing());
        } catch (std::bad_alloc const&) {
            added = false;
        }
        CHECK(added == (mixed(key) % 3 > 0));
        CHECK((find(store, key) != no_entry) == added);
        CHECK(store.size() == before + added);
        CHECK(store.total_weight() == store.size());
        CHECK(counted_page::alive == store.size());
        refused += !added;
    }
    CHECK(refused > 5);
    CHECK(refused < 45);
}

// Expiry ------------------------------------------------------------------------------------------

TEST_CASE("what has expired makes room, though the wheel has to move others to find it") {
    store_features features = at_most(2);
    features.expires = true;
    words<false> store(2, features, 0);
    auto const add_until = [&](std::uint64_t key, std::int64_t until, std::int64_t now,
                               removal_cause expected) {
        store.insert({mixed(key), key, key, false, 1, until, {}}, now,
                     [&](std::uint64_t&&, std::uint64_t&&, bool, removal_cause cause) noexcept {
                         CHECK(cause == expected);
                     });
    };
    add_until(1, 100 * tick, 0, removal_cause::size);
    add_until(2, 80 * tick, 0, removal_cause::size);
    add_until(3, never, 99 * tick, removal_cause::expired);
    CHECK(find(store, 1) != no_entry);
    CHECK(find(store, 2) == no_entry);
    add_until(4, never, 99 * tick, removal_cause::size); // nothing else has
    CHECK(find(store, 1) == no_entry);
    CHECK(find(store, 3) != no_entry);
}

TEST_CASE("one that needs room does not pay for all that have to move in the wheel") {
    constexpr std::size_t n = 1000;
    store_features features = at_most(n);
    features.expires = true;
    cache_store<std::uint64_t, std::uint64_t, lru_eviction> store(n, features, 0);
    std::vector<removal_cause> left;
    auto const note = [&](std::uint64_t&&, std::uint64_t&&, bool, removal_cause cause) noexcept {
        left.push_back(cause);
    };
    for (std::uint64_t key = 0; key < n; ++key)
        store.insert({mixed(key), key, key, false, 1, 130 * tick, {}}, 0, note);
    // A coarser bucket with all of them begins.
    store.insert({mixed(n), n, n, false, 1, never, {}}, 128 * tick, note);
    CHECK(left == std::vector{removal_cause::size});
    CHECK(store.size() == n);
    std::size_t budget = 2 * n;
    store.expire(128 * tick, budget, note);
    CHECK(2 * n - budget == n - 16); // have not moved yet; the one that left had
    budget = 2 * n;
    store.expire(132 * tick, budget, note);
    CHECK(store.size() == 1);
}

TEST_CASE("what has expired makes all the room that one needs, however much that is") {
    store_features features;
    features.weighs = true;
    features.expires = true;
    cache_store<std::uint64_t, std::uint64_t, lru_eviction> store(200, features, 0);
    std::size_t expired = 0, others = 0;
    auto const note = [&](std::uint64_t&&, std::uint64_t&&, bool, removal_cause cause) noexcept {
        ++(cause == removal_cause::expired ? expired : others);
    };
    for (std::uint64_t key = 0; key < 200; ++key) {
        std::int64_t const until = key < 100 ? never : 10 * tick;
        store.insert({mixed(key), key, key, false, 1, until, {}}, 0, note);
    }
    store.insert({mixed(200), 200, 200, false, 90, never, {}}, 20 * tick, note);
    CHECK(expired == 90);
    CHECK(others == 0);
}

// Looking on --------------------------------------------------------------------------------------

TEST_CASE("a look that gave up does not say that there is nothing") {
    words<true> store(200, at_most(200), 0);
    for (std::uint64_t key = 0; key < 200; ++key) {
        store.insert({7, key, key, false, 1, never, {}}, 0, nothing()); // all with one hash
    }
    int unknown = 0;
    for (std::uint64_t key = 0; key < 200; ++key) {
        words<true>::glimpse seen;
        if (!store.glance(7, key, std::equal_to<>(), seen)) ++unknown;
        else CHECK((seen.found && seen.value == key));
    }
    CHECK(unknown > 0);
    CHECK(unknown < 200);
}

TEST_CASE("who looks on counts uses where the store reads them") {
    words<true> store(10, at_most(10), 0);
    entry_id const id = add(store, 5);
    store.set_mark(id, 3);
    words<true>::glimpse seen;
    REQUIRE(store.glance(mixed(5), 5u, std::equal_to<>(), seen));
    REQUIRE(seen.found);
    CHECK(seen.mark == 3);
    CHECK(!seen.flag);
    seen.uses->fetch_add(2);
    CHECK(store.uses(id) == 2);
}

TEST_CASE("a look that comes upon memory given back meanwhile does not know") {
    // Keys 1 and 2 share a hash. While the first is compared, the table is outgrown, so that the
    // look goes on in one that still has the second, and everything goes.
    for (bool const kept : {true, false}) {
        words<true> store(100, at_most(100), 0);
        for (std::uint64_t key = 1; key <= 2; ++key) {
            store.insert({7, key, key * 10, false, 1, never, {}}, 0, nothing());
        }
        int compared = 0;
        auto const equal = [&](std::uint64_t have, std::uint64_t want) {
            if (++compared == 1) {
                for (std::uint64_t key = 100; key < 110; ++key) add(store, key);
                if (!kept) store.clear(nothing());
                store.release_memory();
            }
            return have == want;
        };
        words<true>::glimpse seen;
        bool const known = store.glance(7, std::uint64_t{2}, equal, seen);
        CHECK(known == kept);
        CHECK(seen.found == kept);
        CHECK(compared == (kept ? 2 : 1));
        if (kept) CHECK(seen.value == 20);
    }
}
