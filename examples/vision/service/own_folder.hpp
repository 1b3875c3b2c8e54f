// SPDX-License-Identifier: BSL-1.0
// What a service that is alone finds in its folder from before: jobs, results and checkpoints.
#pragma once

#include "analyses.hpp"
#include "data_folder.hpp"
#include "memory_job_queue.hpp"

#include <chrono>

namespace vision::service {

// A job whose video is gone and whose result is there has succeeded, and the process died before it
// could write that down. To be asked before the jobs are restored. Blocks.
void recognise_success(remembered_job& one, const data_folder& data);

// Gives `results` what is whole and was written within `keep`, and removes all that no job needs.
// Blocks; throws vision::error.
void restore_own_folder(const data_folder& data, const memory_job_queue& jobs, analyses& results,
                        std::chrono::seconds keep);

} // namespace vision::service
