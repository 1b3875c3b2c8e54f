// SPDX-License-Identifier: BSL-1.0
// An observer that writes down what it hears.
#pragma once

#include <tidegate/trace.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace test {

/// A record that outlives the call it came with.
struct heard {
    std::string primitive;
    std::string name;
    tidegate::trace_event event;
    std::uint64_t count;
    std::chrono::nanoseconds duration;
    tidegate::error_code error;
};

class recorder final : public tidegate::trace_observer {
public:
    void on_event(tidegate::trace_record const& what) noexcept override {
        if (also) also(what);
        std::lock_guard lock(mutex_);
        all_.push_back({std::string(what.primitive), std::string(what.name), what.event, what.count,
                        what.duration, what.error});
    }

    /// Called first with each; to be set before anything happens.
    std::function<void(tidegate::trace_record const&)> also;

    std::vector<heard> all() const {
        std::lock_guard lock(mutex_);
        return all_;
    }

    /// "acquired 2", "rejected 1": all since the last call.
    std::vector<std::string> take() {
        std::lock_guard lock(mutex_);
        std::vector<std::string> told;
        for (std::size_t i = taken_; i < all_.size(); ++i) {
            told.push_back(std::string(to_string(all_[i].event)) + " " +
                           std::to_string(all_[i].count));
        }
        taken_ = all_.size();
        return told;
    }

    heard last() const {
        std::lock_guard lock(mutex_);
        return all_.back();
    }

    std::size_t count(tidegate::trace_event which) const {
        std::lock_guard lock(mutex_);
        std::size_t n = 0;
        for (auto const& one : all_) n += one.event == which ? 1 : 0;
        return n;
    }

private:
    mutable std::mutex mutex_;
    std::vector<heard> all_;
    std::size_t taken_ = 0;
};

using told = std::vector<std::string>;

} // namespace test
