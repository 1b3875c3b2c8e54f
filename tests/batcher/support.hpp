// SPDX-License-Identifier: BSL-1.0
// What the tests of the batcher share.
#pragma once

#include <tidegate/batcher.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>

#include <exception>
#include <future>
#include <latch>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace test {

inline std::vector<int> doubled(std::span<int> items) {
    std::vector<int> results;
    for (int item : items) results.push_back(2 * item);
    return results;
}

inline tidegate::error_code code_of(std::exception_ptr e) {
    if (!e) return {};
    try {
        std::rethrow_exception(e);
    } catch (boost::system::system_error const& s) {
        return s.code();
    } catch (...) {
        return boost::asio::error::fault;
    }
}

struct call {
    int completions = 0;
    int result = -1;
    std::exception_ptr failure = nullptr;
    boost::asio::cancellation_signal signal;

    template <class Batcher>
    void start(Batcher& b, int item) {
        b.async_submit(item, boost::asio::bind_cancellation_slot(
                                 signal.slot(), [this](std::exception_ptr e, int r) {
                                     ++completions;
                                     failure = e;
                                     result = r;
                                 }));
    }
};

/// A batch function that stops inside until it is let go on, and notes its batches.
struct stepped {
    std::mutex mutex;
    std::vector<std::vector<int>> batches;
    std::latch entered{1};
    std::promise<void> go;
    bool first = true;

    std::vector<int> operator()(std::span<int> items) {
        bool wait = false;
        {
            std::lock_guard lock(mutex);
            batches.emplace_back(items.begin(), items.end());
            wait = std::exchange(first, false);
        }
        if (wait) {
            entered.count_down();
            go.get_future().wait();
        }
        return doubled(items);
    }
};

} // namespace test
