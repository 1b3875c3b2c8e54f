// SPDX-License-Identifier: BSL-1.0
// "tidegate-vision serve" and "tidegate-vision work".
#pragma once

#include "service_options.hpp"

#include <CLI/CLI.hpp>

namespace vision {

CLI::App& add_serve(CLI::App& app, service::service_options& wanted);
CLI::App& add_work(CLI::App& app, service::service_options& wanted);

// Serves, or works, until a signal, and returns the exit status. Throws vision::error.
int serve(const service::service_options& wanted);

} // namespace vision
