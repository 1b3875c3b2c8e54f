// SPDX-License-Identifier: BSL-1.0
// Generated sequences of keys that look like what caches see.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace bench {

// Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
class splitmix {
public:
    explicit splitmix(std::uint64_t seed) : state_(seed) {}

    std::uint64_t operator()() { return finalise(state_ += 0x9E3779B97F4A7C15u); }
    double unit() { return static_cast<double>((*this)() >> 11) * 0x1p-53; }

    static std::uint64_t finalise(std::uint64_t z) {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }

private:
    std::uint64_t state_;
};

// Ranks from 0, by the exact distribution.
class zipf {
public:
    zipf(double exponent, std::size_t n) : up_to_(n) {
        double sum = 0;
        for (std::size_t i = 0; i < n; ++i) {
            up_to_[i] = sum += 1 / std::pow(static_cast<double>(i + 1), exponent);
        }
        for (double& p : up_to_) p /= sum;
    }

    std::size_t operator()(splitmix& random) const {
        auto const it = std::lower_bound(up_to_.begin(), up_to_.end(), random.unit());
        return static_cast<std::size_t>(it - up_to_.begin());
    }

private:
    std::vector<double> up_to_;
};

// Makes the ten traces, five million keys each by default.
class trace_maker {
public:
    using trace = std::vector<std::uint64_t>;

    explicit trace_maker(std::uint64_t seed = 42, std::size_t length = 5'000'000)
        : random_(seed), length_(length) {}

    static std::vector<std::string> const& names() {
        static std::vector<std::string> const all{"z099", "z080",  "z110",  "scan",   "ohw",
                                                  "loop", "zloop", "shift", "latest", "recency"};
        return all;
    }

    trace make(std::string const& name) {
        if (name == "z099") return popular(0.99, 0);
        if (name == "z080") return popular(0.8, 0);
        if (name == "z110") return popular(1.1, 0);
        if (name == "shift") return popular(0.99, 500'000);
        if (name == "scan") return scan();
        if (name == "ohw") return one_hit_wonders();
        if (name == "loop") return loop();
        if (name == "zloop") return popular_and_loop();
        if (name == "latest") return latest();
        if (name == "recency") return recency();
        throw std::invalid_argument("no trace is called " + name);
    }

private:
    static constexpr std::uint64_t never_again = std::uint64_t{1} << 62;
    static constexpr std::size_t million = 1'000'000;

    // Which key has a rank has nothing to do with the rank.
    static std::uint64_t scrambled(std::uint64_t rank) { return splitmix::finalise(rank + 1); }

    template <class Next>
    trace fill(Next next) {
        trace t;
        t.reserve(length_);
        while (t.size() < length_) next(t);
        t.resize(length_);
        return t;
    }

    // Zipf over a million keys; other keys altogether after each `period`.
    trace popular(double exponent, std::size_t period) {
        zipf const ranks(exponent, million);
        return fill([&](trace& t) {
            std::size_t const era = period ? t.size() / period : 0;
            t.push_back(scrambled(ranks(random_) + 10 * million * era));
        });
    }

    // 80,000 popular keys, then 20,000 that never come again, and so on.
    trace scan() {
        zipf const ranks(0.99, million);
        std::uint64_t fresh = never_again;
        return fill([&](trace& t) {
            if (t.size() % 100'000 < 80'000) t.push_back(scrambled(ranks(random_)));
            else t.push_back(fresh++);
        });
    }

    // Every second key never comes again.
    trace one_hit_wonders() {
        zipf const ranks(0.9, million);
        std::uint64_t fresh = never_again;
        return fill([&](trace& t) {
            if (random_.unit() < 0.5) t.push_back(scrambled(ranks(random_)));
            else t.push_back(fresh++);
        });
    }

    trace loop() {
        return fill([&](trace& t) { t.push_back(scrambled(t.size() % 120'000)); });
    }

    trace popular_and_loop() {
        zipf const ranks(0.99, million);
        std::uint64_t at = 0;
        return fill([&](trace& t) {
            if (random_.unit() < 2.0 / 3) t.push_back(scrambled(ranks(random_)));
            else t.push_back(never_again + at++ % 60'000);
        });
    }

    // The newest keys are the most popular.
    trace latest() {
        zipf const ranks(0.99, million);
        std::uint64_t head = 2 * million;
        return fill([&](trace& t) {
            if (random_.unit() < 0.05) ++head;
            t.push_back(scrambled(head - ranks(random_)));
        });
    }

    // Bursts: a new key is used one to three times more, soon or within 40,000 steps, then never.
    trace recency() {
        zipf const ranks(0.8, 200'000);
        constexpr std::size_t slots = 1 << 16;
        std::vector<trace> due(slots);
        std::uint64_t step = 0, fresh = never_again;
        return fill([&](trace& t) {
            for (std::uint64_t const key : std::exchange(due[step % slots], {})) t.push_back(key);
            if (random_.unit() < 0.25) {
                t.push_back(scrambled(ranks(random_)));
            } else {
                t.push_back(fresh);
                for (std::uint64_t uses = 1 + random_() % 3; uses > 0; --uses) {
                    double const distance = std::exp(random_.unit() * std::log(40'000.0));
                    due[(step + std::max<std::uint64_t>(1, static_cast<std::uint64_t>(distance))) %
                        slots]
                        .push_back(fresh);
                }
                ++fresh;
            }
            ++step;
        });
    }

    splitmix random_;
    std::size_t length_;
};

} // namespace bench
