// SPDX-License-Identifier: BSL-1.0
// hot_paths PATH TIMES: one fast path, so many times and nothing else, for callgrind to count its
// instructions. Run with no arguments it lists the paths.
#include <tidegate/cache.hpp>
#include <tidegate/channel.hpp>
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/keyed_rate_limiter.hpp>
#include <tidegate/latency_recorder.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
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
    while (times-- > 0) static_cast<void>(places.try_acquire());
}

void rate_limiter(long times) {
    tidegate::rate_limiter limiter(io, tidegate::rate_limiter_options().rate(1'000'000'000, 1s));
    while (times-- > 0) static_cast<void>(limiter.try_acquire());
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

void keyed_rate_limiter(long times) {
    tidegate::keyed_rate_limiter<int> limiter(
        tidegate::keyed_rate_limiter_options<int>().rate(1'000'000'000, 1s));
    while (times-- > 0) static_cast<void>(limiter.try_acquire(1));
}

void circuit_breaker(long times) {
    tidegate::circuit_breaker breaker;
    while (times-- > 0) breaker.try_acquire().success();
}

void channel(long times) {
    tidegate::channel<int> numbers(io, 1);
    while (times-- > 0) {
        numbers.try_send(1);
        numbers.try_receive();
    }
}

boost::asio::awaitable<int> one() { co_return 1; }

// Three layers round an operation that succeeds at once.
boost::asio::awaitable<void> guarded(long times) {
    tidegate::circuit_breaker breaker;
    tidegate::semaphore places(io, 1);
    tidegate::policy const layers{tidegate::retry{}, breaker, places};
    while (times-- > 0) co_await layers(&one);
}
void policy(long times) {
    boost::asio::co_spawn(io, guarded(times), boost::asio::detached);
    io.run();
}

std::map<std::string, std::function<void(long)>> const paths = {
    {"cache", cache},
    {"channel", channel},
    {"circuit_breaker", circuit_breaker},
    {"keyed_rate_limiter", keyed_rate_limiter},
    {"latency_recorder", latency_recorder},
    {"policy", policy},
    {"rate_limiter", rate_limiter},
    {"semaphore", semaphore},
};

} // namespace

int main(int argc, char** argv) {
    if (argc == 3 && paths.contains(argv[1])) paths.at(argv[1])(std::atol(argv[2]));
    else
        for (auto const& [name, _] : paths) std::puts(name.c_str());
}
