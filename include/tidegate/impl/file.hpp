// SPDX-License-Identifier: BSL-1.0
// Reading and writing block by block.
#pragma once

#include <tidegate/file.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/error.hpp>

#if defined(BOOST_ASIO_HAS_FILE)
#include <boost/asio/basic_stream_file.hpp>
#endif

#include <algorithm>
#include <span>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// On the pool: opens the file if it is not, and reads a block, which is shorter at the end only.
inline void read_block(file_handle& file, std::filesystem::path const& path, std::string& block,
                       std::size_t size) {
    if (!file) file = file_handle::open(path);
    block.resize(size);
    std::size_t got = 0;
    while (got < size) {
        std::size_t const n = file.read_some(std::span(block).subspan(got));
        if (n == 0) break;
        got += n;
    }
    block.resize(got);
    if (got < size) file.close();
}

// Jobs refer into the coroutine's frame: it waits for them even when it is cancelled.
template <class Executor>
boost::asio::experimental::coro<std::string, void, Executor>
read_blocks_on_pool([[maybe_unused]] Executor executor, basic_worker_pool<Executor>* pool,
                    std::filesystem::path path, std::size_t size) {
    file_handle file;
    std::string block;
    auto const read = [&] { read_block(file, path, block, size); };
    do {
        auto reading = pool->async_submit(read, boost::asio::deferred);
        co_await std::move(reading);
        bool const at_end = block.size() < size;
        if (!block.empty()) co_yield std::exchange(block, {});
        if (at_end) co_return;
    } while (true);
}

#if defined(BOOST_ASIO_HAS_FILE)
template <class Executor>
std::optional<boost::asio::basic_stream_file<Executor>> make_stream(Executor const& executor,
                                                                    file_handle& file) {
    try {
        boost::asio::basic_stream_file<Executor> stream(executor); // not if io_uring is forbidden
        stream.assign(file.descriptor());
        file.release();
        return stream;
    } catch (boost::system::system_error const&) { // the pool can do it
        return std::nullopt;
    }
}

template <class Executor>
boost::asio::experimental::coro<std::string, void, Executor>
read_blocks(Executor executor, basic_worker_pool<Executor>* pool, std::filesystem::path path,
            std::size_t size) {
    file_handle file;
    auto const open = [&] { file = file_handle::open(path); };
    auto opening = pool->async_submit(open, boost::asio::deferred);
    co_await std::move(opening);
    auto stream = make_stream(executor, file);
    if (!stream) {
        auto others = read_blocks_on_pool(executor, pool, path, size);
        while (auto block = co_await others) co_yield std::move(*block);
        co_return;
    }
    for (bool at_end = false; !at_end;) {
        std::string block(size, '\0');
        std::size_t got = 0;
        while (got < size && !at_end) {
            auto const into = boost::asio::buffer(block.data() + got, size - got);
            auto reading =
                stream->async_read_some(into, boost::asio::as_tuple(boost::asio::deferred));
            auto const result = co_await std::move(reading);
            auto const& [ec, n] = result;
            got += n;
            at_end = ec == boost::asio::error::eof;
            if (ec == boost::asio::error::operation_aborted) throw boost::system::system_error(ec);
            if (ec && !at_end) throw file_error(ec, path, "read");
        }
        block.resize(got);
        if (got > 0) co_yield std::move(block);
    }
}
#else
template <class Executor>
auto read_blocks(Executor const& executor, basic_worker_pool<Executor>* pool,
                 std::filesystem::path path, std::size_t size) {
    return read_blocks_on_pool(executor, pool, std::move(path), size);
}
#endif

#if defined(BOOST_ASIO_HAS_FILE)
template <class Executor>
boost::asio::awaitable<std::string, Executor> read_all(basic_worker_pool<Executor>& pool,
                                                       std::filesystem::path path,
                                                       read_file_options settings) {
    Executor executor = co_await boost::asio::this_coro::executor;
    auto blocks = read_blocks(std::move(executor), &pool, path, settings.block());
    std::string bytes;
    for (;;) {
        auto next = blocks.async_resume(boost::asio::deferred);
        std::optional<std::string> block = co_await std::move(next);
        if (!block) co_return bytes;
        if (bytes.size() + block->size() > settings.max_size()) {
            throw file_error(make_error_code(boost::system::errc::file_too_large), path, "read");
        }
        if (bytes.empty()) bytes = std::move(*block);
        else bytes += *block;
    }
}
#else
/// A file that is read whole, block by block into its place.
class whole_file {
public:
    whole_file(std::filesystem::path path, read_file_options const& settings)
        : path_(std::move(path)), settings_(settings) {}

    /// On the pool: reads a block. True at the end of the file.
    bool read_on() {
        if (!file_) open();
        std::size_t const before = bytes_.size();
        std::size_t const size = next_size();
        bytes_.resize(before + size);
        std::size_t got = 0;
        bool at_end = false;
        while (got < size && !at_end) {
            std::size_t const n = file_.read_some(std::span(bytes_).subspan(before + got));
            at_end = n == 0;
            got += n;
        }
        bytes_.resize(before + got);
        if (bytes_.size() > settings_.max_size()) {
            throw file_error(make_error_code(boost::system::errc::file_too_large), path_, "read");
        }
        if (at_end) file_.close();
        return at_end;
    }

    std::string take() noexcept { return std::move(bytes_); }

private:
    void open() {
        file_ = file_handle::open(path_);
        expected_ = std::min<std::uint64_t>(file_.size(), settings_.max_size());
        constexpr std::uint64_t believed = std::uint64_t{64} << 20; // beyond it, as it comes
        bytes_.reserve(static_cast<std::size_t>(std::min(expected_, believed)) + 1);
    }

    // The last block is a byte longer, so that the job that reads it finds the end.
    std::size_t next_size() const noexcept {
        std::uint64_t const before = bytes_.size();
        std::uint64_t const left = (before < expected_ ? expected_ : settings_.max_size()) - before;
        return left > settings_.block() ? settings_.block() : static_cast<std::size_t>(left) + 1;
    }

    std::filesystem::path path_;
    read_file_options settings_;
    file_handle file_;
    std::uint64_t expected_ = 0; // what the system says: for some files it is wrong, or 0
    std::string bytes_;
};

// Jobs refer into the coroutine's frame: it waits for them even when it is cancelled.
template <class Executor>
boost::asio::awaitable<std::string, Executor> read_all(basic_worker_pool<Executor>& pool,
                                                       std::filesystem::path path,
                                                       read_file_options settings) {
    whole_file file(std::move(path), settings);
    auto const read = [&] { return file.read_on(); };
    for (bool at_end = false; !at_end;) {
        auto reading = pool.async_submit(read, boost::asio::deferred);
        at_end = co_await std::move(reading);
    }
    co_return file.take();
}
#endif

template <class Executor>
boost::asio::awaitable<void, Executor>
replace_contents(basic_worker_pool<Executor>& pool, std::filesystem::path path, std::string bytes,
                 write_file_options settings) {
    replacement_file replacement;
    std::span<char const> left(bytes);
    auto const write_block = [&] {
        if (!replacement.file()) replacement.create(path);
        auto const block = left.first(std::min(left.size(), settings.block()));
        replacement.file().write_all(block);
        left = left.subspan(block.size());
    };
    do {
        auto writing = pool.async_submit(write_block, boost::asio::deferred);
        co_await std::move(writing);
    } while (!left.empty());
    auto const replace = [&] { replacement.replace(settings.durable()); };
    auto replacing = pool.async_submit(replace, boost::asio::deferred);
    co_await std::move(replacing);
}

} // namespace detail

template <class Executor>
boost::asio::awaitable<std::string, Executor> read_file(basic_worker_pool<Executor>& pool,
                                                        std::filesystem::path path,
                                                        read_file_options settings) {
    return detail::read_all(pool, std::move(path), settings);
}

template <class Executor>
boost::asio::experimental::coro<std::string, void, Executor>
read_chunks(std::type_identity_t<Executor> executor, basic_worker_pool<Executor>& pool,
            std::filesystem::path path, read_file_options settings) {
    return detail::read_blocks(executor, &pool, std::move(path), settings.block());
}

template <class Executor>
boost::asio::experimental::coro<std::string, void, Executor>
read_chunks(basic_worker_pool<Executor>& pool, std::filesystem::path path,
            read_file_options settings) {
    return read_chunks(pool.get_executor(), pool, std::move(path), settings);
}

template <class Executor>
boost::asio::awaitable<void, Executor> write_file(basic_worker_pool<Executor>& pool,
                                                  std::filesystem::path path, std::string bytes,
                                                  write_file_options settings) {
    return detail::replace_contents(pool, std::move(path), std::move(bytes), settings);
}

TIDEGATE_END_NAMESPACE
