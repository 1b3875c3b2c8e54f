// SPDX-License-Identifier: BSL-1.0
// A model (here: a stand-in for one) that is loaded once and fed in batches.
#include <tidegate/batch_calibration.hpp>
#include <tidegate/batcher.hpp>
#include <tidegate/lazy.hpp>
#include <tidegate/parallel.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <exception>
#include <iostream>
#include <memory>
#include <ranges>
#include <span>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

struct picture {
    int camera = 0;
    std::vector<float> pixels;
};

// Counts bright pixels, with a price for each call.
class model {
public:
    std::vector<int> run(std::span<picture const> pictures) const {
        double price = 0;
        for (int i = 0; i < 20'000; ++i) price += i % 7;
        std::vector<int> bright;
        for (auto const& one : pictures) {
            int n = price < 0 ? 1 : 0;
            for (float const pixel : one.pixels) n += pixel > 0.5F;
            bright.push_back(n);
        }
        return bright;
    }
};

picture take(int number) {
    return {number % 3, std::vector<float>(1000, number % 2 ? 0.9F : 0.1F)};
}

using detector = tidegate::batcher<picture, int>;

//! [request]
asio::awaitable<int> count_bright(detector& detect, int number) {
    int const bright = co_await detect.submit(take(number));
    co_return bright;
}
//! [request]

asio::awaitable<void> serve(tidegate::worker_pool& pool) {
    //! [model]
    tidegate::lazy<model> loaded(pool, [] { return model(); });
    std::shared_ptr<model> const net = co_await loaded.get();
    //! [model]

    //! [calibrate]
    auto make_worker = [net](std::size_t n) {
        return [net, batch = std::vector<picture>(n, take(1))] { net->run(batch); };
    };
    auto const tuned = tidegate::calibrate_batches(
        make_worker, tidegate::batch_calibration_options().max_workers(2).budget(200ms));
    auto const options = tidegate::batcher_options()
                             .max_size(tuned.chosen.batch)
                             .max_in_flight(tuned.chosen.workers);
    //! [calibrate]

    //! [batcher]
    auto run = [net](std::span<picture> batch) { return net->run(batch); };
    auto camera = [](picture const& one) { return one.camera; };
    detector detect(pool, options, run, std::monostate(), camera); // no key: all are of one shape
    //! [batcher]

    //! [priority]
    auto priority = [](picture const& one) {
        return one.camera == 0 ? tidegate::job_priority::urgent : tidegate::job_priority::normal;
    };
    detector urgent_first(pool, options, run, std::monostate(), camera, priority);
    //! [priority]

    int total = 0;
    auto one = [&](int number) -> asio::awaitable<void> {
        total += co_await count_bright(number % 2 ? detect : urgent_first, number);
    };
    co_await tidegate::parallel_for_each(std::views::iota(0, 200), 50, one);
    auto const half = detect.statistics(), rest = urgent_first.statistics();
    std::cout << total << " bright pixels, " << half.items + rest.items << " pictures in "
              << half.batches + rest.batches << " runs\n";
    if (total != 100'000) throw std::runtime_error("miscounted");
}

} // namespace

int main() {
    asio::io_context io{1};
    tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(2));
    asio::co_spawn(io, serve(pool), [](std::exception_ptr e) {
        if (e) std::rethrow_exception(e);
    });
    io.run();
}
