// SPDX-License-Identifier: BSL-1.0
// Everything that is compiled once into tidegate::compiled. Include it in exactly one source file.
#pragma once

#if !defined(TIDEGATE_SEPARATE_COMPILATION)
#error "define TIDEGATE_SEPARATE_COMPILATION for the whole program before including this file"
#endif

#include <tidegate/impl/error.ipp>
#include <tidegate/impl/exposition.ipp>
#include <tidegate/impl/file_handle.ipp>
#include <tidegate/impl/file_store.ipp>
#include <tidegate/impl/process_memory.ipp>
#include <tidegate/impl/stall_detector.ipp>
