// SPDX-License-Identifier: BSL-1.0
// The compiled half of the library.
#include <tidegate/impl/src.hpp>
