// SPDX-License-Identifier: BSL-1.0
// Real files: all of them, and never half of one.
#include <tidegate/file.hpp>

#include "support/folder.hpp"
#include "support/open_descriptors.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <chrono>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace asio = boost::asio;
namespace fs = std::filesystem;
using Catch::Matchers::ContainsSubstring;
using test::folder;
using test::open_descriptors;
using tidegate::read_chunks;
using tidegate::read_file;
using tidegate::read_file_options;
using tidegate::worker_pool;
using tidegate::write_file;
using tidegate::write_file_options;

namespace {

void put(fs::path const& path, std::string const& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}
std::string get(fs::path const& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

std::string pattern(std::size_t n) {
    std::string bytes(n, ' ');
    for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<char>('a' + i * 7 % 23);
    return bytes;
}

/// An event loop with a pool of two threads.
struct loop {
    asio::io_context io{1};
    worker_pool pool{io, tidegate::worker_pool_options().threads(2)};
    asio::cancellation_signal signal;

    /// What `work` resulted in, or threw.
    template <class T>
    T run(asio::awaitable<T> work) {
        std::optional<T> result;
        std::exception_ptr failure;
        asio::co_spawn(io, std::move(work),
                       asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e, T r) {
                           failure = e;
                           result = std::move(r);
                       }));
        io.restart();
        io.run();
        if (failure) std::rethrow_exception(failure);
        return std::move(*result);
    }
    void run(asio::awaitable<void> work) {
        std::exception_ptr failure;
        asio::co_spawn(io, std::move(work),
                       asio::bind_cancellation_slot(signal.slot(),
                                                    [&](std::exception_ptr e) { failure = e; }));
        io.restart();
        io.run();
        if (failure) std::rethrow_exception(failure);
    }
};

tidegate::error_code code_of(auto call) {
    try {
        call();
        return {};
    } catch (boost::system::system_error const& e) {
        return e.code();
    }
}

} // namespace

TEST_CASE("a file is read whole, whatever its size and that of a block") {
    folder f;
    loop l;
    for (std::size_t const size : {0u, 1u, 4095u, 4096u, 4097u, 100'000u}) {
        put(f / "file", pattern(size));
        for (std::size_t const block : {1000u, 4096u, 1u << 20}) {
            CHECK(l.run(read_file(l.pool, f / "file", read_file_options().block(block))) ==
                  pattern(size));
        }
    }
}

TEST_CASE("files whose size the system does not tell are read to their end") {
    loop l;
    std::string const status = l.run(read_file(l.pool, "/proc/self/status"));
    CHECK(fs::file_size("/proc/self/status") == 0);
    CHECK(status.find("VmRSS") != std::string::npos);
}

#if !defined(BOOST_ASIO_HAS_FILE) // which reads with other means
TEST_CASE("a file that grows or shrinks while it is read is read to the end it has then") {
    folder f;
    for (std::size_t const later : {1u, 999u, 1000u, 1001u, 2500u, 2501u, 7777u}) {
        put(f / "file", pattern(2500));
        tidegate::detail::whole_file file(f / "file", read_file_options().block(1000));
        REQUIRE_FALSE(file.read_on());
        fs::resize_file(f / "file", later);
        while (!file.read_on()) {
        }
        std::string const read = file.take();
        CHECK(read.size() == std::max<std::size_t>(1000, later));
        CHECK(read.substr(0, 1000) == pattern(2500).substr(0, 1000));
    }
}
#endif

TEST_CASE("what cannot be read is named, with the reason") {
    folder f;
    loop l;
    CHECK_THROWS_WITH(l.run(read_file(l.pool, f / "none")), ContainsSubstring("open") &&
                                                                ContainsSubstring("none") &&
                                                                ContainsSubstring("No such file"));
    CHECK(code_of([&] { l.run(read_file(l.pool, f / "none")); }) ==
          boost::system::errc::no_such_file_or_directory);
    CHECK(code_of([&] { l.run(read_file(l.pool, fs::temp_directory_path())); }) ==
          boost::system::errc::is_a_directory);
    put(f / "file", pattern(101));
    CHECK(code_of([&] {
              l.run(read_file(l.pool, f / "file", read_file_options().max_size(100).block(64)));
          }) == boost::system::errc::file_too_large);
    CHECK(l.run(read_file(l.pool, f / "file", read_file_options().max_size(101))).size() == 101);
    CHECK(code_of([&] {
              l.run(read_file(l.pool, "/dev/zero", read_file_options().max_size(1 << 20)));
          }) == boost::system::errc::file_too_large);
    CHECK_THROWS_WITH(read_file_options().block(0), ContainsSubstring("read_file block is 0"));
}

TEST_CASE("what fails while it is read is named, with the reason") {
    if (!fs::exists("/proc/self/mem")) SKIP("nothing that opens and cannot be read");
    loop l;
    try {
        l.run(read_file(l.pool, "/proc/self/mem")); // there is nothing at its beginning
        FAIL("read what is not there");
    } catch (tidegate::file_error const& e) {
        CHECK(e.path() == "/proc/self/mem");
        CHECK(e.code() == boost::system::errc::io_error);
        CHECK_THAT(e.what(), ContainsSubstring("read"));
    }
}

TEST_CASE("chunks come one by one, in a coro and elsewhere, and an abandoned file is closed") {
    folder f;
    loop l;
    put(f / "file", pattern(2500));
    std::vector<std::size_t> sizes;
    std::string all;
    auto read = [&]() -> asio::awaitable<void> {
        auto chunks = read_chunks(l.pool, f / "file", read_file_options().block(1000));
        while (auto chunk = co_await chunks.async_resume(asio::deferred)) {
            sizes.push_back(chunk->size());
            all += *chunk;
        }
    };
    l.run(read());
    CHECK(sizes == std::vector<std::size_t>{1000, 1000, 500});
    CHECK(all == pattern(2500));
    std::size_t const before = open_descriptors();
    auto read_one = [&]() -> asio::awaitable<void> {
        auto chunks = read_chunks(l.pool, f / "file", read_file_options().block(1000));
        auto const first = co_await chunks.async_resume(asio::deferred);
        CHECK(first->size() == 1000);
        CHECK(open_descriptors() > before);
    };
    l.run(read_one());
    CHECK(open_descriptors() == before);
}

TEST_CASE("a file is written whole, durable or not, over an old one or none") {
    folder f;
    loop l;
    for (bool const durable : {true, false}) {
        for (std::size_t const size : {0u, 1u, 5000u, 3'000'000u}) {
            l.run(write_file(l.pool, f / "file", pattern(size),
                             write_file_options().durable(durable).block(4096 * 100)));
            CHECK(get(f / "file") == pattern(size));
        }
    }
    CHECK(f.entries() == 1);
}

TEST_CASE("permissions are kept, links are followed") {
    folder f;
    loop l;
    put(f / "file", "old");
    fs::permissions(f / "file", fs::perms::owner_read | fs::perms::owner_write);
    fs::create_symlink("file", f / "link");
    l.run(write_file(l.pool, f / "link", "new"));
    CHECK(get(f / "file") == "new");
    CHECK(fs::is_symlink(f / "link"));
    CHECK(fs::status(f / "file").permissions() == (fs::perms::owner_read | fs::perms::owner_write));
}

TEST_CASE("a path that cannot be followed is a file_error, as any other failure") {
    folder f;
    loop l;
    fs::create_symlink("self", f / "self");
    auto const too_many = boost::system::errc::too_many_symbolic_link_levels;
    for (auto const& path : {f / "self", f / "self" / "file"}) {
        INFO(path);
        auto const read = [&] { l.run(read_file(l.pool, path)); };
        auto const write = [&] { l.run(write_file(l.pool, path, "x")); };
        CHECK_THROWS_AS(read(), tidegate::file_error);
        CHECK_THROWS_AS(write(), tidegate::file_error);
        CHECK(code_of(read) == too_many);
        CHECK(code_of(write) == too_many);
    }
    CHECK(f.entries() == 1);
}

TEST_CASE("a durable write needs no right to read the folder") {
    folder f;
    put(f / "file", "old");
    asio::io_context io{1};
    worker_pool pool(io, tidegate::worker_pool_options().threads(1));
    // For root, to whom nothing is forbidden: the pool's thread becomes somebody else.
    bool const is_root = ::geteuid() == 0;
    fs::permissions(f.path(), is_root ? fs::perms(0733) : fs::perms(0300));
    bool forbidden = false;
    auto write = [&]() -> asio::awaitable<void> {
        auto const look = [&] {
            if (is_root) ::setfsuid(65534);
            int const opened = ::open(f.path().c_str(), O_RDONLY | O_DIRECTORY);
            forbidden = opened < 0 && errno == EACCES;
            if (opened >= 0) ::close(opened);
        };
        auto looking = pool.async_submit(look, asio::deferred);
        co_await std::move(looking);
        co_await write_file(pool, f / "file", "new");
    };
    std::exception_ptr failure;
    asio::co_spawn(io, write(), [&](std::exception_ptr e) { failure = e; });
    io.run();
    fs::permissions(f.path(), fs::perms::owner_all);
    CHECK(forbidden);
    CHECK_FALSE(failure);
    CHECK(get(f / "file") == "new");
    CHECK(f.entries() == 1);
}

TEST_CASE("what is no regular file is not replaced") {
    folder f;
    loop l;
    fs::create_directory(f / "folder");
    CHECK(code_of([&] { l.run(write_file(l.pool, f / "folder", "x")); }) ==
          boost::system::errc::is_a_directory);
    CHECK(code_of([&] { l.run(write_file(l.pool, "/dev/full", "x")); }) ==
          boost::system::errc::operation_not_supported);
    CHECK(code_of([&] { l.run(write_file(l.pool, f / "none" / "file", "x")); }) ==
          boost::system::errc::no_such_file_or_directory);
    CHECK(fs::is_character_file("/dev/full"));
    CHECK(f.entries() == 1);
}

TEST_CASE("a device without room leaves the old file, and nothing else") {
    folder f;
    loop l;
    put(f / "file", "old");
    // The system refuses larger files, as it would refuse them on a full disk.
    struct limit_file_size {
        limit_file_size() {
            ::signal(SIGXFSZ, SIG_IGN);
            ::getrlimit(RLIMIT_FSIZE, &old);
            rlimit small = old;
            small.rlim_cur = 100'000;
            REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
        }
        ~limit_file_size() { ::setrlimit(RLIMIT_FSIZE, &old); }
        rlimit old{};
    };
    {
        limit_file_size const limit;
        CHECK(code_of([&] {
                  l.run(write_file(l.pool, f / "file", pattern(200'000),
                                   write_file_options().block(50'000)));
              }) == boost::system::errc::file_too_large);
    }
    CHECK(get(f / "file") == "old");
    CHECK(f.entries() == 1);
}

TEST_CASE("cancelled at any block: all of the old file or all of the new, and nothing else") {
    folder f;
    std::size_t const before = open_descriptors();
    int whole = 0, kept = 0;
    for (int cancel_after = 0; cancel_after < 16; ++cancel_after) {
        loop l;
        put(f / "file", "old");
        std::optional<tidegate::error_code> ended;
        asio::co_spawn(l.io,
                       write_file(l.pool, f / "file", pattern(10'000),
                                  write_file_options().durable(false).block(1000)),
                       asio::bind_cancellation_slot(l.signal.slot(), [&](std::exception_ptr e) {
                           ended = code_of([&] {
                               if (e) std::rethrow_exception(e);
                           });
                       }));
        for (int n = 0; !ended; ++n) {
            if (n == cancel_after) l.signal.emit(asio::cancellation_type::terminal);
            if (l.io.run_one() == 0) l.io.restart();
        }
        if (*ended) {
            CHECK(*ended == asio::error::operation_aborted);
            CHECK(get(f / "file") == "old");
            ++kept;
        } else {
            CHECK(get(f / "file") == pattern(10'000));
            ++whole;
        }
        CHECK(f.entries() == 1);
    }
    CHECK(kept > 0);
    CHECK(whole > 0);
    CHECK(open_descriptors() == before);
}

TEST_CASE("cancelling a read ends it between two blocks") {
    loop l;
    std::optional<tidegate::error_code> ended;
    asio::co_spawn(
        l.io,
        read_file(l.pool, "/dev/zero",
                  read_file_options().max_size(std::uint64_t{1} << 40).block(4096)),
        asio::bind_cancellation_slot(l.signal.slot(), [&](std::exception_ptr e, std::string) {
            ended = code_of([&] {
                if (e) std::rethrow_exception(e);
            });
        }));
    for (int n = 0; n < 20; ++n) l.io.run_one();
    l.signal.emit(asio::cancellation_type::terminal);
    l.io.run();
    CHECK(ended == asio::error::operation_aborted);
}

TEST_CASE("readers see one whole version while many write", "[stress]") {
    folder f;
    loop l;
    put(f / "file", std::string(20'000, 'a'));
    int torn = 0, left = 6;
    auto write = [&](char c) -> asio::awaitable<void> {
        for (int i = 0; i < 20; ++i) {
            co_await write_file(l.pool, f / "file", std::string(20'000, c),
                                write_file_options().durable(false).block(3000));
        }
        --left;
    };
    auto read = [&]() -> asio::awaitable<void> {
        while (left > 0) {
            std::string const seen =
                co_await read_file(l.pool, f / "file", read_file_options().block(3000));
            bool const whole = seen.size() == 20'000 &&
                               std::ranges::all_of(seen, [&](char c) { return c == seen[0]; });
            torn += !whole;
        }
    };
    for (char c = 'b'; c < 'h'; ++c)
        asio::co_spawn(l.io, write(c), [](std::exception_ptr e) {
            if (e) std::rethrow_exception(e);
        });
    l.run(read());
    CHECK(torn == 0);
    CHECK(f.entries() == 1);
}

TEST_CASE("a process that is killed while it writes leaves a whole file", "[stress]") {
    folder f;
    test::random random(test::seeds().back());
    std::string const old_bytes(300'000, 'o'), new_bytes(300'000, 'n');
    int replaced = 0;
    for (int round = 0; round < 30; ++round) {
        put(f / "file", old_bytes);
        ::pid_t const child = ::fork();
        if (child == 0) {
            // Only what is safe after a fork of a program with threads: its own files.
            tidegate::detail::replacement_file file;
            file.create(f / "file");
            std::span<char const> left(new_bytes);
            while (!left.empty()) {
                auto const block = left.first(std::min<std::size_t>(left.size(), 1000));
                file.file().write_all(block);
                left = left.subspan(block.size());
            }
            file.replace(false);
            ::_exit(0);
        }
        auto const end = std::chrono::steady_clock::now() +
                         std::chrono::microseconds(static_cast<int>(test::below(random, 1500)));
        while (std::chrono::steady_clock::now() < end) {
        }
        ::kill(child, SIGKILL);
        int status = 0;
        ::waitpid(child, &status, 0);
        std::string const seen = get(f / "file");
        REQUIRE((seen == old_bytes || seen == new_bytes));
        replaced += seen == new_bytes;
    }
    INFO(replaced << " of 30 were replaced before the end");
    SUCCEED();
}
