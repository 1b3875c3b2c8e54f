// SPDX-License-Identifier: BSL-1.0
// How a lazy value is loaded.
#pragma once

#include <tidegate/core/check_option.hpp>

#include <boost/asio/any_io_executor.hpp>

#include <chrono>
#include <cstdint>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// Settings of `lazy` and `lazy_map`, with their defaults.
class lazy_options {
    using nanoseconds = std::chrono::nanoseconds;

public:
    /// A load that takes longer fails with `error::deadline_exceeded` and is cancelled; it can be
    /// loaded anew, even if that one does not listen. 1 ns to 10 years; default: 5 minutes.
    lazy_options& load_timeout(nanoseconds time) {
        check("lazy load_timeout in ns", time, 1);
        load_timeout_ = time;
        return *this;
    }
    /// For how long a failure, that of a load that takes too long included, is remembered: who asks
    /// meanwhile gets it instead of another attempt. 0 to 10 years; default: 0, each call tries
    /// again.
    lazy_options& keep_failure(nanoseconds time) {
        check("lazy keep_failure in ns", time, 0);
        keep_failure_ = time;
        return *this;
    }
    /// A load goes on when the last caller has left, and is kept. Default: it is cancelled.
    lazy_options& keep_loading(bool keep) {
        keep_loading_ = keep;
        return *this;
    }
    /// While it is loaded anew, and after that failed, callers get the old value. Default: they
    /// wait, and the old value is forgotten.
    lazy_options& serve_old_while_reloading(bool serve) {
        serve_old_ = serve;
        return *this;
    }
    /// Where loads run. Default: the executor of the value. A loader given together with a worker
    /// pool runs on that.
    lazy_options& load_on(boost::asio::any_io_executor executor) {
        load_on_ = std::move(executor);
        return *this;
    }

    nanoseconds load_timeout() const noexcept { return load_timeout_; }
    nanoseconds keep_failure() const noexcept { return keep_failure_; }
    bool keep_loading() const noexcept { return keep_loading_; }
    bool serve_old_while_reloading() const noexcept { return serve_old_; }
    boost::asio::any_io_executor const& load_on() const noexcept { return load_on_; }

private:
    static void check(char const* option, nanoseconds time, std::int64_t least) {
        detail::check_option<std::int64_t>(option, time.count(), least, 315'576'000'000'000'000);
    }

    nanoseconds load_timeout_ = std::chrono::minutes(5);
    nanoseconds keep_failure_{0};
    bool keep_loading_ = false;
    bool serve_old_ = false;
    boost::asio::any_io_executor load_on_;
};

TIDEGATE_END_NAMESPACE
