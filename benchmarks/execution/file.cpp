// SPDX-License-Identifier: BSL-1.0
// What it costs to read a file without blocking, beside reading it where one stands.
#include "bench.hpp"
#include "coroutines.hpp"

#include <tidegate/file.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include <fcntl.h>
#include <unistd.h>

namespace {

using namespace bench;

/// A file in the page cache, which goes with this.
class sample_file {
public:
    explicit sample_file(std::size_t size)
        : path_(std::filesystem::temp_directory_path() /
                ("tidegate-bench-" + std::to_string(::getpid()) + "-" + std::to_string(size))) {
        std::ofstream out(path_, std::ios::binary);
        out << std::string(size, 'x');
        if (!out.flush()) throw std::runtime_error("cannot write " + path_.string());
    }
    sample_file(sample_file const&) = delete;
    sample_file& operator=(sample_file const&) = delete;
    ~sample_file() { std::remove(path_.c_str()); }

    std::filesystem::path const& path() const noexcept { return path_; }

private:
    std::filesystem::path path_;
};

constexpr std::size_t small = 4 * 1024;
constexpr std::size_t large = 4 * 1024 * 1024;

std::string read_plainly(std::filesystem::path const& path) {
    int const file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) throw std::runtime_error("cannot open " + path.string());
    std::string text(std::filesystem::file_size(path), '\0');
    std::size_t done = 0;
    while (done < text.size()) {
        auto const got = ::read(file, text.data() + done, text.size() - done);
        if (got <= 0) break;
        done += static_cast<std::size_t>(got);
    }
    ::close(file);
    return text;
}

template <std::size_t size>
void block(run& r) {
    sample_file const file(size);
    while (r.more()) {
        auto const text = read_plainly(file.path());
        benchmark::DoNotOptimize(text.size());
    }
}

template <std::size_t size>
void await_one(run& r) {
    sample_file const file(size);
    asio::io_context context{1};
    tidegate::worker_pool pool(context, tidegate::worker_pool_options().threads(1));
    auto reader = [&]() -> asio::awaitable<void> {
        while (r.more()) {
            auto reading = tidegate::read_file(pool, file.path());
            auto const text = co_await std::move(reading);
            benchmark::DoNotOptimize(text.size());
        }
    };
    asio::co_spawn(context, reader(), asio::detached);
    context.run();
}

// What anybody would write: the same blocking read as a job of the pool.
template <std::size_t size>
void await_plain_job(run& r) {
    sample_file const file(size);
    asio::io_context context{1};
    tidegate::worker_pool pool(context, tidegate::worker_pool_options().threads(1));
    auto reader = [&]() -> asio::awaitable<void> {
        while (r.more()) {
            auto job = [&] { return read_plainly(file.path()); };
            auto const text = co_await pool.submit(job);
            benchmark::DoNotOptimize(text.size());
        }
    };
    asio::co_spawn(context, reader(), asio::detached);
    context.run();
}

group const files{[] {
    row("read_4k/tidegate", wall_time, await_one<small>);
    row("read_4k/pool_job", wall_time, await_plain_job<small>);
    row("read_4k/blocking", wall_time, block<small>);
    row("read_4m/tidegate", wall_time, await_one<large>);
    row("read_4m/pool_job", wall_time, await_plain_job<large>);
    row("read_4m/blocking", wall_time, block<large>);
    // The loop goes on meanwhile; this is what the caller waits longer. A large file takes a job a
    // megabyte, between which others have their turn.
    claim("read_4k_beside_a_job",
          ratio_of(typical_time_of("read_4k/tidegate"), typical_time_of("read_4k/pool_job")),
          at_most(3));
    claim("read_4m_beside_blocking",
          ratio_of(typical_time_of("read_4m/tidegate"), typical_time_of("read_4m/blocking")),
          at_most(4));
}};

} // namespace
