// SPDX-License-Identifier: BSL-1.0
// What the service says of itself on standard error: a line an event, for people or as JSON.
#pragma once

#include <boost/json/object.hpp>
#include <spdlog/logger.h>

#include <memory>
#include <string_view>

namespace spdlog::details {
class thread_pool;
}

namespace vision::service {

// Never blocks its caller: a thread of its own writes, and what that cannot keep up with is
// dropped, the oldest first.
class event_log {
public:
    using level = spdlog::level::level_enum;

    event_log(level least, bool as_json);
    ~event_log();
    event_log(const event_log&) = delete;
    event_log& operator=(const event_log&) = delete;

    // `fields()` is a boost::json::object, made only if the event is written.
    template <class Fields>
    void write(level how, std::string_view event, const Fields& fields) {
        if (logger_->should_log(how)) write_line(how, event, fields());
    }
    template <class Fields>
    void info(std::string_view event, const Fields& fields) {
        write(level::info, event, fields);
    }
    template <class Fields>
    void warn(std::string_view event, const Fields& fields) {
        write(level::warn, event, fields);
    }

private:
    void write_line(level how, std::string_view event, boost::json::object fields);

    bool as_json_;
    std::shared_ptr<spdlog::details::thread_pool> writer_; // the logger does not own it
    std::shared_ptr<spdlog::logger> logger_;
};

} // namespace vision::service
