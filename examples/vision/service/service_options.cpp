// SPDX-License-Identifier: BSL-1.0
#include "service_options.hpp"

#include "check_range.hpp"
#include "redis_address.hpp"

#include <boost/asio/ip/address.hpp>
#include <fmt/format.h>
#include <spdlog/common.h>

namespace vision::service {

void check(const service_options& options) {
    check(options.engine);
    boost::system::error_code ec;
    boost::asio::ip::make_address(options.address, ec);
    if (ec)
        throw error(fmt::format("--address is '{}', allowed is an IP address", options.address));
    check_range<std::size_t>("--max-running", options.max_running, 1, 64);
    check_range<std::size_t>("--max-queued", options.queue.max_queued, 1, 100'000);
    check_range<std::size_t>("--max-connections", options.max_connections, 1, 100'000);
    check_range<std::uint64_t>("--rate", options.rate, 1, 1'000'000);
    check_range<std::uint64_t>("--burst", options.burst, 1, 1'000'000);
    check_range<std::uint64_t>("--max-upload", options.http.body_bytes, 1, std::uint64_t{1} << 40);
    check_range<std::int64_t>("--stall-threshold", options.stall_threshold.count(), 1, 60'000);
    check_range<std::int64_t>("--drain", options.drain.count(), 0, 3600);
    check_range<std::int64_t>("--keep-results", options.results.time_to_live.count(), 1,
                              366 * 24 * 3600);
    check_range<std::int64_t>("--lease in ms", options.shared.lease.count(), 100, 3'600'000);
    check_range<std::uint32_t>("--max-crashes", options.shared.max_crashes, 0, 1000);
    check_range<std::uint32_t>("--max-errors", options.shared.max_errors, 0, 1000);
    if (!options.listens && !options.redis) throw error("--redis is missing: whose jobs to do");
    if (options.log_level != "off" &&
        spdlog::level::from_str(options.log_level) == spdlog::level::off) {
        throw error(fmt::format(
            "--log-level is '{}', allowed is trace, debug, info, warning, error, critical or off",
            options.log_level));
    }
}

namespace {

boost::json::array model_names(const engine_options& options) {
    boost::json::array names;
    for (const named_model& one : models_of(options)) names.emplace_back(one.name);
    return names;
}

} // namespace

boost::json::object to_json(const service_options& o) {
    return {
        {"models", model_names(o.engine)},
        {"model_memory_bytes", o.engine.model_memory},
        {"confidence", o.engine.model.confidence},
        {"iou", o.engine.model.iou},
        {"max_delay_ms", o.engine.max_delay.count()},
        {"max_running", o.max_running},
        {"max_queued", o.queue.max_queued},
        {"max_connections", o.max_connections},
        {"rate_per_second", o.rate},
        {"burst", o.burst},
        {"max_upload_bytes", o.http.body_bytes},
        {"max_header_bytes", o.http.header_bytes},
        {"header_time_seconds", o.http.header_time.count()},
        {"step_time_seconds", o.http.step_time.count()},
        {"max_pixels", o.results.max_pixels},
        {"max_frames", o.results.max_frames},
        {"keep_results_seconds", o.results.time_to_live.count()},
        {"drain_seconds", o.drain.count()},
        {"decoder_timeout_ms", o.engine.limits.decoding.count()},
        {"stall_threshold_ms", o.stall_threshold.count()},
        {"queue", o.redis ? describe(*o.redis) : "memory"},
        {"lease_ms", o.shared.lease.count()},
        {"max_crashes", o.shared.max_crashes},
        {"max_errors", o.shared.max_errors},
    };
}

} // namespace vision::service
