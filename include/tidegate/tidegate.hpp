// SPDX-License-Identifier: BSL-1.0
// All primitives at once.
#pragma once

#include <tidegate/batcher.hpp>
#include <tidegate/channel.hpp>
#include <tidegate/error.hpp>
#include <tidegate/lazy.hpp>
#include <tidegate/monitor.hpp>
#include <tidegate/object_pool.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/version.hpp>
#include <tidegate/worker_pool.hpp>
