// SPDX-License-Identifier: BSL-1.0
#include "service.hpp"

#include "api.hpp"
#include "error.hpp"
#include "http_exchange.hpp"
#include "own_folder.hpp"
#include "redis_address.hpp"
#include "shared_folder.hpp"

#include <tidegate/policy.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/sleep.hpp>
#include <tidegate/watched_executor.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>

#include <algorithm>

namespace vision::service {

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace json = boost::json;
using asio::ip::tcp;
using namespace asio::experimental::awaitable_operators;
using namespace std::chrono_literals;

namespace {

service_options completed(service_options options) {
    check(options);
    options.engine.decoders = options.max_running;
    options.results.folder = options.data / "results";
    options.results.shared = options.redis.has_value();
    options.shared.max_queued = options.queue.max_queued;
    options.shared.keep = options.results.time_to_live;
    options.shared.uploads = options.data / "uploads";
    options.queue.keep = options.results.time_to_live;
    options.queue.max_crashes = options.shared.max_crashes;
    return options;
}

data_folder::owner owner_of_data(const service_options& options) {
    return options.redis ? data_folder::owner::many : data_folder::owner::this_process;
}

std::unique_ptr<redis_job_queue> make_shared_jobs(const asio::any_io_executor& executor,
                                                  const service_options& options) {
    if (!options.redis) return nullptr;
    return std::make_unique<redis_job_queue>(executor, *options.redis, options.shared);
}

// With what an earlier process has left, in the folder and in memory.
std::unique_ptr<memory_job_queue> make_own_jobs(const asio::any_io_executor& executor,
                                                const service_options& options,
                                                const data_folder& data, event_log& log,
                                                tidegate::worker_pool& disk) {
    if (options.redis) return nullptr;
    auto history = std::make_unique<job_history>(executor, disk, data.jobs());
    auto all = history->load([&log](const fs::path& file, const std::string& why) {
        log.warn("job record damaged",
                 [&] { return json::object{{"file", file.filename().string()}, {"why", why}}; });
    });
    for (remembered_job& each : all) {
        each.what.source = data.upload(each.what.id);
        recognise_success(each, data);
    }
    auto complain = [&log](const std::string& why) {
        log.warn("job not written", [&] { return json::object{{"why", why}}; });
    };
    auto jobs = std::make_unique<memory_job_queue>(executor, options.queue, std::move(history),
                                                   std::move(complain));
    jobs->restore(std::move(all));
    return jobs;
}

analyses_options with_listener(analyses_options options, event_log& log) {
    options.on_resume = [&log](const job& one, std::int64_t frames) {
        log.info("job resumed", [&] { return json::object{{"job", one.id}, {"frames", frames}}; });
    };
    return options;
}

tcp::acceptor listen_on(const asio::any_io_executor& executor, const service_options& options) {
    if (!options.listens && options.port == 0) return tcp::acceptor(executor);
    tcp::endpoint const at(asio::ip::make_address(options.address), options.port);
    try {
        return {executor, at};
    } catch (const boost::system::system_error& e) {
        throw error("cannot listen on " + options.address + " port " +
                    std::to_string(options.port) + ": " + e.code().message());
    }
}

// IPv6 clients have whole networks of addresses.
std::string name_of(const tcp::endpoint& client) {
    auto const address = client.address();
    if (address.is_v4()) return address.to_string();
    auto bytes = address.to_v6().to_bytes();
    std::fill(bytes.begin() + 8, bytes.end(), std::uint8_t{0});
    return asio::ip::address_v6(bytes).to_string() + "/64";
}

// The client may still be sending what nobody reads. Closed at once, it would not see the answer.
asio::awaitable<void> part_with(boost::beast::tcp_stream& stream) {
    boost::system::error_code ec;
    ec = stream.socket().shutdown(tcp::socket::shutdown_send, ec);
    std::array<char, 4096> ignored{};
    stream.expires_after(1s);
    for (std::size_t total = 0; !ec && total < std::size_t{16} * 1024 * 1024;) {
        auto reading =
            stream.async_read_some(asio::buffer(ignored), asio::as_tuple(asio::deferred));
        auto const result = co_await std::move(reading);
        auto const& [why, n] = result;
        ec = why;
        total += n;
    }
}

asio::awaitable<void> serve(service& site, std::shared_ptr<boost::beast::tcp_stream> stream,
                            std::string client) {
    boost::beast::flat_buffer buffer(std::size_t{128} * 1024);
    for (bool more = true; more && !site.is_draining();) {
        http_exchange exchange(*stream, buffer, site.options.http);
        auto reading = exchange.read_header();
        bool const is_request = co_await std::move(reading);
        if (is_request) {
            auto const begun = std::chrono::steady_clock::now();
            auto answering = answer(site, exchange, client);
            co_await std::move(answering);
            site.request_time
                .with({std::string(exchange.request().method_string()),
                       std::to_string(exchange.answered())})
                .record(std::chrono::steady_clock::now() - begun);
        }
        more = is_request && exchange.stays_open();
    }
    auto parting = part_with(*stream);
    co_await std::move(parting);
}

asio::awaitable<void> join(tidegate::task_scope& scope) {
    auto joining = scope.async_join(asio::as_tuple(asio::deferred));
    static_cast<void>(co_await std::move(joining)); // who failed has said so
}

// A connection that breaks is nobody's failure but its own.
asio::awaitable<void> serve_client(service& site, std::shared_ptr<boost::beast::tcp_stream> stream,
                                   std::string client) {
    try {
        auto serving = serve(site, stream, client);
        co_await std::move(serving);
    } catch (const boost::system::system_error& e) {
        site.log.write(event_log::level::debug, "connection ended",
                       [&] { return json::object{{"why", e.code().message()}}; });
    } catch (const std::exception& e) {
        site.log.warn("request failed", [&] { return json::object{{"why", e.what()}}; });
    }
}

// Called on the detector's thread.
tidegate::stall_detector_options watching(event_log& log, const service_options& options) {
    auto const tell = [&log](const tidegate::stall& one) {
        log.warn("the event loop stalls", [&] { return json::object{{"what", to_string(one)}}; });
    };
    return tidegate::stall_detector_options().threshold(options.stall_threshold).on_stall(tell);
}

} // namespace

service::service(asio::io_context& io, service_options wanted)
    : options(completed(std::move(wanted))),
      data(options.data, owner_of_data(options)),
      log(spdlog::level::from_str(options.log_level), options.log_json),
      stalls(watching(log, options)),
      executor(tidegate::watched(io.get_executor(), "service")),
      engine(executor, options.engine),
      disk(executor, tidegate::worker_pool_options().name("disk").threads(2)),
      shared_jobs(make_shared_jobs(executor, options)),
      own_jobs(make_own_jobs(executor, options, data, log, disk)),
      jobs(shared_jobs ? static_cast<job_queue&>(*shared_jobs) : *own_jobs),
      results(engine, disk, with_listener(options.results, log)),
      under_way(executor),
      submissions(tidegate::keyed_rate_limiter_options<std::string>()
                      .rate(options.rate, 1s)
                      .burst(options.burst)
                      .when_full(tidegate::when_keys_full::share)),
      refused(metrics.counter("tidegate_vision_refused", "Requests refused", {"reason"})),
      ended(metrics.counter("tidegate_vision_jobs", "Jobs that have ended", {"state", "reason"})),
      request_time(metrics.histogram("tidegate_vision_request_seconds",
                                     "From a request's header to the end of its answer",
                                     {"method", "code"})),
      acceptor_(listen_on(executor, options)),
      places_(executor, options.max_connections),
      stopped_(executor, 0) {
    if (own_jobs) {
        restore_own_folder(data, *own_jobs, results, options.results.time_to_live);
        log.info("jobs restored", [this] { return json::object{{"queued", jobs.queued()}}; });
    }
    report_metrics();
}

void service::report_metrics() {
    auto own = [this](tidegate::metric_writer& to) {
        to.gauge("tidegate_vision_jobs_queued", "Jobs that wait",
                 static_cast<double>(jobs.queued()));
        to.gauge("tidegate_vision_jobs_running", "Jobs under way",
                 static_cast<double>(jobs.running()));
        to.gauge("tidegate_vision_queue_reachable", "Whether the queue answers",
                 jobs.is_reachable() ? 1 : 0);
        to.gauge("tidegate_vision_lost_decoders", "Threads that hang in a decoder",
                 static_cast<double>(engine.lost_decoders()));
        to.counter("tidegate_vision_frames_decoded", "Frames read, or passed over",
                   static_cast<double>(engine.frames_decoded.load()));
        to.counter("tidegate_vision_frames_inferred", "Frames that a model has looked at",
                   static_cast<double>(engine.frames_inferred));
        to.counter("tidegate_vision_frames_resumed", "Frames known from checkpoints",
                   static_cast<double>(engine.frames_resumed));
        to.counter("tidegate_vision_dropped_boxes", "Boxes of models that were no finite numbers",
                   static_cast<double>(engine.dropped_boxes));
        if (auto const memory = tidegate::read_memory_usage()) {
            to.gauge("tidegate_vision_resident_bytes", "Memory of the process",
                     static_cast<double>(memory->resident));
        }
    };
    registrations_.push_back(metrics.add_collector(own, {}));
    registrations_.push_back(register_metrics(metrics, "compute", engine.compute));
    registrations_.push_back(register_metrics(metrics, "decode", engine.decode));
    registrations_.push_back(register_metrics(metrics, "write", engine.write));
    registrations_.push_back(register_metrics(metrics, "disk", disk));
    registrations_.push_back(register_metrics(metrics, "results", results.cache()));
    registrations_.push_back(register_metrics(metrics, "jobs", under_way));
    registrations_.push_back(register_metrics(metrics, "connections", places_));
    registrations_.push_back(register_metrics(metrics, "backend", engine.backend));
    registrations_.push_back(register_metrics(metrics, "loop", stalls));
    registrations_.push_back(register_metrics(metrics, "models", engine.models.budget()));
}

void service::note_end(const job& one, const job_end& how, job_outcome outcome) {
    std::string const state = outcome == job_outcome::again  ? "again"
                              : outcome == job_outcome::lost ? "lost"
                                                             : std::string(to_string(how.state));
    ended.with({state, how.problem ? how.problem->reason : "none"}).increment();
    auto const fields = [&] {
        json::object all{{"job", one.id}, {"state", state}, {"attempt", one.attempt}};
        if (how.problem) {
            all["stage"] = how.problem->reason;
            all["why"] = how.problem->detail;
        }
        return all;
    };
    bool const is_well = !how.problem && outcome != job_outcome::lost;
    log.write(is_well ? event_log::level::info : event_log::level::warn, "job ended", fields);
    if (how.problem) tell_of(one, *how.problem);
}

void service::tell_of(const job& one, const job_problem& problem) noexcept {
    if (!options.on_failure) return;
    try {
        options.on_failure({one.id, problem.reason, problem.detail, one.attempt});
    } catch (const std::exception& e) {
        log.warn("on_failure failed", [&] { return json::object{{"why", e.what()}}; });
    } catch (...) {
        log.warn("on_failure failed", [] { return json::object{{"why", "unknown"}}; });
    }
}

// Running -----------------------------------------------------------------------------------------

asio::awaitable<void> service::load_model() {
    auto const note = [this](const tidegate::retry_event& e) {
        log.warn("model not loaded, trying again", [&] {
            return json::object{
                {"attempt", e.attempt},
                {"pause_ms", std::chrono::round<std::chrono::milliseconds>(e.pause).count()}};
        });
    };
    auto const settings = tidegate::retry_options()
                              .max_attempts(std::uint32_t{1} << 31)
                              .base(500ms)
                              .cap(30s)
                              .idempotent(true)
                              .on_retry(note);
    tidegate::policy const patiently{tidegate::retry(settings)};
    auto load = [this] { return engine.models.get(); };
    auto loading = patiently(load);
    auto const loaded = co_await std::move(loading);
    log.info("model loaded", [&] {
        return json::object{{"layout", loaded->model.layout().description()},
                            {"workers", loaded->tuned.chosen.workers},
                            {"batch", loaded->tuned.chosen.batch}};
    });
}

void service::start_workers(tidegate::task_scope& workers) {
    for (std::size_t i = 0; i < options.max_running; ++i) {
        auto note = [this](const job& one, const job_end& how, job_outcome outcome) {
            note_end(one, how, outcome);
        };
        workers.spawn([this, note] { return work(jobs, results, under_way, note); });
    }
}

// A process without a model leaves shared jobs to others.
asio::awaitable<void> service::load_and_work(tidegate::task_scope& workers) {
    if (own_jobs) start_workers(workers);
    auto loading = load_model();
    co_await std::move(loading);
    if (shared_jobs) start_workers(workers);
}

asio::awaitable<void> service::keep_folder_clean() {
    for (;;) {
        co_await tidegate::sleep_for(10min);
        std::string why;
        try {
            auto tidying = shared_jobs->tidy();
            co_await std::move(tidying);
            auto sweeping = sweep_shared_folder(data, *shared_jobs, disk, 1h);
            std::size_t const removed = co_await std::move(sweeping);
            log.info("folder swept", [&] { return json::object{{"removed", removed}}; });
        } catch (const std::runtime_error& e) {
            why = e.what();
        }
        if (!why.empty()) log.warn("folder not swept", [&] { return json::object{{"why", why}}; });
    }
}

asio::awaitable<void> service::accept(tidegate::task_scope& connections) {
    if (!acceptor_.is_open()) {
        auto waiting = stopped_.receive();
        static_cast<void>(co_await std::move(waiting));
        co_return;
    }
    for (;;) {
        auto place = std::make_shared<tidegate::semaphore::permit>(co_await places_.acquire());
        tcp::endpoint client;
        auto accepting = acceptor_.async_accept(client, asio::as_tuple(asio::deferred));
        auto result = co_await std::move(accepting);
        auto& [ec, socket] = result;
        if (ec == asio::error::operation_aborted) co_return;
        if (ec) { // no descriptors left, or a client that has left already
            log.warn("cannot accept", [&] { return json::object{{"why", ec.message()}}; });
            co_await tidegate::sleep_for(100ms);
            continue;
        }
        auto const stream = std::make_shared<boost::beast::tcp_stream>(std::move(socket));
        connections.spawn([this, stream, place, name = name_of(client)] {
            return serve_client(*this, stream, name);
        });
    }
}

void service::note_start() {
    log.info(options.listens ? "listening" : "working", [this] {
        json::object all{{"queue", options.redis ? describe(*options.redis) : "memory"}};
        if (acceptor_.is_open()) {
            all["address"] = endpoint().address().to_string();
            all["port"] = endpoint().port();
        }
        return all;
    });
}

asio::awaitable<void> service::run() {
    note_start();
    tidegate::task_scope background(executor, tidegate::on_task_failure::keep_going);
    background.spawn([this] { return jobs.run(); });
    if (shared_jobs) background.spawn([this] { return keep_folder_clean(); });
    tidegate::task_scope connections(executor, tidegate::on_task_failure::keep_going);
    tidegate::task_scope workers(executor);
    auto loading = load_and_work(workers);
    auto accepting = accept(connections);
    auto stopping = stopped_.receive();
    co_await ((std::move(loading) && std::move(accepting)) || std::move(stopping));
    boost::system::error_code ec;
    ec = acceptor_.close(ec);
    auto ending = drain(workers, connections, background);
    co_await std::move(ending);
}

void service::stop() {
    if (is_draining()) return;
    log.info("draining", [this] {
        return json::object{{"running", jobs.running()}, {"queued", jobs.queued()}};
    });
    draining.request_stop();
    engine.drain(); // what runs ends at its next checkpoint
    jobs.close();
    stopped_.close();
}

asio::awaitable<void> service::drain(tidegate::task_scope& workers,
                                     tidegate::task_scope& connections,
                                     tidegate::task_scope& background) {
    auto joining = join(workers);
    auto waiting = tidegate::sleep_for(options.drain);
    co_await (std::move(joining) || std::move(waiting));
    if (!workers.has_ended()) {
        log.warn("jobs do not end in time",
                 [this] { return json::object{{"running", describe(under_way)}}; });
    }
    engine.stop(); // what still runs ends within some milliseconds, in whole files
    auto ending = join(workers);
    co_await std::move(ending);
    auto ending_jobs = under_way.wait_all(); // those that a worker has left
    co_await std::move(ending_jobs);
    connections.cancel();
    auto leaving = join(connections);
    co_await std::move(leaving);
    background.cancel();
    auto leaving_queue = join(background);
    co_await std::move(leaving_queue);
    if (own_jobs) {
        auto saving = own_jobs->save_rest();
        co_await std::move(saving);
    }
    results.cache().close(); // its timer would keep the context running
    // What is left is to remove files, which takes milliseconds, and nobody waits for this thread.
    disk.drain();
    disk.join();
    log.info("ended", [] { return json::object(); });
}

} // namespace vision::service
