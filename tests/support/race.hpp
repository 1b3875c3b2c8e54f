// SPDX-License-Identifier: BSL-1.0
// Lets things happen at the same moment, again and again.
#pragma once

#include "support/stress.hpp"

#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

namespace test {

/// Runs functions at once, each on a thread of its own, and each a little earlier or later every
/// time, so that they meet in all ways. What they refer to has to outlive this.
class race {
public:
    race(std::uint64_t seed, std::vector<std::function<void()>> racers)
        : racers_(std::move(racers)), line_(static_cast<std::ptrdiff_t>(racers_.size()) + 1) {
        for (std::size_t i = 0; i < racers_.size(); ++i) {
            threads_.emplace_back([this, i, seed] { take_part(i, seed + i); });
        }
    }
    race(race const&) = delete;
    race& operator=(race const&) = delete;
    ~race() {
        over_ = true;
        line_.arrive_and_wait();
        for (auto& thread : threads_) thread.join();
    }

    /// Returns when all have come back.
    void run() {
        line_.arrive_and_wait();
        line_.arrive_and_wait();
    }

private:
    void take_part(std::size_t mine, std::uint64_t seed) {
        random r(seed);
        for (;;) {
            line_.arrive_and_wait();
            if (over_) return;
            std::atomic<std::size_t> turns{0};
            for (std::size_t late = below(r, 2) * below(r, 500); turns < late; ++turns) {
            }
            racers_[mine]();
            line_.arrive_and_wait();
        }
    }

    std::vector<std::function<void()>> racers_;
    std::barrier<> line_;
    std::atomic<bool> over_{false};
    std::vector<std::thread> threads_;
};

} // namespace test
