// SPDX-License-Identifier: BSL-1.0
// An executor on which only one thing runs at a time.
#pragma once

#include <tidegate/detail/load_graph.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/version.hpp>

#include <concepts>
#include <type_traits>

#if BOOST_ASIO_VERSION >= 103200 // Boost 1.87
#include <boost/asio/config.hpp>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Remembers what was promised of a context: reading its configuration takes longer than most of
/// what depends on it.
class thread_promise final : public boost::asio::execution_context::service {
public:
    using key_type = thread_promise;
    static inline boost::asio::execution_context::id id;

    explicit thread_promise(boost::asio::execution_context& context)
        : boost::asio::execution_context::service(context), one_thread_(read(context)) {}

    bool one_thread() const noexcept { return one_thread_; }

private:
    static bool read(boost::asio::execution_context& context) {
#if BOOST_ASIO_VERSION >= 103200
        return boost::asio::config(context).get("scheduler", "concurrency_hint", 0) == 1;
#else
        static_cast<void>(context);
        return false;
#endif
    }

    void shutdown() override {}

    bool const one_thread_;
};

/// True if whoever made the context promised, by a concurrency hint of 1, to run it from one
/// thread. Boost tells from 1.87 on.
inline bool has_one_thread(boost::asio::io_context& context) {
    return boost::asio::use_service<thread_promise>(context).one_thread();
}

// What any_io_executor needs for each type that it may hold takes the compiler long, so these are
// templates: whoever includes them without a call does not pay. `Executor` is any_io_executor.

/// What a strand is made of; empty if it is none, as far as can be told.
template <std::same_as<boost::asio::any_io_executor> Executor>
Executor inside_strand(Executor const& executor) {
    namespace asio = boost::asio;
    auto const inner = [&]<class Of>(std::type_identity<Of>) {
        auto const* const strand = executor.template target<asio::strand<Of>>();
        return strand ? Executor(strand->get_inner_executor()) : Executor();
    };
    if (auto found = inner(std::type_identity<asio::io_context::executor_type>())) return found;
    if (auto found = inner(std::type_identity<Executor>())) return found;
    return inner(std::type_identity<asio::thread_pool::executor_type>());
}

/// As far as can be told.
template <std::same_as<boost::asio::any_io_executor> Executor>
bool is_strand(Executor const& executor) noexcept {
    namespace asio = boost::asio;
    return executor.template target<asio::strand<asio::io_context::executor_type>>() ||
           executor.template target<asio::strand<Executor>>() ||
           executor.template target<asio::strand<asio::thread_pool::executor_type>>();
}

/// True if what `executor` runs never runs at the same time, as far as can be told.
template <std::same_as<boost::asio::any_io_executor> Executor>
bool runs_in_turn(Executor const& executor) {
    if (is_strand(executor)) return true;
    if (auto const* const load = executor.template target<load_executor>())
        return runs_in_turn(load->inner());
    auto const* const io = executor.template target<boost::asio::io_context::executor_type>();
    return io && has_one_thread(io->context());
}

/// True if this is called by something that `executor` runs, as far as can be told.
template <std::same_as<boost::asio::any_io_executor> Executor>
bool runs_here(Executor const& executor) noexcept {
    namespace asio = boost::asio;
    auto const is_in = [&]<class Of>(std::type_identity<Of>) {
        auto const* const own = executor.template target<Of>();
        return own && own->running_in_this_thread();
    };
    return is_in(std::type_identity<asio::io_context::executor_type>()) ||
           is_in(std::type_identity<asio::strand<asio::io_context::executor_type>>()) ||
           is_in(std::type_identity<asio::strand<Executor>>()) ||
           is_in(std::type_identity<asio::thread_pool::executor_type>()) ||
           is_in(std::type_identity<asio::strand<asio::thread_pool::executor_type>>());
}

/// Executors for operations that run beside the coroutine that may cancel them: each runs in turn.
template <std::same_as<boost::asio::any_io_executor> Executor>
class basic_serial_executors {
public:
    explicit basic_serial_executors(Executor const& executor)
        : executor_(executor), in_turn_(runs_in_turn(executor)) {}

    /// They are all the same one, which is the executor itself.
    bool in_turn() const noexcept { return in_turn_; }

    /// The executor itself if that runs in turn, else a new strand of it.
    Executor next() const {
        namespace asio = boost::asio;
        if (in_turn_) return executor_;
        if (auto const* io = executor_.template target<asio::io_context::executor_type>()) {
            return asio::make_strand(*io);
        }
        if (auto const* pool = executor_.template target<asio::thread_pool::executor_type>()) {
            return asio::make_strand(*pool);
        }
        return asio::make_strand(executor_);
    }

private:
    Executor executor_;
    bool in_turn_;
};

using serial_executors = basic_serial_executors<boost::asio::any_io_executor>;

} // namespace detail
TIDEGATE_END_NAMESPACE
