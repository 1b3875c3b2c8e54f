// SPDX-License-Identifier: BSL-1.0
// Leasing a thing that is resident, beside a table of shared pointers that never unloads anything.
#include "bench.hpp"

#include <tidegate/resource_budget.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/io_context.hpp>

#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace {

using namespace bench;
namespace asio = boost::asio;

std::string const names[]{"nano", "small", "large", "huge"};

group const leasing{[] {
    row("lease/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        tidegate::worker_pool pool(context, tidegate::worker_pool_options().threads(1));
        using budget = tidegate::resource_budget<std::string, int>;
        budget things(context, {100});
        for (auto const& name : names) {
            things.add(name, {1}, pool, [] { return std::make_shared<int>(1); });
            things.async_acquire(name, [](std::exception_ptr e, budget::lease) {
                if (e) std::rethrow_exception(e);
            });
        }
        context.run();
        for (std::size_t i = 0; r.more(); ++i) {
            auto lease = things.try_acquire(names[i % 4]);
            benchmark::DoNotOptimize(*lease);
        }
    });
    row("lease/map_and_mutex", cpu_time, [](run& r) {
        std::mutex mutex;
        std::map<std::string, std::shared_ptr<int>> things;
        for (auto const& name : names) things.emplace(name, std::make_shared<int>(1));
        for (std::size_t i = 0; r.more(); ++i) {
            auto lease = [&] {
                std::lock_guard lock(mutex);
                return things.find(names[i % 4])->second;
            }();
            benchmark::DoNotOptimize(*lease);
        }
    });
    claim("resource_lease", ratio_of("lease/tidegate", "lease/map_and_mutex"), at_most(3));
    claim("resource_lease_allocations", allocations_of("lease/tidegate"), at_most(1));
}};

} // namespace
