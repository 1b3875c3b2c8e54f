// SPDX-License-Identifier: BSL-1.0
// Values in real files: found again, whole or not at all.
#include "support/folder.hpp"
#include "support/sanitized.hpp"
#include "support/stress.hpp"
#include "tiered_cache/support.hpp"

#include <tidegate/file_cache_tier.hpp>
#include <tidegate/tiered_cache.hpp>
#include <tidegate/worker_pool.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace asio = boost::asio;
namespace fs = std::filesystem;
using namespace std::chrono_literals;
using tidegate::file_cache_tier;
using tidegate::tier_value;
using file_options = tidegate::file_cache_tier_options;

namespace {

struct loop {
    asio::io_context io{1};
    tidegate::worker_pool pool{io, tidegate::worker_pool_options().threads(2)};

    std::shared_ptr<file_cache_tier> open(fs::path const& folder, file_options settings = {}) {
        return test::run(io, file_cache_tier::open(pool, folder, settings));
    }
    void put(file_cache_tier& tier, std::string key, std::string bytes,
             std::chrono::nanoseconds time = 1h) {
        test::run(io, tier.put_many({{std::move(key), {std::move(bytes), time}}}));
    }
    std::string get(file_cache_tier& tier, std::string key) {
        auto const all = test::run(io, tier.get_many({std::move(key)}));
        return all[0] ? all[0]->bytes : "none";
    }
};

std::vector<fs::path> files_in(fs::path const& folder) {
    std::vector<fs::path> all;
    for (auto const& one : fs::recursive_directory_iterator(folder)) {
        if (one.is_regular_file()) all.push_back(one.path());
    }
    return all;
}

std::string text_of(std::uint64_t key, std::size_t size) {
    std::string text = std::to_string(key) + ":";
    while (text.size() < size) text += static_cast<char>('a' + key % 26);
    return text;
}

} // namespace

TEST_CASE("what was put is there when the folder is opened again") {
    test::folder folder;
    loop l;
    std::string const odd("../../etc/passwd\0\n", 18);
    {
        auto tier = l.open(folder.path());
        l.put(*tier, "a", "one");
        l.put(*tier, "a", "two");
        l.put(*tier, odd, "", tier_value::for_ever);
        l.put(*tier, "", std::string(100'000, 'x'));
        l.put(*tier, "gone", "x");
        test::run(l.io, tier->invalidate({"gone", "never was"}));
        CHECK(tier->statistics().files == 3);
    }
    auto tier = l.open(folder.path());
    CHECK(tier->statistics().files == 3);
    auto const got = test::run(l.io, tier->get_many({"a", odd, "", "gone", "no"}));
    CHECK(got[0]->bytes == "two");
    CHECK(got[0]->time_to_live <= 1h);
    CHECK(got[0]->time_to_live > 59min);
    CHECK(got[1]->bytes.empty());
    CHECK(got[1]->time_to_live == tier_value::for_ever);
    CHECK(got[2]->bytes.size() == 100'000);
    CHECK_FALSE(got[3]);
    CHECK_FALSE(got[4]);
    for (auto const& file : files_in(folder.path())) CHECK(file.extension() == ".value");
}

TEST_CASE("the least recently used files make room, and too large a value none") {
    test::folder folder;
    loop l;
    auto const one = 32 + 1 + 100; // header, key, value
    auto tier = l.open(folder.path(), file_options().max_bytes(3 * one));
    for (auto const key : {"a", "b", "c"}) l.put(*tier, key, std::string(100, *key));
    l.get(*tier, "a");
    l.put(*tier, "d", std::string(100, 'd'));
    CHECK(l.get(*tier, "b") == "none");
    CHECK(l.get(*tier, "a") == std::string(100, 'a'));
    CHECK(files_in(folder.path()).size() == 3);
    CHECK(tier->statistics().evicted == 1);
    l.put(*tier, "a", std::string(1000, 'a'));
    CHECK(l.get(*tier, "a") == "none"); // not the older one
    CHECK(files_in(folder.path()).size() == 2);

    // Opened again, those written last count as used last.
    auto const files = files_in(folder.path());
    fs::last_write_time(files[0], fs::file_time_type::clock::now() - 1h);
    auto again = l.open(folder.path(), file_options().max_bytes(one));
    CHECK(again->statistics().files == 1);
    CHECK(files_in(folder.path()) == std::vector{files[1]});
}

TEST_CASE("a folder that is opened with less room keeps what fits") {
    test::folder folder;
    loop l;
    {
        auto tier = l.open(folder.path(), file_options().max_bytes(100'000));
        l.put(*tier, "small", "x");
        l.put(*tier, "large", std::string(10'000, 'x'));
    }
    auto const tier = l.open(folder.path(), file_options().max_bytes(1000));
    CHECK(l.get(*tier, "small") == "x");
    CHECK(l.get(*tier, "large") == "none");
    CHECK(tier->statistics().files == 1);
    CHECK(files_in(folder.path()).size() == 1);
}

TEST_CASE("values are found again also where they are made durable") {
    test::folder folder;
    loop l;
    CHECK_FALSE(file_options().durable());
    auto const durable = file_options().durable(true);
    CHECK(durable.durable());
    auto tier = l.open(folder.path(), durable);
    l.put(*tier, "a", "one");
    l.put(*tier, "a", "two");
    tier = l.open(folder.path(), durable);
    CHECK(l.get(*tier, "a") == "two");
    CHECK(tier->statistics().files == 1);
}

TEST_CASE("a value whose time is over is not found, and its file goes") {
    test::folder folder;
    loop l;
    auto tier = l.open(folder.path());
    l.put(*tier, "a", "x", 1ns);
    CHECK(l.get(*tier, "a") == "none");
    l.put(*tier, "b", "x", 1ns);
    auto again = l.open(folder.path());
    CHECK(again->statistics().files == 0);
    CHECK(files_in(folder.path()).empty());
}

TEST_CASE("a file that was cut off, changed or removed is not found, and goes") {
    test::folder folder;
    loop l;
    auto tier = l.open(folder.path());
    l.put(*tier, "a", std::string(1000, 'x'));
    auto const file = files_in(folder.path()).front();
    bool const reopen = GENERATE(false, true);
    bool is_gone = false;
    SECTION("cut off") { fs::resize_file(file, 500); }
    SECTION("empty") { fs::resize_file(file, 0); }
    SECTION("longer") { fs::resize_file(file, 5000); }
    SECTION("one bit") {
        std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
        f.seekp(700);
        f.put('y');
    }
    SECTION("a header that lies") {
        std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
        f.seekp(16);
        for (int i = 0; i < 16; ++i) f.put(static_cast<char>(0xFF));
    }
    SECTION("removed") {
        fs::remove(file);
        is_gone = true;
    }
    if (reopen) tier = l.open(folder.path());
    CHECK(l.get(*tier, "a") == "none");
    CHECK(tier->statistics().files == 0);
    if (!(is_gone && reopen)) CHECK(tier->statistics().damaged == 1);
    CHECK(files_in(folder.path()).empty());
    l.put(*tier, "a", "new");
    CHECK(l.get(*tier, "a") == "new");
}

TEST_CASE("files of others stay, leftovers of killed processes go") {
    test::folder folder;
    loop l;
    fs::create_directories(folder / "ab");
    std::string const uuid = "ab000000-0000-5000-8000-000000000000.value";
    std::vector<std::string> const others{"ab/readme.txt",           "notes.value",
                                          "ab/notes.value",          "ab/old.tmp",
                                          "ab/.old.value.1.tmp",
                                          "ab/cd" + uuid.substr(2), // in the wrong folder
                                          "ab/." + uuid + ".new.tmp"};
    std::string const leftover = "ab/." + uuid + ".old.tmp", damaged = "ab/" + uuid;
    auto const hour_ago = fs::file_time_type::clock::now() - 1h;
    for (auto const& name : others) std::ofstream(folder.path() / name) << "x";
    for (auto const& name : {leftover, damaged}) std::ofstream(folder.path() / name) << "x";
    for (std::size_t i = 0; i + 1 < others.size(); ++i)
        fs::last_write_time(folder.path() / others[i], hour_ago);
    fs::last_write_time(folder.path() / leftover, hour_ago);
    auto const tier = l.open(folder.path());
    for (auto const& name : others) {
        INFO(name);
        CHECK(fs::exists(folder.path() / name));
    }
    CHECK_FALSE(fs::exists(folder.path() / leftover));
    CHECK_FALSE(fs::exists(folder.path() / damaged));
    CHECK(tier->statistics().damaged == 1);
}

TEST_CASE("a folder that cannot be is an error that names it") {
    test::folder folder;
    loop l;
    std::ofstream(folder / "file") << "x";
    try {
        l.open(folder / "file");
        FAIL("opened a file");
    } catch (tidegate::file_error const& e) {
        CHECK(e.path() == folder / "file");
    }
}

namespace {

// As long as it lives, the process may open so many more files.
class descriptors_left {
public:
    explicit descriptors_left(::rlim_t n) {
        int const next = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
        ::close(next);
        ::getrlimit(RLIMIT_NOFILE, &before_);
        ::rlimit const few{static_cast<::rlim_t>(next) + n, before_.rlim_max};
        ::setrlimit(RLIMIT_NOFILE, &few);
    }
    descriptors_left(descriptors_left const&) = delete;
    descriptors_left& operator=(descriptors_left const&) = delete;
    ~descriptors_left() { ::setrlimit(RLIMIT_NOFILE, &before_); }

private:
    ::rlimit before_{};
};

} // namespace

TEST_CASE("a folder that cannot be read to its end is an error, unless that is somebody else's") {
    if (test::sanitized) SKIP("UndefinedBehaviorSanitizer looks at objects through pipes");
    test::folder folder;
    loop l;
    fs::create_directory(folder / "theirs");
    auto const open_with = [&](::rlim_t descriptors) {
        descriptors_left const few(descriptors);
        return l.open(folder.path());
    };
    CHECK_NOTHROW(open_with(1));
    auto tier = l.open(folder.path());
    l.put(*tier, "a", "value");
    tier.reset();
    fs::path const values = files_in(folder.path()).front().parent_path();
    fs::create_directory(values / "theirs");
    try {
        open_with(1); // not enough for the folder that the value is in
        FAIL("opened a folder that it could not read");
    } catch (tidegate::file_error const& e) {
        CHECK(e.path() == folder.path());
    }
    tier = open_with(2); // enough for the folders, not for what is in them
    CHECK(l.get(*tier, "a") == "none");
    CHECK(files_in(folder.path()).size() == 1); // it may be read another time
    tier = open_with(8);
    CHECK(l.get(*tier, "a") == "value");
}

TEST_CASE("a file that cannot be opened for now is an error, and stays") {
    if (test::sanitized) SKIP("UndefinedBehaviorSanitizer looks at objects through pipes");
    test::folder folder;
    loop l;
    auto tier = l.open(folder.path());
    l.put(*tier, "a", "value");
    auto const file = files_in(folder.path()).front();
    try {
        descriptors_left const none(0);
        l.get(*tier, "a");
        FAIL("opened one file too many");
    } catch (tidegate::file_error const& e) {
        CHECK(e.code() == boost::system::errc::too_many_files_open);
        CHECK(e.path() == file);
    }
    CHECK(l.get(*tier, "a") == "value");
    CHECK(files_in(folder.path()) == std::vector{file});
    CHECK(tier->statistics().damaged == 0);
}

TEST_CASE("what took a file's place and is none is not found, and can be replaced") {
    test::folder folder;
    loop l;
    auto tier = l.open(folder.path());
    l.put(*tier, "a", "value");
    auto const file = files_in(folder.path()).front();
    auto place = file;
    SECTION("a folder") { fs::remove(file); }
    SECTION("a file instead of its folder") {
        place = file.parent_path();
        fs::remove_all(place);
    }
    if (place == file) fs::create_directory(place);
    else std::ofstream(place) << "x";
    CHECK(l.get(*tier, "a") == "none");
    CHECK(tier->statistics().damaged == 1);
    CHECK(l.get(*tier, "a") == "none");
    fs::remove(place);
    l.put(*tier, "a", "new");
    CHECK(l.get(*tier, "a") == "new");
}

TEST_CASE("no room on the device: the old value is gone, and nothing is half there") {
    test::folder folder;
    loop l;
    auto tier = l.open(folder.path());
    l.put(*tier, "a", "old");
    ::rlimit before{};
    ::getrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, SIG_IGN);
    ::rlimit const small{4096, before.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
    CHECK_THROWS_AS(l.put(*tier, "a", std::string(10'000, 'x')), tidegate::file_error);
    ::setrlimit(RLIMIT_FSIZE, &before);
    CHECK(l.get(*tier, "a") == "none");
    CHECK(files_in(folder.path()).empty());
}

TEST_CASE("a process killed while it writes leaves whole values only") {
    test::folder folder;
    for (int round = 0; round < 5; ++round) {
        int ready[2];
        REQUIRE(::pipe(ready) == 0);
        ::pid_t const child = ::fork();
        if (child == 0) {
            // The blocking store itself: a forked process should not start threads.
            tidegate::detail::file_store store(folder.path(), 1 << 24, false);
            for (std::uint64_t i = 0;; ++i) {
                store.put(std::to_string(i % 20), text_of(i % 20, 20'000), 1h);
                if (i == 50) [[maybe_unused]]
                    auto const n = ::write(ready[1], "x", 1);
            }
        }
        char byte;
        REQUIRE(::read(ready[0], &byte, 1) == 1);
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        ::close(ready[0]);
        ::close(ready[1]);
        loop l;
        auto tier = l.open(folder.path());
        CHECK(tier->statistics().damaged == 0);
        CHECK(tier->statistics().files == 20);
        for (std::uint64_t i = 0; i < 20; ++i)
            CHECK(l.get(*tier, std::to_string(i)) == text_of(i, 20'000));
    }
}

TEST_CASE("threads that put, get and erase the same keys see whole values of their key") {
    test::folder folder;
    tidegate::detail::file_store store(folder.path(), 40 * 1000, false);
    std::atomic<int> wrong{0}, found{0};
    std::vector<std::jthread> threads;
    for (std::uint64_t t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            test::random random(t);
            for (int i = 0; i < 2000; ++i) {
                auto const key = test::below(random, 60);
                auto const name = std::to_string(key);
                switch (test::below(random, 4)) {
                case 0: store.put(name, text_of(key, 500 + test::below(random, 1000)), 1h); break;
                case 1: store.erase(name); break;
                default:
                    if (auto const got = store.get(name)) {
                        ++found;
                        if (got->bytes != text_of(key, got->bytes.size())) ++wrong;
                    }
                }
            }
        });
    }
    threads.clear();
    CHECK(wrong == 0);
    CHECK(found > 100);
    CHECK(store.statistics().damaged == 0);
    CHECK(store.statistics().bytes <= 40 * 1000);
    CHECK(files_in(folder.path()).size() == store.statistics().files);
}

TEST_CASE("a tiered cache finds in files what an earlier process loaded") {
    test::folder folder;
    loop l;
    int loads = 0;
    auto load = [&](std::string const& key) -> asio::awaitable<std::string> {
        ++loads;
        co_return key + "!";
    };
    for (int round = 0; round < 3; ++round) {
        auto files = l.open(folder.path());
        tidegate::tiered_cache<std::string, std::string> cache(
            l.io, tidegate::cache_options<std::string, std::string>().max_entries(4), files);
        for (int i = 0; i < 20; ++i) {
            auto const key = std::to_string(i);
            CHECK(*test::run(l.io, cache.get_or_load(key, load)) == key + "!");
        }
        test::run(l.io, cache.flush());
    }
    CHECK(loads == 20);
}
