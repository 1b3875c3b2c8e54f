// SPDX-License-Identifier: BSL-1.0
// The series of a metric, and the rules for names.
#pragma once

#include <tidegate/detail/utf8.hpp>
#include <tidegate/metric_family.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

inline bool is_metric_name(std::string_view name, bool colon_allowed) noexcept {
    auto const letter = [&](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
               (colon_allowed && c == ':');
    };
    return !name.empty() && letter(name.front()) &&
           std::all_of(name.begin(), name.end(),
                       [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

[[noreturn]] inline void refuse_metric(std::string_view what, std::string_view name) {
    throw std::invalid_argument("tidegate: metric '" + std::string(name) + "' " +
                                std::string(what));
}

inline void check_label_name(std::string_view name) {
    if (!is_metric_name(name, false) || name.starts_with("__"))
        refuse_metric("is no name for a label: [a-zA-Z_][a-zA-Z0-9_]*, not beginning with __",
                      name);
    if (name == "le" || name == "quantile") refuse_metric("is a label of its own", name);
}

inline void check_labels(metric_labels const& labels) {
    for (auto one = labels.begin(); one != labels.end(); ++one) { // few: no need to sort them
        check_label_name(one->first);
        auto const same = [&](auto const& other) { return other.first == one->first; };
        if (std::any_of(labels.begin(), one, same)) refuse_metric("is a label twice", one->first);
    }
}

/// Counters get the suffix where they are written.
inline void trim_total(std::string& name, metric_type type) {
    constexpr std::string_view suffix = "_total";
    if (type == metric_type::counter && name.ends_with(suffix))
        name.resize(name.size() - suffix.size());
}

inline void check_metric_name(std::string_view name) {
    if (!is_metric_name(name, true))
        refuse_metric("is no name for a metric: [a-zA-Z_:][a-zA-Z0-9_:]*", name);
    for (std::string_view const suffix : {"_total", "_bucket", "_count", "_sum", "_created"}) {
        if (name.ends_with(suffix)) refuse_metric("ends with " + std::string(suffix), name);
    }
}

/// Families being put together; those of one name are one.
class metric_collection {
public:
    void add(std::string_view name, std::string_view help, metric_type type, metric_sample sample) {
        metric_family one{std::string(name), std::string(help), type, {}};
        trim_total(one.name, type);
        one.samples.push_back(std::move(sample));
        add(std::move(one));
    }

    /// All of them or, if one is refused, none.
    void add(metric_collection&& others) {
        for (auto const& [name, one] : others.by_name_) {
            if (auto const it = by_name_.find(name); it != by_name_.end())
                check_type(it->second, one);
        }
        for (auto& [name, one] : others.by_name_) add(std::move(one));
    }

    void add(metric_family one) {
        auto const it = by_name_.find(one.name);
        if (it == by_name_.end()) {
            check_metric_name(one.name); // before it is there: who adds it may go on
            by_name_.try_emplace(one.name, std::move(one));
            return;
        }
        check_type(it->second, one);
        for (auto& sample : one.samples) it->second.samples.push_back(std::move(sample));
    }

    /// With the samples of a family in the order of their labels; of two with the same labels, the
    /// first.
    std::vector<metric_family> families() && {
        std::vector<metric_family> all;
        for (auto& [name, one] : by_name_) {
            std::set<metric_sample, by_labels> in_order;
            for (auto& sample : one.samples) // most are in order already
                in_order.insert(in_order.end(), std::move(sample));
            one.samples.clear();
            while (!in_order.empty())
                one.samples.push_back(std::move(in_order.extract(in_order.begin()).value()));
            all.push_back(std::move(one));
        }
        return all;
    }

private:
    static void check_type(metric_family const& there, metric_family const& one) {
        if (there.type != one.type) refuse_metric("has two types", one.name);
    }

    struct by_labels {
        bool operator()(metric_sample const& a, metric_sample const& b) const {
            return a.labels < b.labels;
        }
    };

    std::map<std::string, metric_family> by_name_;
};

class metric_store {
public:
    metric_store(std::string name, std::string help, metric_type type,
                 std::vector<std::string> label_names, std::size_t max_series)
        : name_(std::move(name)),
          help_(std::move(help)),
          type_(type),
          label_names_(std::move(label_names)),
          max_series_(max_series) {
        check_metric_name(name_);
        for (auto one = label_names_.begin(); one != label_names_.end(); ++one) {
            check_label_name(*one);
            if (std::find(label_names_.begin(), one, *one) != one)
                refuse_metric("has a label twice", name_);
        }
    }
    metric_store(metric_store const&) = delete;
    metric_store& operator=(metric_store const&) = delete;
    virtual ~metric_store() = default;

    void check_same(metric_type type, std::string const& help,
                    std::vector<std::string> const& label_names) const {
        if (type != type_)
            refuse_metric("is a " + std::string(to_string(type_)) + ", not a " +
                              std::string(to_string(type)),
                          name_);
        if (label_names != label_names_) refuse_metric("has other labels", name_);
        if (help != help_) refuse_metric("has another help text", name_);
    }

    metric_family collect() const {
        metric_family family{name_, help_, type_, {}};
        std::vector<all_series::value_type const*> all; // which stay where they are
        {
            std::lock_guard lock(mutex_);
            all.reserve(series_.size());
            for (auto const& one : series_) all.push_back(&one);
        }
        family.samples.reserve(all.size());
        for (auto const* const series : all) {
            metric_sample one = sample(series->second.get());
            for (std::size_t i = 0; i < label_names_.size(); ++i)
                one.labels.emplace_back(label_names_[i], series->first[i]);
            family.samples.push_back(std::move(one));
        }
        return family;
    }

protected:
    void* series(std::vector<std::string> const& values) {
        if (values.size() != label_names_.size())
            refuse_metric("has " + std::to_string(label_names_.size()) + " labels, not " +
                              std::to_string(values.size()),
                          name_);
        {
            std::lock_guard lock(mutex_);
            if (auto const it = series_.find(values); it != series_.end()) return it->second.get();
            if (std::all_of(values.begin(), values.end(), is_utf8)) {
                bool const full = series_.size() >= max_series_;
                auto key = full ? std::vector<std::string>(values.size(), "(other)") : values;
                auto place = series_.lower_bound(key);
                if (place == series_.end() || place->first != key) // made first: it may throw
                    place = series_.emplace_hint(place, std::move(key), make());
                return place->second.get();
            }
        }
        std::vector<std::string> told(values.size()); // those that are told alike are one series
        std::transform(values.begin(), values.end(), told.begin(), to_utf8);
        return series(told);
    }

    virtual std::shared_ptr<void> make() const = 0;
    virtual metric_sample sample(void const* metric) const = 0;

private:
    using all_series = std::map<std::vector<std::string>, std::shared_ptr<void>>;

    std::string const name_;
    std::string const help_;
    metric_type const type_;
    std::vector<std::string> const label_names_;
    std::size_t const max_series_;
    std::mutex mutable mutex_;
    all_series series_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
