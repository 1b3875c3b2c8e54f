// SPDX-License-Identifier: BSL-1.0
// Runs a coroutine for each item of a range, a bounded number at a time.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/compat.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <concepts>
#include <cstddef>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// What happens when an item fails.
enum class on_error {
    /// No further item is started, those that run are cancelled and waited for, and the first
    /// failure is thrown.
    stop,
    /// All items are run; failures are part of the result.
    collect,
};

/// How many items may run at once: 1 to 65536, otherwise throws std::invalid_argument.
class parallel_limit {
public:
    template <std::integral Integer> // NOLINTNEXTLINE(google-explicit-constructor)
    parallel_limit(Integer at_once) : at_once_(static_cast<std::size_t>(at_once)) {
        detail::check_option<long long>("parallel limit", static_cast<long long>(at_once), 1,
                                        65536);
    }
    std::size_t at_once() const noexcept { return at_once_; }

private:
    std::size_t at_once_;
};

/// An item that failed, counted from 0 in the order of the range.
struct parallel_failure {
    std::size_t index;
    failure why;
};

namespace detail {

template <class Range>
using parallel_view = std::views::all_t<Range>;

/// What the function is called with: a reference into the range, or, from a range that can be
/// passed through only once, the value itself.
template <class View>
using parallel_item =
    std::conditional_t<std::ranges::forward_range<View>, std::ranges::range_reference_t<View>,
                       std::ranges::range_value_t<View>>;

template <class View, class Function>
using parallel_awaitable = std::invoke_result_t<Function&, parallel_item<View>>;

template <class View, class Function>
using parallel_value = typename parallel_awaitable<View, Function>::value_type;

template <class View, class Function>
using parallel_executor = typename parallel_awaitable<View, Function>::executor_type;

template <on_error mode, class T>
class parallel_results;

template <on_error mode, class View, class Function>
using parallel_result_t =
    typename parallel_results<mode, parallel_value<View, Function>>::result_type;

template <on_error mode, class View, class Function>
boost::asio::awaitable<parallel_result_t<mode, View, Function>, parallel_executor<View, Function>>
parallel(View items, parallel_limit limit, Function function);

} // namespace detail

/// Calls `co_await function(item)` for each item of `range`, up to `limit` of them at once, and
/// returns the results in the order of the items.
///
///     auto sizes = co_await tidegate::parallel_map(urls, 8, fetch_size);     // vector<size>
///     auto each = co_await tidegate::parallel_map<on_error::collect>(urls, 8, fetch_size);
///     if (!each[3]) report(each[3].why());                                // vector<outcome<size>>
///
/// `function(item)` returns a boost::asio::awaitable. Items are taken one by one, when there is
/// room for one more to run: beside the results, memory is O(limit) however long the range. `item`
/// refers into a range that can be passed through again, and is the value itself from one that
/// cannot. An lvalue range is referred to and has to live until the end; an rvalue is moved in.
/// `function` is copied or moved in. An empty range completes at once.
///
/// Failures: what `function` throws, inside or outside its coroutine, what the range's iterators
/// throw, and, in mode `stop`, only the first in time of those, never the cancellations that it
/// caused. In mode `collect` a failure of the iterators, after which nothing can be known, is
/// thrown like one in mode `stop`.
///
/// Cancelling the caller cancels the items that run, starts no more, waits for them to end, and
/// throws boost::system::system_error with `operation_aborted`.
///
/// Executors: each item runs in a coroutine beside the caller's, on the caller's executor. If that
/// may run functions at the same time, as a thread pool does, so do the items, each on a strand of
/// its own. An io_context that was made with a concurrency hint of 1 and a strand need none, which
/// is cheaper. One coroutine for each of the `limit` runs one item after the other.
///
/// For a fixed set of different operations there are Asio's `operator&&` and `||`.
template <on_error mode = on_error::stop, class Range, class Function>
    requires std::ranges::input_range<Range> && std::ranges::viewable_range<Range>
auto parallel_map(Range&& range, parallel_limit limit, Function&& function) {
    static_assert(detail::survives_await_as_temporary<Function&&>,
                  "g++ before 12.3 destroys this temporary twice: name the function, and pass the "
                  "name or std::ref(name)");
    using view = detail::parallel_view<Range>;
    using callable = std::decay_t<Function>;
    static_assert(!std::is_void_v<detail::parallel_value<view, callable>>,
                  "there is nothing to map to: use parallel_for_each");
    return detail::parallel<mode, view, callable>(std::views::all(std::forward<Range>(range)),
                                                  limit, std::forward<Function>(function));
}

/// As `parallel_map`, without results: in mode `stop` returns nothing, in mode `collect` a
/// std::vector<parallel_failure> of the items that failed, in the order of the range.
template <on_error mode = on_error::stop, class Range, class Function>
    requires std::ranges::input_range<Range> && std::ranges::viewable_range<Range>
auto parallel_for_each(Range&& range, parallel_limit limit, Function&& function) {
    static_assert(detail::survives_await_as_temporary<Function&&>,
                  "g++ before 12.3 destroys this temporary twice: name the function, and pass the "
                  "name or std::ref(name)");
    using view = detail::parallel_view<Range>;
    using callable = std::decay_t<Function>;
    static_assert(std::is_void_v<detail::parallel_value<view, callable>>,
                  "the results would be lost: use parallel_map");
    return detail::parallel<mode, view, callable>(std::views::all(std::forward<Range>(range)),
                                                  limit, std::forward<Function>(function));
}

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/parallel.hpp>
