// SPDX-License-Identifier: BSL-1.0
// What runs the models: the options of the command line about it.
#pragma once

#include "detector.hpp"

#include <CLI/CLI.hpp>

namespace vision {

inline void add_execution_providers(CLI::App& app, detector_options& model) {
    auto& providers = model.execution_providers;
    CLI::Option* const ep =
        app.add_option("--ep", providers, "What runs the model: cuda, cpu; the first that works")
            ->delimiter(',')
            ->default_str("cpu")
            ->check(CLI::IsMember({"cuda", "cpu"}));
    app.add_flag_callback(
           "--require-ep", [&providers] { providers.resize(1); },
           "Fail where the first of --ep does not work, instead of using the next")
        ->needs(ep);
}

} // namespace vision
