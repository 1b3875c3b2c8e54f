// SPDX-License-Identifier: BSL-1.0
// The library's version. The build reads it from here.
#pragma once

#define TIDEGATE_VERSION_MAJOR 0
#define TIDEGATE_VERSION_MINOR 1
#define TIDEGATE_VERSION_PATCH 0
#define TIDEGATE_VERSION_STRING "0.1.0"
