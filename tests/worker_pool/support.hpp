// SPDX-License-Identifier: BSL-1.0
// What the tests of the pool share.
#pragma once

#include <tidegate/worker_pool.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/error.hpp>
#include <boost/system/system_error.hpp>

#include <chrono>
#include <exception>
#include <future>
#include <latch>
#include <memory>

namespace test {

/// Keeps one thread of a pool busy until it is opened. May go before the thread does.
class held_thread {
public:
    template <class Pool>
    explicit held_thread(Pool& pool) {
        auto const inside = std::make_shared<std::latch>(1);
        REQUIRE(pool.post([inside, opened = opened_.get_future().share()] {
            inside->count_down();
            opened.wait();
        }));
        inside->wait();
    }
    void open() { opened_.set_value(); }

private:
    std::promise<void> opened_;
};

/// The error code that `e` carries; `fault` for any other exception, none for null.
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

/// True as soon as `promise` is kept. The limit is for the case that it never is.
template <class T>
bool comes(std::promise<T>& promise) {
    return promise.get_future().wait_for(std::chrono::seconds(20)) == std::future_status::ready;
}

} // namespace test
