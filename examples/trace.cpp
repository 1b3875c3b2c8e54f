// SPDX-License-Identifier: BSL-1.0
// A log of what the layers of a guarded call do: retried, let through, refused, a breaker that
// opens.
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/trace.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <iostream>
#include <memory>
#include <sstream>

namespace asio = boost::asio;
using namespace std::chrono_literals;

// One line an event. An OpenTelemetry adapter would add it to the current span here: the thread is
// the one that makes the call.
//! [observer]
class log_observer : public tidegate::trace_observer {
public:
    void on_event(tidegate::trace_record const& what) noexcept override {
        std::ostringstream line;
        line << what.primitive << " " << what.name << ": " << to_string(what.event) << " ("
             << what.count << ")";
        if (what.duration > 0ns) line << ", " << what.duration / 1ms << " ms";
        if (what.error) line << ", " << what.error.message();
        line << "\n";
        std::cout << line.str() << std::flush;
    }
};
//! [observer]

int main() {
    asio::io_context io;
    tidegate::semaphore slots(io, 1);
    tidegate::circuit_breaker breaker(
        tidegate::circuit_breaker_options().consecutive_failures(4).open_duration(30s));
    tidegate::retry retry(tidegate::retry_options().max_attempts(3).base(20ms).total_timeout(5s));

    //! [observe]
    auto const log = std::make_shared<log_observer>();
    slots.observe(log, "connections");
    breaker.observe(log, "users");
    retry.observe(log, "fetch");
    //! [observe]

    tidegate::policy const guarded{retry, slots, breaker};
    int left = 2; // failures, then it works
    auto fetch = [&]() -> asio::awaitable<void> {
        if (left-- > 0) throw boost::system::system_error(asio::error::connection_refused);
        co_return;
    };
    auto calls = [&]() -> asio::awaitable<void> {
        co_await guarded(fetch); // works at the third attempt
        left = 100;
        for (int i = 0; i < 2; ++i) { // six failures are too many
            try {
                co_await guarded(fetch);
            } catch (boost::system::system_error const& e) {
                std::cout << "call failed: " << e.code().message() << "\n";
            }
        }
    };
    asio::co_spawn(io, calls(), asio::detached);
    io.run();
}
