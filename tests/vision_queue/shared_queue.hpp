// SPDX-License-Identifier: BSL-1.0
// A process' end of a queue in a real Redis, and a process that can be frozen.
#pragma once

#include "redis/support.hpp"
#include "redis_job_queue.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>

#include <future>
#include <optional>
#include <string>

namespace test {

namespace service = vision::service;

inline service::redis_job_queue_options quick_options() {
    service::redis_job_queue_options o;
    o.lease = 300ms;
    o.beat = 20ms;
    o.backoff = 10ms;
    o.longest_backoff = 50ms;
    o.uploads = "/uploads";
    return o;
}

inline service::job some_job(const std::string& content = "content") {
    service::job one;
    one.id = service::make_job_id();
    one.name = "a name";
    one.content = content;
    return one;
}

// Its loop runs only while the test waits for something of it: otherwise it is as good as stopped,
// and its connections stay open. Destroyed, it leaves its jobs behind, as a crash would.
class worker : public loop {
public:
    explicit worker(const redis_server& server,
                    service::redis_job_queue_options options = quick_options())
        : queue(io.get_executor(), server.config(), std::move(options)) {
        asio::co_spawn(io, queue.run(),
                       asio::bind_cancellation_slot(signal_.slot(),
                                                    [this](std::exception_ptr) { ended_ = true; }));
        run_until([this] { return queue.is_reachable(); });
    }
    ~worker() {
        signal_.emit(asio::cancellation_type::terminal);
        run_until([this] { return ended_; });
    }
    worker(const worker&) = delete;
    worker& operator=(const worker&) = delete;

    service::taken_job take() { return run(queue.take()); }
    service::job find(const std::string& id) { return run(queue.find(id)).value(); }
    std::string submit(service::job one) {
        std::string const id = one.id;
        auto const done = run(queue.submit(std::move(one), {}));
        if (done.what != service::submitted::outcome::accepted) throw std::runtime_error("refused");
        return id;
    }
    service::job_outcome succeed(const service::job_lease& held, const std::string& result = "r") {
        return run(queue.finish(held, {service::job_state::succeeded, {}, {}, result}));
    }
    service::job_outcome fail(const service::job_lease& held, bool transient) {
        return run(queue.finish(held, {service::job_state::failed,
                                       service::job_problem{"backend", "it is so"},
                                       {},
                                       {},
                                       transient}));
    }
    void run_for(std::chrono::steady_clock::duration time) {
        auto const end = std::chrono::steady_clock::now() + time;
        run_until([end] { return std::chrono::steady_clock::now() > end; });
    }

    service::redis_job_queue queue;

private:
    asio::cancellation_signal signal_;
    bool ended_ = false;
};

// Take that goes on while the loop does other things.
class taking {
public:
    explicit taking(worker& who) {
        asio::co_spawn(who.io, who.queue.take(),
                       [this](std::exception_ptr e, service::taken_job t) {
                           failed = e;
                           if (!e) taken = std::move(t);
                           done = true;
                       });
    }
    taking(const taking&) = delete;
    taking& operator=(const taking&) = delete;

    bool done = false;
    std::exception_ptr failed;
    std::optional<service::taken_job> taken;
};

} // namespace test
