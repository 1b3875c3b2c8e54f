// SPDX-License-Identifier: BSL-1.0
#include "model_store.hpp"

#include <algorithm>

namespace vision {

namespace asio = boost::asio;

model_store::model_store(tidegate::worker_pool& pool, tidegate::monitor& monitor,
                         const engine_options& options, run_control& stop)
    : models_(models_of(options)),
      current_(models_.front().name),
      budget_(pool.get_executor(), {options.model_memory}) {
    for (const named_model& one : models_) {
        detector_options which = options.model;
        which.model = one.file;
        auto load = [&pool, &monitor, &stop, options, which] {
            auto const timer = monitor.measure("load model");
            return std::make_shared<loaded_model>(pool, monitor, which, options, stop);
        };
        auto measure = [](const loaded_model& model) {
            return tidegate::resource_size<1>{model.bytes()};
        };
        budget_.add(one.name, {bytes_of_model(one.file)}, pool, load, measure);
    }
    budget_.pin(current_);
}

bool model_store::knows(std::string_view name) const noexcept {
    return std::ranges::any_of(models_, [&](const named_model& one) { return one.name == name; });
}

auto model_store::get(std::string name) -> asio::awaitable<lease> {
    return budget_.acquire(name.empty() ? current_ : std::move(name));
}

asio::awaitable<void> model_store::switch_to(std::string name) {
    auto loading = get(name);
    lease const loaded = co_await std::move(loading);
    budget_.pin(current_, false);
    budget_.pin(name);
    current_ = std::move(name);
}

void model_store::flush() noexcept {
    for (const named_model& one : models_) {
        if (auto const loaded = budget_.try_acquire(one.name)) loaded->batches.flush();
    }
}

} // namespace vision
