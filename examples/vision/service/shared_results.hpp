// SPDX-License-Identifier: BSL-1.0
// Results in a folder, which processes may share: whole or not there, whoever makes them.
#pragma once

#include "analyses.hpp"

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace vision::service {

// All block, and throw vision::error.

// Nothing where there is no result. Whoever has asked may use it for an hour, whatever is swept.
[[nodiscard]] std::optional<analysis> load_analysis(const std::filesystem::path& folder);

// Gives the files of a run, in a folder of its own, their place. Where another run was quicker, its
// files stay: they say the same. What is there and not whole, since somebody died removing it,
// makes way.
[[nodiscard]] analysis publish_analysis(const analysis& made, const std::filesystem::path& folder);

// Since it was made; nothing where there is no result.
[[nodiscard]] std::optional<std::chrono::seconds>
age_of_analysis(const std::filesystem::path& folder);

// The folders of runs of a key, each run's own: KEY.RUN. They hold what is not whole yet, or no
// longer.
[[nodiscard]] std::vector<std::filesystem::path> runs_of(const std::filesystem::path& results,
                                                         const std::string& key);
// One that nobody else has, for a run, or to put that result aside.
[[nodiscard]] std::filesystem::path new_run_of(const std::filesystem::path& result);
[[nodiscard]] inline std::filesystem::path checkpoint_in(const std::filesystem::path& run) {
    return run / "checkpoint.jsonl";
}

} // namespace vision::service
