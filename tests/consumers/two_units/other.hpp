// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <tidegate/error.hpp>
#include <tidegate/semaphore.hpp>

// Closes the semaphore and says so with an error code made in this translation unit.
tidegate::error_code closed_elsewhere(tidegate::semaphore& sem);
