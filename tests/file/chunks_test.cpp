// SPDX-License-Identifier: BSL-1.0
// How reading in chunks ends, where it runs, and reading from within a coro.
#include <tidegate/file.hpp>

#include "support/folder.hpp"
#include "support/stress.hpp"
#include "worker_pool/support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/experimental/coro.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>

#include <atomic>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <sys/stat.h>

namespace asio = boost::asio;
namespace fs = std::filesystem;
using test::code_of;
using tidegate::read_chunks;
using tidegate::read_file_options;
using tidegate::worker_pool;
using generator = asio::experimental::coro<std::string, void, asio::any_io_executor>;

namespace {

auto const one_thread = tidegate::worker_pool_options().threads(1);

/// A resumption, and how it ended.
struct resumption {
    asio::cancellation_signal signal;
    std::optional<std::exception_ptr> ended;
    std::optional<std::string> chunk;

    void start(generator& chunks) {
        ended.reset();
        chunks.async_resume(asio::bind_cancellation_slot(
            signal.slot(), [this](std::exception_ptr e, std::optional<std::string> c) {
                ended = e;
                chunk = std::move(c);
            }));
    }
};

/// After some turns of others.
void cancel_later(asio::strand<asio::any_io_executor> const& here, auto cancel, std::size_t turns) {
    if (turns == 0) return asio::post(here, cancel);
    auto const next = [=] { cancel_later(here, cancel, turns - 1); };
    asio::post(here.get_inner_executor(), next);
}

void settle(asio::io_context& io) {
    io.restart();
    io.poll();
}

} // namespace

#if !defined(BOOST_ASIO_HAS_FILE) // where it is, Asio reads, and not the pool

TEST_CASE("cancelling a generator of chunks ends it, by terminal cancellation alone") {
    resumption next;
    asio::io_context io{1};
    worker_pool pool(io, one_thread);
    auto chunks = read_chunks(pool, "/dev/zero", read_file_options().block(16));
    next.start(chunks);
    io.run();
    REQUIRE(next.chunk);
    CHECK(next.chunk->size() == 16);
    {
        test::held_thread held(pool);
        next.start(chunks);
        settle(io);
        for (auto const unheard :
             {asio::cancellation_type::total, asio::cancellation_type::partial}) {
            next.signal.emit(unheard);
            settle(io);
            CHECK_FALSE(next.ended);
        }
        next.signal.emit(asio::cancellation_type::terminal);
        settle(io);
        REQUIRE(next.ended);
        CHECK(code_of(*next.ended) == asio::error::operation_aborted);
        CHECK_FALSE(chunks.is_open());
        CHECK(pool.queued() == 0);
        held.open();
    }
}

TEST_CASE("a block that is being read comes, though its resumption is cancelled") {
    test::folder f;
    auto const pipe = f / "pipe";
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    resumption next;
    asio::io_context io{1};
    worker_pool pool(io, one_thread);
    auto chunks = read_chunks(pool, pipe);
    next.start(chunks);
    settle(io);
    while (pool.active() == 0 || pool.queued() > 0) std::this_thread::yield();
    next.signal.emit(asio::cancellation_type::terminal);
    settle(io);
    CHECK_FALSE(next.ended);
    std::ofstream(pipe) << "bytes";
    io.restart();
    io.run();
    CHECK(next.chunk == "bytes");
    next.start(chunks);
    io.restart();
    io.run();
    REQUIRE(next.ended);
    CHECK_FALSE(*next.ended);
    CHECK_FALSE(next.chunk); // the end
}

#else

TEST_CASE("a read of Asio's that is cancelled ends a generator of chunks") {
    test::folder f;
    auto const pipe = f / "pipe";
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    resumption next;
    asio::io_context io{1};
    worker_pool pool(io, one_thread);
    auto chunks = read_chunks(pool, pipe);
    next.start(chunks);
    settle(io);
    std::ofstream writer(pipe); // opened as soon as the reader is
    io.restart();
    io.run_one(); // the reader hears of that
    settle(io);
    CHECK_FALSE(next.ended);
    next.signal.emit(asio::cancellation_type::terminal);
    io.restart();
    io.run();
    REQUIRE(next.ended);
    CHECK(code_of(*next.ended) == asio::error::operation_aborted);
    CHECK_FALSE(chunks.is_open());
}

#endif

TEST_CASE("what fails in a generator of chunks is named, and ends it") {
    test::folder f;
    resumption next;
    asio::io_context io{1};
    worker_pool pool(io, one_thread);
    for (fs::path const& path : {f / "none", f.path(), fs::path("/proc/self/mem")}) {
        INFO(path);
        auto chunks = read_chunks(pool, path);
        next.start(chunks);
        io.restart();
        io.run();
        REQUIRE(next.ended);
        REQUIRE(*next.ended);
        try {
            std::rethrow_exception(*next.ended);
        } catch (tidegate::file_error const& e) {
            CHECK(e.path() == path);
        }
        CHECK_FALSE(chunks.is_open());
    }
}

TEST_CASE("files are read from within a coro") {
    test::folder f;
    std::string const bytes(2500, 'x');
    std::ofstream(f / "file") << bytes;
    std::vector<std::size_t> sizes;
    std::string whole;
    std::exception_ptr failure;
    asio::io_context io{1};
    worker_pool pool(io, one_thread);
    auto read = [&](asio::any_io_executor here) -> asio::experimental::coro<void> {
        auto chunks = read_chunks(here, pool, f / "file", read_file_options().block(1000));
        while (auto chunk = co_await chunks) sizes.push_back(chunk->size());
        auto file = tidegate::read_file(pool, f / "file");
        auto reading = asio::co_spawn(here, std::move(file), asio::deferred);
        whole = co_await std::move(reading);
    };
    auto reader = read(io.get_executor());
    reader.async_resume([&](std::exception_ptr e) { failure = e; });
    io.run();
    CHECK_FALSE(failure);
    CHECK(sizes == std::vector<std::size_t>{1000, 1000, 500});
    CHECK(whole == bytes);
}

TEST_CASE("a generator of chunks runs where its caller does, who may cancel there", "[stress]") {
    std::atomic<int> ended = 0;
    std::atomic<bool> elsewhere = false;
    constexpr int readers = 4;
    std::vector<asio::cancellation_signal> signals(readers);
    asio::io_context io;
    worker_pool pool(io, tidegate::worker_pool_options().threads(2));
    auto read = [&](asio::strand<asio::any_io_executor> here) -> asio::awaitable<void> {
        auto chunks = read_chunks(here, pool, "/dev/zero", read_file_options().block(16));
        for (;;) {
            auto next = chunks.async_resume(asio::deferred);
            auto const chunk = co_await std::move(next);
            if (!here.running_in_this_thread()) elsewhere = true;
        }
    };
    test::random random(test::seeds().back());
    std::size_t const rounds = test::schedules(400) / 4 + 1;
    for (std::size_t i = 0; i < rounds; ++i) {
        for (auto& signal : signals) {
            asio::strand<asio::any_io_executor> const here(io.get_executor());
            auto end =
                asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr) { ++ended; });
            asio::co_spawn(here, read(here), std::move(end));
            auto cancel = [&signal] { signal.emit(asio::cancellation_type::terminal); };
            cancel_later(here, cancel, test::below(random, 20));
        }
        io.restart();
        std::thread other([&] { io.run(); });
        io.run();
        other.join();
    }
    CHECK(ended == static_cast<int>(rounds) * readers);
    CHECK_FALSE(elsewhere);
}
