// SPDX-License-Identifier: BSL-1.0
// Three models, room for two: the one that nobody has used for longest makes room.
#include <tidegate/resource_budget.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace asio = boost::asio;

struct model {
    explicit model(std::string n) : name(std::move(n)), weights(1'000'000) {
        std::cout << "load " << name << "\n";
    }
    ~model() { std::cout << "unload " << name << "\n"; }
    std::string name;
    std::vector<float> weights;
};
using models = tidegate::resource_budget<std::string, model>;

//! [detect]
asio::awaitable<void> detect(models& all) {
    for (char const* name : {"nano", "small", "nano", "large", "small"}) {
        auto const leased = co_await all.acquire(name); // stays loaded while we have it
        std::cout << "detect with " << leased->name << "\n";
    }
    std::cout << all.statistics().used[0] / 1'000'000 << " MB in use\n";
}
//! [detect]

int main() {
    asio::io_context io;
    tidegate::worker_pool pool(io);
    //! [add]
    models all(io, {10'000'000});
    auto how_large = [](model const& m) { return models::size{m.weights.size() * sizeof(float)}; };
    for (char const* name : {"nano", "small", "large"}) {
        auto load = [name] { return std::make_shared<model>(name); };
        all.add(name, {4'000'000}, pool, load, how_large);
    }
    //! [add]
    asio::co_spawn(io, detect(all), asio::detached);
    io.run();
}
