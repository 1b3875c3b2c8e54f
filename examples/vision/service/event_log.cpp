// SPDX-License-Identifier: BSL-1.0
#include "event_log.hpp"

#include "job.hpp"

#include <boost/json/serialize.hpp>
#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace vision::service {

namespace json = boost::json;

event_log::event_log(level least, bool as_json)
    : as_json_(as_json),
      writer_(std::make_shared<spdlog::details::thread_pool>(8192, 1)),
      logger_(std::make_shared<spdlog::async_logger>(
          "tidegate-vision", std::make_shared<spdlog::sinks::stderr_sink_mt>(), writer_,
          spdlog::async_overflow_policy::overrun_oldest)) {
    logger_->set_level(least);
    logger_->set_pattern(as_json ? "%v" : "%Y-%m-%d %H:%M:%S.%e %l %v");
}

event_log::~event_log() = default; // the writer writes what is left

void event_log::write_line(level how, std::string_view event, json::object fields) {
    std::string line;
    if (as_json_) {
        json::object all{{"time", to_rfc3339(job::clock::now())},
                         {"level", spdlog::level::to_string_view(how).data()},
                         {"event", event}};
        for (auto& [key, value] : fields) all[key] = std::move(value);
        line = serialize(all);
    } else {
        line = event;
        for (const auto& [key, value] : fields) {
            line.append(" ").append(key).append("=").append(serialize(value));
        }
    }
    logger_->log(how, line);
}

} // namespace vision::service
