// SPDX-License-Identifier: BSL-1.0
// Boost.Redis, compiled once: any program that uses it needs this in exactly one place.
#include <boost/redis/src.hpp>
