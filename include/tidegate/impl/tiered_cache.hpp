// SPDX-License-Identifier: BSL-1.0
// Reading through the second level, and writing to it.
#pragma once

#include <tidegate/tiered_cache.hpp>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

template <class Key, class V, class Clock>
struct tiered_state : tier_listener {
    using first_level_type =
        basic_cache<Key, V, eviction::adaptive, cache_hash<Key>, std::equal_to<>, Clock>;
    using executor_type = typename first_level_type::executor_type;
    using link_type = tier_link<Clock>;
    using options = tiered_cache_options<Key, V>;
    using self_type = std::shared_ptr<tiered_state>;
    using nanoseconds = std::chrono::nanoseconds;
    template <class T>
    using awaitable = boost::asio::awaitable<T>;

    tiered_state(executor_type executor, cache_options<Key, V> first_level,
                 std::shared_ptr<cache_tier> second_level, options settings)
        : settings_(checked(std::move(settings), second_level)),
          first(executor, one_by_one(std::move(first_level))),
          link(std::make_shared<link_type>(executor, std::move(second_level), settings_.link_)) {}

    // Its loader would go past the second level.
    static cache_options<Key, V> one_by_one(cache_options<Key, V> first_level) {
        if (first_level.refresh_load_)
            throw std::invalid_argument("tidegate: tiered_cache does not take refresh_together");
        return first_level;
    }

    // Reading -----------------------------------------------------------------------------------

    struct named_keys {
        typename link_type::names names;
        std::vector<std::uint64_t> epochs;
        std::vector<bool> supersedes; // there is an older value, be it one that nobody can read
    };

    template <class Load>
    struct read_through {
        self_type self;
        Load load;

        awaitable<loaded<V>> operator()(Key const& key) { return run(self, load, key); }

        static awaitable<loaded<V>> run(self_type self, Load& load, Key const& key) {
            std::string const name = self->name_of(key);
            auto const epoch = self->link->epoch_of(name);
            bool supersedes = self->is_refresh(key);
            if (!supersedes) {
                auto reading = link_type::read(self->link, typename link_type::names(1, name));
                auto found = co_await std::move(reading);
                if (auto there = self->decode(found.front())) co_return std::move(*there);
                supersedes = found.front().has_value(); // what nobody can read
            }
            loaded<V> fresh(co_await call_loader(load, key));
            self->write(name, fresh, supersedes, epoch);
            co_return fresh;
        }
    };

    template <class Load>
    struct read_all_through {
        using results = std::vector<outcome<loaded<V>>>;

        self_type self;
        Load load;

        awaitable<results> operator()(std::vector<Key> const& keys) {
            return run(self, load, keys);
        }

        static awaitable<results> run(self_type self, Load& load, std::vector<Key> const& keys) {
            named_keys named = self->names_of(keys);
            auto reading = read(self, named);
            results all = co_await std::move(reading);
            std::vector<Key> missing;
            for (std::size_t i = 0; i < keys.size(); ++i) {
                if (!all[i]) missing.push_back(keys[i]);
            }
            if (missing.empty()) co_return all;
            auto fresh = co_await load(std::as_const(missing));
            if (static_cast<std::size_t>(std::distance(fresh.begin(), fresh.end())) !=
                missing.size()) {
                throw boost::system::system_error(error::result_count_mismatch);
            }
            auto next = fresh.begin();
            for (std::size_t i = 0; i < keys.size(); ++i) {
                if (all[i]) continue;
                take_loaded<V>(all[i], std::move(*next++));
                if (all[i]) {
                    self->write(named.names[i], all[i].value(), named.supersedes[i],
                                named.epochs[i]);
                }
            }
            co_return all;
        }

        // Nothing for what is to be loaded.
        static awaitable<results> read(self_type self, named_keys& named) {
            std::vector<std::size_t> place;
            typename link_type::names wanted;
            for (std::size_t i = 0; i < named.names.size(); ++i) {
                if (named.supersedes[i]) continue;
                place.push_back(i);
                wanted.push_back(named.names[i]);
            }
            results all(named.names.size());
            auto reading = link_type::read(self->link, std::move(wanted));
            auto const found = co_await std::move(reading);
            for (std::size_t i = 0; i < place.size(); ++i) {
                if (auto there = self->decode(found[i])) all[place[i]].succeed(std::move(*there));
                else named.supersedes[place[i]] = found[i].has_value();
            }
            co_return all;
        }
    };

    // Changing ----------------------------------------------------------------------------------

    bool put(Key&& key, V&& value, std::optional<nanoseconds> time_to_live) {
        tier_value second{settings_.codec_.encode(value),
                          time_to_live.value_or(settings_.link_.time_to_live)};
        std::string name = name_of(key);
        bool const kept = time_to_live ? first.put(std::move(key), std::move(value), *time_to_live)
                                       : first.put(std::move(key), std::move(value));
        link->write(std::move(name), std::move(second));
        return kept;
    }

    awaitable<bool> invalidate(Key const& key) {
        std::string name = name_of(key);
        link->owe_invalidation(name);
        // Whoever loads from now on does not read the second level, and who did before is fenced.
        first.invalidate(key);
        return link_type::pay(link, std::move(name));
    }

    void on_changed(std::string_view name) override {
        if (!name.starts_with(settings_.prefix_)) return; // another cache's
        if (link->is_closed()) return;
        link->note_change(std::string(name));
        if (!settings_.key_of_name_) return first.invalidate_all();
        std::optional<Key> key;
        try {
            key = settings_.key_of_name_(name.substr(settings_.prefix_.size()));
        } catch (...) { // it may be anybody's
            link->tell(std::current_exception());
            return first.invalidate_all();
        }
        if (key) first.invalidate(*key);
    }
    void on_all_changed() override {
        if (link->is_closed()) return;
        link->note_all_changed();
        first.invalidate_all();
    }

private:
    static options checked(options&& settings, std::shared_ptr<cache_tier> const& second_level) {
        auto const refuse = [](char const* what) { throw std::invalid_argument(what); };
        if (!second_level) refuse("tidegate: tiered_cache needs a second level");
        if (!settings.name_key_) refuse("tidegate: tiered_cache needs name_key for this key type");
        if (!settings.codec_.encode || !settings.codec_.decode)
            refuse("tidegate: tiered_cache needs a codec for this value type");
        return std::move(settings);
    }

    // What is there and is loaded all the same: a newer one is wanted.
    bool is_refresh(Key const& key) const { return first.state_->keeps_value(key); }

    std::string name_of(Key const& key) const {
        return settings_.prefix_ + settings_.name_key_(key);
    }

    named_keys names_of(std::vector<Key> const& keys) const {
        named_keys all;
        for (Key const& key : keys) {
            all.names.push_back(name_of(key));
            all.epochs.push_back(link->epoch_of(all.names.back()));
            all.supersedes.push_back(is_refresh(key));
        }
        return all;
    }

    std::optional<loaded<V>> decode(std::optional<tier_value> const& found) const {
        if (!found) return std::nullopt;
        try {
            loaded<V> value(settings_.codec_.decode(found->bytes));
            constexpr nanoseconds longest{315'576'000'000'000'000};
            if (found->time_to_live <= longest) value.time_to_live_at_most(found->time_to_live);
            return value;
        } catch (...) {
            link->note_undecodable(std::current_exception());
            return std::nullopt;
        }
    }

    void write(std::string const& name, loaded<V> const& fresh, bool supersedes,
               std::uint64_t epoch) {
        if (link->is_closed()) return;
        if (!fresh.value() || !fresh.is_to_be_stored()) {
            if (supersedes) link->forget_loaded(name, epoch);
            return;
        }
        try {
            auto const time = fresh.time_to_live().value_or(settings_.link_.time_to_live);
            link->write_loaded(name,
                               {settings_.codec_.encode(*fresh.value()),
                                std::min(time, fresh.time_to_live_at_most().value_or(time))},
                               supersedes, epoch);
        } catch (...) {
            link->note_unwritten(name, supersedes, std::current_exception());
        }
    }

    options const settings_;

public:
    first_level_type first;
    std::shared_ptr<link_type> const link;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
