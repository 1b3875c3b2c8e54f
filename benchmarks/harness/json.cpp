// SPDX-License-Identifier: BSL-1.0
// Boost.JSON without its library: its sources, compiled here once.
#include <boost/json/src.hpp>
