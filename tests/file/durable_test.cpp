// SPDX-License-Identifier: BSL-1.0
// What is durable is on the device before it takes its name, and its name before the call is over.
#include <tidegate/file.hpp>

#include "support/folder.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <sys/syscall.h>
#include <unistd.h>

namespace asio = boost::asio;
namespace fs = std::filesystem;

namespace {

std::string get(fs::path const& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

/// What was made durable, and what readers found in the file at that time.
struct synced {
    fs::path what;
    std::string contents; // of `what`, if it is a file
    std::string target;
};
fs::path target;
std::vector<synced> syncs;

} // namespace

// In front of libc's.
extern "C" int fsync(int descriptor) {
    auto const what = fs::read_symlink("/proc/self/fd/" + std::to_string(descriptor));
    if (!target.empty())
        syncs.push_back({what, fs::is_directory(what) ? "" : get(what), get(target)});
    return static_cast<int>(::syscall(SYS_fsync, descriptor));
}

TEST_CASE("a durable write waits for the device twice: for the contents, then for the name") {
    test::folder f;
    target = f / "file";
    std::ofstream(target) << "old";
    for (bool const durable : {true, false}) {
        syncs.clear();
        asio::io_context io{1};
        tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1));
        auto settings = tidegate::write_file_options().durable(durable).block(2);
        auto writing = tidegate::write_file(pool, target, durable ? "new" : "newer", settings);
        asio::co_spawn(io, std::move(writing), asio::detached);
        io.run();
        CHECK(get(target) == (durable ? "new" : "newer"));
        if (!durable) {
            CHECK(syncs.empty());
            continue;
        }
        REQUIRE(syncs.size() == 2);
        CHECK(syncs[0].what.parent_path() == f.path());
        CHECK(syncs[0].what.extension() == ".tmp");
        CHECK(syncs[0].contents == "new"); // all of it
        CHECK(syncs[0].target == "old");
        CHECK(syncs[1].what == f.path());
        CHECK(syncs[1].target == "new");
    }
    target.clear();
}
