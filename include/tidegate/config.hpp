// SPDX-License-Identifier: BSL-1.0
// Macros that every header of the library agrees on.
#pragma once

#include <tidegate/version.hpp>

// All names live in an inline namespace that changes when the ABI does. Without trace hooks (see
// trace.hpp) the primitives are smaller: another ABI.
#if defined(TIDEGATE_NO_TRACE)
#define TIDEGATE_ABI v0_no_trace
#else
#define TIDEGATE_ABI v0
#endif
#define TIDEGATE_BEGIN_NAMESPACE                                                                   \
    namespace tidegate {                                                                           \
    inline namespace TIDEGATE_ABI {
#define TIDEGATE_END_NAMESPACE                                                                     \
    }                                                                                              \
    }

// The parts in impl/*.ipp are inline by default, and compiled once into the library
// tidegate::compiled, which defines TIDEGATE_SEPARATE_COMPILATION for its users.
#if defined(TIDEGATE_SEPARATE_COMPILATION)
#define TIDEGATE_DECL
#else
#define TIDEGATE_HEADER_ONLY 1
#define TIDEGATE_DECL inline
#endif
