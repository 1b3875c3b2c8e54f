// SPDX-License-Identifier: BSL-1.0
// The window of calls and the probes of a breaker, against lists of all that happened.
#include "fuzz/input.hpp"

#include <tidegate/core/circuit_breaker.hpp>

#include <vector>

namespace {

namespace core = tidegate::core;

void windows(fuzz::input& in) {
    std::size_t const slices = 1 + in.below(12);
    std::int64_t const slice = static_cast<std::int64_t>(1 + in.below(1000));
    core::time_window window(slice * static_cast<std::int64_t>(slices), slices);
    struct call {
        std::int64_t at;
        bool failed, slow;
    };
    std::vector<call> all;
    std::int64_t now = slice * 100;
    for (int step = 0; step < 200 && !in.empty(); ++step) {
        now += static_cast<std::int64_t>(in.below(static_cast<std::uint64_t>(2 * slice)));
        if (in.byte() % 16 == 0) now += slice * static_cast<std::int64_t>(in.below(30));
        std::uint8_t const kind = in.byte();
        all.push_back({now, kind % 2 == 1, kind % 4 > 1});
        window.record(now, all.back().failed, all.back().slow);
        core::call_counts expected;
        for (call const& c : all) {
            if (c.at < (now / slice - static_cast<std::int64_t>(slices) + 1) * slice) continue;
            ++expected.calls;
            expected.failures += c.failed;
            expected.slow += c.slow;
        }
        fuzz::require(window.counts(now) == expected, "the window has the calls of its time");
    }
}

void probing(fuzz::input& in) {
    std::uint64_t permitted = 1 + in.below(8);
    std::int64_t const lease = static_cast<std::int64_t>(1 + in.below(1000));
    core::probes probes(permitted, lease);
    struct probe {
        core::probes::id id;
        std::int64_t expires;
        bool out;
    };
    std::vector<probe> started;
    core::call_counts reported;
    std::int64_t now = 0;
    for (int step = 0; step < 200 && !in.empty(); ++step) {
        now += static_cast<std::int64_t>(in.below(static_cast<std::uint64_t>(lease)));
        std::uint64_t out = 0;
        for (probe& p : started) out += p.out && p.expires > now;
        fuzz::require(probes.out(now) == out, "as many are out as were started and not heard of");
        probe* const one = started.empty() ? nullptr : &started[in.below(started.size())];
        switch (in.byte() % 4) {
        case 0:
        case 1: {
            core::probes::id const id = probes.start(now);
            fuzz::require((id != 0) == (out + reported.calls < permitted), "a place or none");
            if (id != 0) started.push_back({id, now + lease, true});
            break;
        }
        case 2:
            if (one) {
                bool const failed = in.byte() % 2;
                bool const counts = one->out && one->expires > now;
                fuzz::require(probes.report(one->id, now, failed, false) == counts, "heard once");
                if (!counts) break;
                one->out = false;
                ++reported.calls;
                reported.failures += failed;
            }
            break;
        default:
            if (one && one->out && one->expires > now) {
                probes.take_back(one->id);
                one->out = false;
            }
        }
        fuzz::require(probes.counts() == reported, "what was reported counts, and nothing else");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    fuzz::input in(data, size);
    if (in.byte() % 2) windows(in);
    else probing(in);
    return 0;
}
