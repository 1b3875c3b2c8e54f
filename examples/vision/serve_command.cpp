// SPDX-License-Identifier: BSL-1.0
#include "serve_command.hpp"

#include "execution_provider_options.hpp"
#include "redis_address.hpp"
#include "service.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace vision {

namespace asio = boost::asio;

namespace {

constexpr int interrupted = 130; // what shells expect after a Ctrl-C

// The first signal drains, the second one ends it now: nothing is half-written then either, since
// files get their names when they are whole.
void wait_for_signal(asio::signal_set& signals, service::service& site) {
    signals.async_wait([&](tidegate::error_code ec, int) {
        if (ec) return;
        if (site.is_draining()) std::_Exit(interrupted);
        site.stop();
        wait_for_signal(signals, site);
    });
}

template <class Target>
void add_number(CLI::App& app, const char* name, Target& target, const char* description) {
    app.add_option(name, target, description)->capture_default_str()->check(CLI::NonNegativeNumber);
}

void add_seconds(CLI::App& app, const char* name, std::chrono::seconds& target,
                 const std::string& description) {
    app.add_option_function<std::int64_t>(
           name, [&target](std::int64_t s) { target = std::chrono::seconds(s); },
           fmt::format("{} (default {})", description, target.count()))
        ->type_name("SECONDS");
}

// NAME=FILE, or FILE alone, whose name is then that of the model.
named_model parse_model(const std::string& text) {
    auto const equals = text.find('=');
    if (equals == std::string::npos || text.find('/') < equals) {
        return {std::filesystem::path(text).stem().string(), text};
    }
    return {text.substr(0, equals), text.substr(equals + 1)};
}

void set_models(engine_options& options, const std::vector<std::string>& all) {
    for (const std::string& text : all) options.more_models.push_back(parse_model(text));
    options.model_name = options.more_models.front().name;
    options.model.model = options.more_models.front().file;
    options.more_models.erase(options.more_models.begin());
}

// What a process needs that looks at videos.
void add_working(CLI::App& app, service::service_options& wanted) {
    auto& model = wanted.engine.model;
    app.add_option_function<std::vector<std::string>>(
           "--model", [&wanted](const auto& all) { set_models(wanted.engine, all); },
           "YOLO model, an ONNX file; several times for several models, the first one is current")
        ->type_name("[NAME=]FILE")
        ->required();
    add_execution_providers(app, model);
    add_number(app, "--model-memory", wanted.engine.model_memory, "Bytes for all models, about");
    app.add_option("--confidence", model.confidence, "Report boxes above this score, 0 to 1")
        ->capture_default_str();
    app.add_option("--iou", model.iou, "Suppress boxes of a class that overlap more, 0 to 1")
        ->capture_default_str();
    add_number(app, "--workers", wanted.engine.workers,
               "Inferences at once, 1 to 64; 0: calibrated");
    add_number(app, "--batch", wanted.engine.batch, "Frames in a batch, 1 to 16; 0: calibrated");
    add_number(app, "--max-running", wanted.max_running, "Videos open at a time, 1 to 64");
    app.add_option_function<std::int64_t>(
           "--decoder-timeout",
           [&wanted](std::int64_t s) { wanted.engine.limits.decoding = std::chrono::seconds(s); },
           "Seconds of one frame after which a decoder is taken to hang, 1 to 3600 (default 30)")
        ->type_name("SECONDS");
    add_seconds(app, "--keep-results", wanted.results.time_to_live, "How long results are kept");
    add_seconds(app, "--drain", wanted.drain,
                "How long running jobs may take to their next checkpoint when this is to end");
    app.add_option_function<std::int64_t>(
           "--stall-threshold",
           [&wanted](std::int64_t ms) { wanted.stall_threshold = std::chrono::milliseconds(ms); },
           "Milliseconds after which the log tells what holds the event loop up (default 50)")
        ->type_name("MS");
    app.add_option("--log-level", wanted.log_level,
                   "trace, debug, info, warning, error, critical or off")
        ->capture_default_str();
    app.add_flag("--log-json", wanted.log_json, "Log a JSON object a line");
}

void add_redis(CLI::App& app, service::service_options& wanted) {
    auto& shared = wanted.shared;
    app.add_option_function<std::string>(
           "--redis",
           [&wanted](const std::string& text) {
               wanted.redis = service::parse_redis_address(text);
           },
           "Share jobs with other processes through this Redis: "
           "redis://[user:password@]host[:port][/database]. Also taken from TIDEGATE_REDIS, which "
           "other users of the machine do not see")
        ->envname("TIDEGATE_REDIS")
        ->type_name("URL");
    app.add_option_function<std::int64_t>(
           "--lease", [&shared](std::int64_t s) { shared.lease = std::chrono::seconds(s); },
           "Seconds after which a worker that is not heard of loses its job (default 15)")
        ->type_name("SECONDS");
    add_number(app, "--max-crashes", shared.max_crashes,
               "Processes that may die of a job before it is given up, 0 to 1000");
    add_number(app, "--max-errors", shared.max_errors,
               "Failures of a job that may pass before it is given up, 0 to 1000");
}

} // namespace

CLI::App& add_serve(CLI::App& app, service::service_options& wanted) {
    CLI::App& serve = *app.add_subcommand(
        "serve", "Take videos over HTTP: submit one, get an id at once, watch its progress");
    serve
        .add_option("--data", wanted.data,
                    "Folder for uploads and results; without --redis also for jobs, which the next "
                    "run on it goes on with")
        ->required();
    serve.add_option("--address", wanted.address, "Address to listen on")->capture_default_str();
    add_number(serve, "--port", wanted.port, "Port to listen on; 0: any free one");
    add_number(serve, "--max-queued", wanted.queue.max_queued, "Jobs that may wait, 1 to 100000");
    add_number(serve, "--max-connections", wanted.max_connections, "Connections, 1 to 100000");
    add_number(serve, "--rate", wanted.rate, "Jobs a second from one client, 1 to 1000000");
    add_number(serve, "--burst", wanted.burst, "Jobs at once from one client, 1 to 1000000");
    add_number(serve, "--max-upload", wanted.http.body_bytes, "Bytes of a video");
    add_working(serve, wanted);
    add_redis(serve, wanted);
    return serve;
}

CLI::App& add_work(CLI::App& app, service::service_options& wanted) {
    wanted.listens = false;
    CLI::App& work = *app.add_subcommand(
        "work", "Do the jobs that others take in with serve, through the same Redis and folder");
    work.add_option("--data", wanted.data, "Folder for uploads and results, shared with the others")
        ->required();
    wanted.port = 0;
    add_number(work, "--metrics-port", wanted.port,
               "Port for /metrics, /livez and /readyz; 0: none of them");
    work.add_option("--address", wanted.address, "Address of that port")->capture_default_str();
    add_working(work, wanted);
    add_redis(work, wanted);
    return work;
}

int serve(const service::service_options& wanted) {
    asio::io_context io(1);
    service::service site(io, wanted);
    if (wanted.listens) {
        fmt::print("tidegate-vision on http://{}:{}\n", site.endpoint().address().to_string(),
                   site.endpoint().port());
    } else {
        fmt::print("tidegate-vision works for {}\n", service::describe(*wanted.redis));
    }
    std::fflush(stdout);
    asio::signal_set signals(io, SIGINT, SIGTERM);
    wait_for_signal(signals, site);
    std::exception_ptr failure;
    asio::co_spawn(site.executor, site.run(), [&](std::exception_ptr why) {
        failure = why;
        signals.cancel();
    });
    io.run();
    if (failure) std::rethrow_exception(failure);
    // Their threads cannot be joined; all that has to be written has been.
    if (site.engine.lost_decoders() > 0) std::_Exit(0);
    return 0;
}

} // namespace vision
