// SPDX-License-Identifier: BSL-1.0
// Runs a scenario: options, Google Benchmark, the report, the claims.
#include "bench.hpp"

#include "report.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <regex>
#include <stdexcept>
#include <stop_token>
#include <string_view>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace bench {
namespace {

struct declared_row {
    std::string name;
    timing judged_by;
};

std::vector<declared_row>& declared_rows() {
    static std::vector<declared_row> all;
    return all;
}

// "[ 41%] wake_1000/asio_channel" on the terminal's last line while benchmarks run. Google
// Benchmark looks for the number of iterations first and then repeats with that number: each
// run with the number of the run before it is one repetition done.
class progress_line {
public:
    void begin(std::size_t rows, std::size_t repetitions) {
        shown_ = isatty(STDERR_FILENO) != 0;
        total_ = std::max<std::size_t>(1, rows * repetitions);
    }

    void running(std::string const& name, benchmark::IterationCount iterations) {
        if (!shown_) return;
        auto& row = seen_[name];
        row.repetitions = row.iterations == iterations ? row.repetitions + 1 : 0;
        row.iterations = iterations;
        std::size_t done = 0;
        for (auto const& [_, each] : seen_) done += each.repetitions;
        std::fprintf(stderr, "\r\033[K[%3zu%%] %s", std::min<std::size_t>(99, 100 * done / total_),
                     name.c_str());
        std::fflush(stderr);
    }

    void end() {
        if (shown_) std::fputs("\r\033[K", stderr);
        shown_ = false;
    }

private:
    struct row_seen {
        benchmark::IterationCount iterations = 0;
        std::size_t repetitions = 0;
    };
    bool shown_ = false;
    std::size_t total_ = 1;
    std::map<std::string, row_seen> seen_;
};

progress_line& progress() {
    static progress_line line;
    return line;
}

// While a process has one thread only, glibc leaves the atomic instructions out of mutexes and
// libstdc++ out of shared_ptr. A server has more threads: with this one asleep beside them, all
// benchmarks pay what a server pays.
class idle_thread {
public:
    idle_thread()
        : thread_([](std::stop_token stop) {
              std::mutex mutex;
              std::condition_variable_any never;
              std::unique_lock lock(mutex);
              never.wait(lock, stop, [] { return false; });
          }) {}

private:
    std::jthread thread_;
};

struct options {
    std::filesystem::path out = "build/bench";
    std::string filter = ".";
    bool quick = false;
    bool help = false;
    std::vector<std::string> passed_on; // --benchmark_...
};

void print_help(std::string const& scenario) {
    std::printf(
        "Usage: bench_%s [options]\n\n"
        "Runs the benchmarks of the scenario '%s', ours and the peers interleaved, and\n"
        "judges the claims about them. The exit code is 0 also when a claim falls short.\n\n"
        "  --out DIR       where %s.json goes (default: build/bench)\n"
        "  --filter REGEX  only the benchmarks whose name matches\n"
        "  --quick         5 very short repetitions instead of 21: for a first look only\n"
        "  --help          this text\n"
        "  --benchmark_*   is handed to Google Benchmark\n\n"
        "Benchmarks:\n",
        scenario.c_str(), scenario.c_str(), scenario.c_str());
    for (auto const& row : declared_rows()) std::printf("  %s\n", row.name.c_str());
}

options parse(int argc, char** argv) {
    options chosen;
    for (int i = 1; i < argc; ++i) {
        std::string_view const argument = argv[i];
        // Takes "--name value" and "--name=value".
        auto const value_of = [&](std::string_view name) -> std::optional<std::string> {
            if (!argument.starts_with(name)) return std::nullopt;
            auto const rest = argument.substr(name.size());
            if (rest.starts_with('=')) return std::string(rest.substr(1));
            if (!rest.empty()) return std::nullopt;
            if (i + 1 >= argc) throw std::invalid_argument(std::string(name) + " needs a value");
            return argv[++i];
        };
        if (argument == "--help" || argument == "-h") chosen.help = true;
        else if (argument == "--quick") chosen.quick = true;
        else if (argument.starts_with("--benchmark_")) chosen.passed_on.emplace_back(argument);
        else if (auto out = value_of("--out")) chosen.out = *out;
        else if (auto filter = value_of("--filter")) chosen.filter = *filter;
        else
            throw std::invalid_argument("unknown option '" + std::string(argument) +
                                        "'; --help lists them");
    }
    return chosen;
}

void run_benchmarks(options const& chosen, collector& collected) {
    // Many short repetitions rather than few long ones: a neighbour's load comes in bursts, and the
    // minimum needs one repetition between two of them.
    std::size_t const repetitions = chosen.quick ? 5 : 21;
    std::vector<std::string> arguments{
        "bench",
        "--benchmark_enable_random_interleaving=true",
        "--benchmark_repetitions=" + std::to_string(repetitions),
        std::string("--benchmark_min_time=") + (chosen.quick ? "0.01" : "0.04"),
    };
    arguments.insert(arguments.end(), chosen.passed_on.begin(), chosen.passed_on.end());
    std::vector<char*> pointers;
    for (auto& argument : arguments) pointers.push_back(argument.data());
    int count = static_cast<int>(pointers.size());
    benchmark::Initialize(&count, pointers.data());
    if (benchmark::ReportUnrecognizedArguments(count, pointers.data()))
        throw std::invalid_argument("Google Benchmark does not know these options");

    std::regex const filter(chosen.filter);
    auto const rows = std::count_if(declared_rows().begin(), declared_rows().end(),
                                    [&](auto& row) { return std::regex_search(row.name, filter); });
    progress().begin(static_cast<std::size_t>(rows), repetitions);
    if (benchmark::RunSpecifiedBenchmarks(&collected, chosen.filter) == 0)
        throw std::invalid_argument("no benchmark matches '" + chosen.filter + "'");
    progress().end();
}

} // namespace

bool run::more_at_the_edges(std::int64_t operations) {
    using std::chrono::steady_clock;
    switch (phase_) {
    case phase::fresh:
        phase_ = phase::warming_up;
        warm_up_ends_ = steady_clock::now() + std::chrono::milliseconds(5);
        [[fallthrough]];
    case phase::warming_up:
        if (warm_up_operations_ > 0 && steady_clock::now() < warm_up_ends_) {
            warm_up_operations_ -= operations;
            return true;
        }
        phase_ = phase::measuring;
        allocations_before_ = allocations_so_far();
        if (state_.KeepRunningBatch(operations)) return true;
        [[fallthrough]];
    case phase::measuring: {
        phase_ = phase::over;
        allocations_ += allocations_so_far() - allocations_before_;
        auto const total = static_cast<double>(std::max<std::int64_t>(1, state_.iterations()));
        state_.counters["allocations"] = static_cast<double>(allocations_) / total;
        return false;
    }
    case phase::over: break;
    }
    return false;
}

void run::pause() {
    if (phase_ != phase::measuring) return;
    state_.PauseTiming();
    allocations_ += allocations_so_far() - allocations_before_;
}

void run::resume() {
    if (phase_ != phase::measuring) return;
    allocations_before_ = allocations_so_far();
    state_.ResumeTiming();
}

benchmark::internal::Benchmark* row(std::string const& name, timing judged_by,
                                    std::function<void(run&)> body) {
    auto* settings = benchmark::RegisterBenchmark(
        name.c_str(), [name, body = std::move(body)](benchmark::State& state) {
            progress().running(name, state.max_iterations);
            try {
                run one(state);
                body(one);
            } catch (std::exception const& error) {
                state.SkipWithError(error.what());
            }
        });
    if (judged_by == timing::wall) settings->UseRealTime();
    declared_rows().push_back({name, judged_by});
    return settings;
}

int run_scenario(std::string const& scenario, int argc, char** argv) try {
    auto const chosen = parse(argc, argv);
    if (chosen.help) {
        print_help(scenario);
        return 0;
    }

    results empty;
    for (auto const& row : declared_rows()) empty.add(row.name, row.judged_by);
    check_claims(empty);
    std::filesystem::create_directories(chosen.out);

    idle_thread const beside;
    collector collected(std::move(empty));
    run_benchmarks(chosen, collected);

    auto const& measured = collected.measured();
    print_table(scenario, measured);
    auto const outcome = judge_claims(scenario, measured);
    write_json(chosen.out / (scenario + ".json"), scenario, chosen.quick, measured,
               outcome.verdicts);

    std::fflush(stdout);
    for (auto const& name : outcome.unmeasured)
        std::fprintf(stderr, "not measured: claim %s\n", name.c_str());
    for (auto const& verdict : outcome.verdicts) std::printf("%s\n", verdict.line().c_str());
    std::fflush(stdout);
    for (auto const& error : collected.errors()) std::fprintf(stderr, "error: %s\n", error.c_str());
    return collected.errors().empty() ? 0 : 1;
} catch (std::exception const& error) {
    progress().end();
    std::fprintf(stderr, "bench_%s: %s\n", scenario.c_str(), error.what());
    return 2;
}

} // namespace bench
