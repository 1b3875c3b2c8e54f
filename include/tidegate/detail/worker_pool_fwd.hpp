// SPDX-License-Identifier: BSL-1.0
// A pool, to those who take one that somebody else has made.
#pragma once

#include <tidegate/config.hpp>

#include <memory>

TIDEGATE_BEGIN_NAMESPACE

template <class Executor>
class basic_worker_pool;

namespace detail {

template <class Executor>
class worker_pool_state;

/// What the pool is a handle to; defined with it.
template <class Executor>
std::shared_ptr<worker_pool_state<Executor>> const&
state_of(basic_worker_pool<Executor> const& pool) noexcept;

} // namespace detail
TIDEGATE_END_NAMESPACE
