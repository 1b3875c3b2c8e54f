// SPDX-License-Identifier: BSL-1.0
// What may be called a loader: of a value or a shared pointer, awaited or run by a worker.
#pragma once

#include <tidegate/detail/worker_pool_fwd.hpp>

#include <boost/asio/awaitable.hpp>

#include <functional>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// A function that returns an awaitable of the value from whatever is called a loader.
template <class T>
using lazy_loader = std::function<boost::asio::awaitable<std::shared_ptr<T>>()>;

template <class T, class Loaded>
std::shared_ptr<T> to_lazy_value(Loaded&& loaded) {
    if constexpr (std::is_convertible_v<Loaded, std::shared_ptr<T>>) {
        std::shared_ptr<T> value = std::forward<Loaded>(loaded);
        if (!value) throw std::logic_error("tidegate: the loader of a lazy value returned null");
        return value;
    } else {
        return std::make_shared<T>(std::forward<Loaded>(loaded));
    }
}

// Shared, so that move-only functions will do, and a load may outlive the registration.
template <class T, class Load>
boost::asio::awaitable<std::shared_ptr<T>> run_loader(std::shared_ptr<Load> load) {
    co_return to_lazy_value<T>(co_await (*load)());
}

template <class T, class Load>
lazy_loader<T> make_loader(Load load) {
    return [load = std::make_shared<Load>(std::move(load))] { return run_loader<T>(load); };
}

template <class T, class Executor, class Load>
boost::asio::awaitable<std::shared_ptr<T>>
run_loader_on(std::shared_ptr<worker_pool_state<Executor>> pool, std::shared_ptr<Load> load) {
    auto job = [load] { return to_lazy_value<T>((*load)()); };
    auto submitting = pool->submit(std::move(job));
    co_return co_await std::move(submitting);
}

template <class T, class Executor, class Load>
lazy_loader<T> make_loader_on(basic_worker_pool<Executor>& pool, Load load) {
    return [pool = state_of(pool), load = std::make_shared<Load>(std::move(load))] {
        return run_loader_on<T>(pool, load);
    };
}

} // namespace detail
TIDEGATE_END_NAMESPACE
