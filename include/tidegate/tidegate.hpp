// SPDX-License-Identifier: BSL-1.0
// All primitives at once.
#pragma once

#include <tidegate/adaptive_limiter.hpp>
#include <tidegate/as_generator.hpp>
#include <tidegate/background_tasks.hpp>
#include <tidegate/batch_calibration.hpp>
#include <tidegate/batcher.hpp>
#include <tidegate/call.hpp>
#include <tidegate/channel.hpp>
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/circuit_breaker_registry.hpp>
#include <tidegate/error.hpp>
#include <tidegate/fallback.hpp>
#include <tidegate/file.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/instrument.hpp>
#include <tidegate/keyed_rate_limiter.hpp>
#include <tidegate/lazy.hpp>
#include <tidegate/monitor.hpp>
#include <tidegate/object_pool.hpp>
#include <tidegate/parallel.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/poll.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/retry_budget.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/sleep.hpp>
#include <tidegate/task_scope.hpp>
#include <tidegate/timeout.hpp>
#include <tidegate/version.hpp>
#include <tidegate/worker_pool.hpp>
