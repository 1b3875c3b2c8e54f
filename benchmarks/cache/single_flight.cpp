// SPDX-License-Identifier: BSL-1.0
// Runs that nobody else asks for, and runs that 64 wait for together.
#include "bench.hpp"
#include "coroutines.hpp"

#include <tidegate/single_flight.hpp>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>

#include <exception>
#include <memory>
#include <unordered_map>

namespace {

using namespace bench;
using flights = tidegate::single_flight<int, int>;

asio::awaitable<int> one_turn(int const& key) {
    co_await asio::post(asio::deferred);
    co_return key;
}

asio::awaitable<void> fly_alone(run& r, flights& all) {
    while (r.more()) benchmark::DoNotOptimize(*co_await all.run(1, one_turn));
}

// What people write: a table of runs, and a timer that never rings for those who wait.
class flights_by_hand {
public:
    explicit flights_by_hand(asio::io_context& context) : context_(context) {}

    asio::awaitable<int> run(int key) {
        auto& place = runs_[key];
        if (!place) {
            place = std::make_shared<shared_run>(context_);
            asio::co_spawn(context_, one_turn(key), [this, key](std::exception_ptr e, int value) {
                auto const done = std::move(runs_.extract(key).mapped());
                done->failure = e;
                done->value = value;
                done->over.cancel();
            });
        }
        auto const mine = place;
        boost::system::error_code ec;
        co_await mine->over.async_wait(asio::redirect_error(asio::deferred, ec));
        if (mine->failure) std::rethrow_exception(mine->failure);
        co_return mine->value;
    }

private:
    struct shared_run {
        explicit shared_run(asio::io_context& context)
            : over(context, asio::steady_timer::time_point::max()) {}

        asio::steady_timer over;
        std::exception_ptr failure;
        int value = 0;
    };

    asio::io_context& context_;
    std::unordered_map<int, std::shared_ptr<shared_run>> runs_;
};

asio::awaitable<void> fly_alone_by_hand(run& r, flights_by_hand& all) {
    while (r.more()) benchmark::DoNotOptimize(co_await all.run(1));
}

asio::awaitable<void> ask(flights& all) { co_await all.run(1, one_turn); }
asio::awaitable<void> ask_by_hand(flights_by_hand& all) { co_await all.run(1); }

template <class Flights, class Ask>
void together(run& r, Ask ask_one) {
    constexpr int callers = 64;
    asio::io_context context{1};
    Flights all(context);
    while (r.more(callers)) {
        for (int i = 0; i < callers; ++i) start(context, ask_one(all));
        context.restart();
        context.run();
    }
}

group const flying{[] {
    row("flight/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        flights all(context);
        drive(context, fly_alone(r, all));
    });
    row("flight/by_hand", cpu_time, [](run& r) {
        asio::io_context context{1};
        flights_by_hand all(context);
        drive(context, fly_alone_by_hand(r, all));
    });
    row("flight_64/tidegate", cpu_time, [](run& r) { together<flights>(r, ask); });
    row("flight_64/by_hand", cpu_time, [](run& r) { together<flights_by_hand>(r, ask_by_hand); });
    // Ours has a time limit, ends when nobody wants it any more, and may be used from any thread.
    claim("flight", ratio_of("flight/tidegate", "flight/by_hand"), at_most(2));
    claim("flight_64", ratio_of("flight_64/tidegate", "flight_64/by_hand"), at_most(1.2));
}};

} // namespace
