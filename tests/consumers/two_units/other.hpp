// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <tidegate/http/metrics_server.hpp>
#include <tidegate/testing/chaos.hpp>
#include <tidegate/testing/counting_allocator.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/testing/tracking_executor.hpp>
#include <tidegate/tidegate.hpp>

// Closes the semaphore and says so with an error code made in this translation unit.
tidegate::error_code closed_elsewhere(tidegate::semaphore& sem);
