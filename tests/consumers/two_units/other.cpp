// SPDX-License-Identifier: BSL-1.0
#include "other.hpp"

tidegate::error_code closed_elsewhere(tidegate::semaphore& sem) {
    sem.close();
    return tidegate::error::closed;
}
