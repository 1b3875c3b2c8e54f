// SPDX-License-Identifier: BSL-1.0
// What the tests of the batcher share.
#pragma once

#include <tidegate/batcher.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>

#include <deque>
#include <exception>
#include <future>
#include <latch>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <variant>
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

using batches = std::vector<std::vector<int>>;

/// A batcher whose only worker is busy until `open`, so that all that is submitted is queued.
template <class Key = std::monostate, class Source = std::monostate,
          class Priority = std::monostate>
class held_batcher {
public:
    explicit held_batcher(tidegate::batcher_options settings, Key key = {}, Source source = {},
                          Priority priority = {})
        : b(
              pool, settings, [this](std::span<int> items) { return (*step_)(items); },
              std::move(key), std::move(source), std::move(priority)) {
        first_.start(b, -1);
        b.flush(); // whatever the delay
        step_->entered.wait();
    }

    call& submit(int item) {
        calls.emplace_back();
        calls.back().start(b, item);
        return calls.back();
    }
    /// The batches after the first one.
    batches open() {
        step_->go.set_value();
        io.run();
        return {step_->batches.begin() + 1, step_->batches.end()};
    }

    boost::asio::io_context io;
    tidegate::worker_pool pool{io, tidegate::worker_pool_options().threads(1)};

private:
    std::shared_ptr<stepped> step_ = std::make_shared<stepped>();
    call first_;

public:
    tidegate::batcher<int, int> b;
    std::deque<call> calls;
};

} // namespace test
