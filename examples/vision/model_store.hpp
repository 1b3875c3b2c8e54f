// SPDX-License-Identifier: BSL-1.0
// The models of a process by name: each is loaded when it is first wanted, all within a budget of
// memory.
#pragma once

#include "loaded_model.hpp"

#include <tidegate/resource_budget.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/awaitable.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vision {

// One of them is current: it serves who names none, and stays loaded. Another one takes its place
// once it is loaded; what the former still works on, it finishes. Used on the pool's executor, but
// for `flush`.
class model_store {
public:
    using lease = std::shared_ptr<loaded_model>; // a model in use is not unloaded

    model_store(tidegate::worker_pool& pool, tidegate::monitor& monitor,
                const engine_options& options, run_control& stop);

    [[nodiscard]] const std::vector<named_model>& all() const noexcept { return models_; }
    [[nodiscard]] bool knows(std::string_view name) const noexcept;
    [[nodiscard]] const std::string& current() const noexcept { return current_; }

    // A model by its name, or the current one for "", if it is loaded. The name must be known.
    [[nodiscard]] lease get_if_ready(const std::string& name = {}) {
        return budget_.try_acquire(name.empty() ? current_ : name);
    }
    // The same, after a load if need be: void(std::exception_ptr, lease).
    template <class Token>
    auto async_get(const std::string& name, Token&& token) {
        return budget_.async_acquire(name.empty() ? current_ : name, std::forward<Token>(token));
    }
    boost::asio::awaitable<lease> get(std::string name = {});
    // Loads it and makes it the current one. Throws what the load threw, and nothing has changed.
    boost::asio::awaitable<void> switch_to(std::string name);

    // Lets batches go that wait to fill.
    void flush() noexcept;

    [[nodiscard]] const tidegate::resource_budget<std::string, loaded_model>& budget() const {
        return budget_;
    }

private:
    std::vector<named_model> const models_;
    std::string current_;
    tidegate::resource_budget<std::string, loaded_model> budget_;
};

} // namespace vision
