// SPDX-License-Identifier: BSL-1.0
// Counters, gauges and histograms with labels, for a monitoring system to collect.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/metric_store.hpp>
#include <tidegate/detail/per_thread.hpp>
#include <tidegate/detail/utf8.hpp>
#include <tidegate/latency_recorder.hpp>
#include <tidegate/metric_family.hpp>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// A number that only grows. Each thread counts for itself: no lock, no atomic read-modify-write.
/// Thread-safe; never throws.
class metric_counter {
public:
    metric_counter() = default;

    void increment(std::uint64_t by = 1) noexcept {
        if (auto* const mine = pieces_.mine()) [[likely]] {
            auto const now = mine->count.load(std::memory_order_relaxed);
            mine->count.store(now + by, std::memory_order_relaxed);
        } else {
            pieces_.with_all([&](auto const&) { ended_ += by; });
        }
    }

    std::uint64_t value() const noexcept {
        return pieces_.with_all([this](auto const& pieces) {
            std::uint64_t sum = ended_;
            for (auto const& one : pieces) sum += one->count.load(std::memory_order_relaxed);
            return sum;
        });
    }

private:
    struct alignas(64) piece {
        std::atomic<std::uint64_t> count{0};
    };
    friend class detail::per_thread<metric_counter, piece>;

    void fold(piece const& gone) noexcept { ended_ += gone.count.load(std::memory_order_relaxed); }

    std::uint64_t ended_ = 0; // of threads that have ended, under the pieces' lock
    detail::per_thread<metric_counter, piece> pieces_{*this};
};

/// A number that goes up and down. Thread-safe; never throws. What is not a number is not set.
class metric_gauge {
public:
    void set(double value) noexcept {
        if (!std::isnan(value)) value_.store(value, std::memory_order_relaxed);
    }
    void add(double by) noexcept {
        if (!std::isnan(by)) value_.fetch_add(by, std::memory_order_relaxed);
    }
    double value() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<double> value_{0};
};

/// Durations; see `latency_recorder`, which it is.
using metric_histogram = latency_recorder;

/// A metric with the names of its labels; each set of their values is a series of its own.
///
///     auto& requests = registry.counter("http_requests", "Requests answered", {"method", "code"});
///     requests.with({"GET", "200"}).increment();
///
/// `with` costs a lock and a look-up; series stay as long as the registry, so keep the reference. A
/// family has up to `max_series` of them, and one more for all that come later, whose label values
/// are `(other)`: labels made from user input cannot fill the memory. Thread-safe.
template <class Metric>
class metric_family_of final : public detail::metric_store {
public:
    metric_family_of(std::string name, std::string help, metric_type type,
                     std::vector<std::string> label_names, std::size_t max_series)
        : metric_store(std::move(name), std::move(help), type, std::move(label_names), max_series) {
    }

    /// The series of these values, as many as there are label names, else throws
    /// std::invalid_argument.
    Metric& with(std::vector<std::string> const& label_values) {
        return *static_cast<Metric*>(series(label_values));
    }

private:
    friend class metrics_registry;

    std::shared_ptr<void> make() const override { return std::make_shared<Metric>(); }
    metric_sample sample(void const* metric) const override {
        metric_sample one;
        auto const& m = *static_cast<Metric const*>(metric);
        if constexpr (std::is_same_v<Metric, metric_histogram>) one.durations = m.snapshot();
        else one.value = static_cast<double>(m.value());
        return one;
    }
};

/// Where an object tells its metrics: what `register_metrics` hands to `report_metrics`. Throws
/// std::invalid_argument for names that are not allowed, for a label that is there twice, also if
/// once by the registration, and for a metric that it has told with another type.
class metric_writer {
public:
    void counter(std::string_view name, std::string_view help, double value,
                 metric_labels labels = {}) {
        add(name, help, metric_type::counter, value, std::move(labels));
    }
    void gauge(std::string_view name, std::string_view help, double value,
               metric_labels labels = {}) {
        add(name, help, metric_type::gauge, value, std::move(labels));
    }

private:
    friend class metrics_registry;
    metric_writer(detail::metric_collection& to, metric_labels const& common) noexcept
        : to_(to), common_(common) {}

    void add(std::string_view name, std::string_view help, metric_type type, double value,
             metric_labels labels) {
        labels.insert(labels.begin(), common_.begin(), common_.end());
        detail::check_labels(labels);
        for (auto& [label, told] : labels) {
            if (!detail::is_utf8(told)) told = detail::to_utf8(told);
        }
        to_.add(name, help, type, metric_sample{std::move(labels), value, {}});
    }

    detail::metric_collection& to_;
    metric_labels const& common_;
};

/// Takes what it stands for out of its registry when it goes. Move only.
class [[nodiscard]] metrics_registration {
public:
    metrics_registration() noexcept = default;
    explicit metrics_registration(std::shared_ptr<void> held) noexcept : held_(std::move(held)) {}

private:
    std::shared_ptr<void> held_;
};

/// The metrics of a program, or of a part of it.
///
/// Names are those of Prometheus: letters, digits and underscores, in base units with the unit at
/// the end (`_seconds`, `_bytes`); `_total` is added to counters where they are written. Asking
/// again for a name gives the same metric; with another type, help or label names it throws
/// std::invalid_argument, as do names that are not allowed. Label values and help may be anything:
/// of what is not UTF-8, each byte is told as U+FFFD, and values that are told alike are the same.
///
/// Thread-safe. Metrics stay as long as the registry.
class metrics_registry {
public:
    metrics_registry() = default;
    metrics_registry(metrics_registry const&) = delete;
    metrics_registry& operator=(metrics_registry const&) = delete;

    metric_counter& counter(std::string name, std::string help) {
        return counter(std::move(name), std::move(help), {}).with({});
    }
    metric_gauge& gauge(std::string name, std::string help) {
        return gauge(std::move(name), std::move(help), {}).with({});
    }
    /// Of durations, in seconds.
    metric_histogram& histogram(std::string name, std::string help) {
        return histogram(std::move(name), std::move(help), {}).with({});
    }

    /// The same with labels. `max_series`: 1 to 1 million; default 1000.
    metric_family_of<metric_counter>& counter(std::string name, std::string help,
                                              std::vector<std::string> label_names,
                                              std::size_t max_series = 1000) {
        return family<metric_counter>(std::move(name), std::move(help), metric_type::counter,
                                      std::move(label_names), max_series);
    }
    metric_family_of<metric_gauge>& gauge(std::string name, std::string help,
                                          std::vector<std::string> label_names,
                                          std::size_t max_series = 1000) {
        return family<metric_gauge>(std::move(name), std::move(help), metric_type::gauge,
                                    std::move(label_names), max_series);
    }
    metric_family_of<metric_histogram>& histogram(std::string name, std::string help,
                                                  std::vector<std::string> label_names,
                                                  std::size_t max_series = 1000) {
        return family<metric_histogram>(std::move(name), std::move(help), metric_type::histogram,
                                        std::move(label_names), max_series);
    }

    /// Calls `report(metric_writer&)` at each collection, with these labels on all that it writes,
    /// until the registration goes, which waits for a collection that is calling it on another
    /// thread. It must not touch this registry. Throws std::invalid_argument for labels that are
    /// not allowed or there twice.
    metrics_registration add_collector(std::function<void(metric_writer&)> report,
                                       metric_labels labels = {}) {
        detail::check_labels(labels);
        auto const one = std::make_shared<collector>(std::move(report), std::move(labels));
        auto const end = [one](void*) {
            std::lock_guard reporting(one->reporting);
            one->ended = true;
        };
        metrics_registration registration(std::shared_ptr<void>(nullptr, end));
        std::lock_guard lock(mutex_);
        if (collectors_.size() == collectors_.capacity()) { // perhaps nobody ever collects
            forget_ended();
            collectors_.reserve(2 * collectors_.size()); // so that it is seldom looked through
        }
        collectors_.push_back(one);
        return registration;
    }

    /// Everything, by name. A collector that throws is left out, and counted in
    /// `tidegate_metrics_failed_collectors`. Of two series with the same name and labels, the first
    /// is told.
    std::vector<metric_family> collect() const {
        detail::metric_collection all;
        std::vector<std::shared_ptr<collector>> collectors;
        std::vector<detail::metric_store const*> stores;
        {
            std::lock_guard lock(mutex_);
            forget_ended();
            for (auto const& weak : collectors_) {
                if (auto one = weak.lock()) collectors.push_back(std::move(one));
            }
            for (auto const& [name, store] : stores_) stores.push_back(store.get());
        }
        for (auto const* store : stores) all.add(store->collect());
        int failed = 0;
        for (auto const& one : collectors) {
            try {
                std::lock_guard reporting(one->reporting);
                if (one->ended) continue;
                detail::metric_collection mine;
                metric_writer writer(mine, one->labels);
                one->report(writer);
                all.add(std::move(mine));
            } catch (...) { // somebody else's; the others are wanted all the same
                ++failed;
            }
        }
        if (failed) {
            all.add("tidegate_metrics_failed_collectors", "Collectors that threw just now",
                    metric_type::gauge, {{}, static_cast<double>(failed), {}});
        }
        return std::move(all).families();
    }

private:
    struct collector {
        collector(std::function<void(metric_writer&)> f, metric_labels l)
            : report(std::move(f)), labels(std::move(l)) {}

        std::function<void(metric_writer&)> const report;
        metric_labels const labels;
        std::recursive_mutex reporting; // what is reported may let go of the registration
        bool ended = false;             // guarded by it
    };

    // Under the lock.
    void forget_ended() const {
        std::erase_if(collectors_, [](auto const& weak) { return weak.expired(); });
    }

    using store_pointer = std::unique_ptr<detail::metric_store>;
    using make_store = store_pointer (*)(std::string name, std::string help, metric_type type,
                                         std::vector<std::string> label_names,
                                         std::size_t max_series);

    template <class Metric>
    static store_pointer make_family(std::string name, std::string help, metric_type type,
                                     std::vector<std::string> label_names, std::size_t max_series) {
        return std::make_unique<metric_family_of<Metric>>(std::move(name), std::move(help), type,
                                                          std::move(label_names), max_series);
    }

    template <class Metric>
    metric_family_of<Metric>& family(std::string name, std::string help, metric_type type,
                                     std::vector<std::string> label_names, std::size_t max_series) {
        return static_cast<metric_family_of<Metric>&>(store(std::move(name), std::move(help), type,
                                                            std::move(label_names), max_series,
                                                            make_family<Metric>));
    }

    detail::metric_store& store(std::string name, std::string help, metric_type type,
                                std::vector<std::string> label_names, std::size_t max_series,
                                make_store make) {
        detail::check_option<std::size_t>("metrics max_series", max_series, 1, 1'000'000);
        detail::trim_total(name, type);
        std::lock_guard lock(mutex_);
        if (auto const it = stores_.find(name); it != stores_.end()) {
            it->second->check_same(type, help, label_names);
            return *it->second;
        }
        auto fresh = make(name, std::move(help), type, std::move(label_names), max_series);
        return *stores_.emplace(std::move(name), std::move(fresh)).first->second;
    }

    std::mutex mutable mutex_;
    std::map<std::string, store_pointer, std::less<>> stores_;
    std::vector<std::weak_ptr<collector>> mutable collectors_;
};

/// Collects the metrics of a primitive, with the label `name="..."`, until the registration goes,
/// which has to be before the primitive does:
///
///     auto const users_metrics = register_metrics(registry, "users", users_cache);
///
/// A primitive is whatever has a member `report_metrics(metric_writer&)`;
/// docs/primitives/metrics.md has those of this library.
template <class Primitive>
metrics_registration register_metrics(metrics_registry& registry, std::string name,
                                      Primitive const& primitive) {
    return registry.add_collector([&primitive](metric_writer& to) { primitive.report_metrics(to); },
                                  {{"name", std::move(name)}});
}

TIDEGATE_END_NAMESPACE
