// SPDX-License-Identifier: BSL-1.0
// hot_paths PATH TIMES: one fast path, so many times and nothing else, for callgrind to count its
// instructions. Run with no arguments it lists the paths.
#include <tidegate/cache.hpp>
#include <tidegate/latency_recorder.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/semaphore.hpp>

#include <boost/asio/io_context.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>

using namespace std::chrono_literals;

namespace {

boost::asio::io_context io(1);

void semaphore(long times) {
    tidegate::semaphore places(io, 1);
    while (times-- > 0) places.try_acquire();
}

void rate_limiter(long times) {
    tidegate::rate_limiter limiter(io, tidegate::rate_limiter_options().rate(1'000'000'000, 1s));
    while (times-- > 0) limiter.try_acquire();
}

void cache(long times) {
    tidegate::cache<int, int> values(io, tidegate::cache_options<int, int>().max_entries(1000));
    values.put(1, 1);
    while (times-- > 0) values.get_if_present(1);
}

void latency_recorder(long times) {
    tidegate::latency_recorder recorder;
    while (times-- > 0) recorder.record(1us);
}

std::map<std::string, std::function<void(long)>> const paths = {
    {"semaphore", semaphore},
    {"rate_limiter", rate_limiter},
    {"cache", cache},
    {"latency_recorder", latency_recorder},
};

} // namespace

int main(int argc, char** argv) {
    if (argc == 3 && paths.contains(argv[1])) paths.at(argv[1])(std::atol(argv[2]));
    else
        for (auto const& [name, _] : paths) std::puts(name.c_str());
}
