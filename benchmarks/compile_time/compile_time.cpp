// SPDX-License-Identifier: BSL-1.0
// What including a header of ours adds to the compilation of a file that includes the parts of Asio
// which every coroutine with a timer takes: CPU seconds of the compiler, header by header.
#include "bench.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <spawn.h>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

using namespace bench;
namespace fs = std::filesystem;

namespace {

double seconds(timeval const& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
}

// Runs a program until it ends well; the CPU seconds that it and its children took.
double cpu_seconds_of(std::vector<std::string> arguments) {
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    pid_t pid = -1;
    int status = 0;
    rusage used{};
    if (posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0 ||
        wait4(pid, &status, 0, &used) != pid || status != 0) {
        throw std::runtime_error(arguments[0] + " failed on " + arguments.back());
    }
    return seconds(used.ru_utime) + seconds(used.ru_stime);
}

// Compiles a file that includes Asio's two headers and, unless it is empty, ours.
void compile_including(std::string const& header, run& r) {
    r.skip_warm_up();
    fs::path const source =
        fs::temp_directory_path() / ("tidegate-compile-time-" + std::to_string(getpid()) + ".cpp");
    std::ofstream text(source);
    text << "#include <boost/asio/awaitable.hpp>\n#include <boost/asio/steady_timer.hpp>\n";
    if (!header.empty()) text << "#include <tidegate/" << header << ">\n";
    text.close();
    while (r.more()) {
        r.report("seconds", cpu_seconds_of({TIDEGATE_COMPILER, "-std=c++20", "-c", "-o",
                                            "/dev/null", "-I", TIDEGATE_SOURCE_ROOT "/include",
                                            "-isystem", TIDEGATE_BOOST_INCLUDE, source.string()}));
    }
    fs::remove(source);
}

// Those that anybody includes, but for the ones that take what others than Boost bring, or that are
// not meant to be included beside Asio; and for the one that includes all.
std::vector<std::string> headers() {
    std::set<std::string> const left_out = {"asio_tracking", "fmt", "zstd_codec", "tidegate"};
    std::vector<std::string> found;
    for (auto const& entry : fs::directory_iterator(TIDEGATE_SOURCE_ROOT "/include/tidegate")) {
        fs::path const& path = entry.path();
        if (path.extension() == ".hpp" && !left_out.contains(path.stem().string()))
            found.push_back(path.stem().string());
    }
    std::sort(found.begin(), found.end());
    return found;
}

group const including{[] {
    auto const thrice = [](std::string const& what, std::string const& header) {
        row("include/" + what, cpu_time, [header](run& r) { compile_including(header, r); })
            ->Iterations(1)
            ->Repetitions(3);
    };
    thrice("asio_alone", "");
    for (std::string const& name : headers()) {
        thrice(name, name + ".hpp");
        claim("compile_seconds_" + name,
              difference_of(least_of("include/" + name, "seconds"),
                            least_of("include/asio_alone", "seconds")),
              at_most(0.5));
    }
}};

} // namespace
