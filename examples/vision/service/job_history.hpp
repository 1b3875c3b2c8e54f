// SPDX-License-Identifier: BSL-1.0
// The jobs of one process as files, a file a job, so that the next process knows them.
#pragma once

#include "job.hpp"

#include <tidegate/semaphore.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace vision::service {

struct remembered_job {
    job what; // in a file: without its source
    std::string idempotency_key;
    bool is_written = true; // as it is
};

// To be used on `executor` alone, which runs one handler at a time.
class job_history {
public:
    job_history(boost::asio::any_io_executor executor, tidegate::worker_pool& disk,
                std::filesystem::path folder);

    // All jobs, the oldest first. Blocks. `damaged` is told of each file that cannot be understood
    // and why; it stays where it is. Throws vision::error if the folder cannot be listed.
    [[nodiscard]] std::vector<remembered_job>
    load(const std::function<void(const std::filesystem::path&, const std::string&)>& damaged);

    using state_of_job = std::function<std::optional<remembered_job>()>;
    // Writes what `now` says when its turn has come: whoever reads the file finds what was there
    // before or what is there now, also after a crash, and, if `durable`, after a loss of power.
    // Nothing: there is no such job any more. Throws vision::output_error.
    boost::asio::awaitable<void> save(std::string id, state_of_job now, bool durable);

private:
    tidegate::worker_pool& disk_;
    std::filesystem::path folder_;
    tidegate::semaphore one_writes_; // in the order of the calls
};

} // namespace vision::service
