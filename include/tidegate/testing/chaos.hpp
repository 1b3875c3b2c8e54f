// SPDX-License-Identifier: BSL-1.0
// A layer that makes calls slow and lets them fail, to see what the other layers do about it.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/alarm_room.hpp>
#include <tidegate/detail/deadline.hpp>
#include <tidegate/detail/layer.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/this_coro.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace testing {

/// What chaos to make: a probability, 0 to 1, for each kind; none by default. At most one kind of
/// failure is injected into a call; latency comes on top.
class chaos_options {
public:
    /// Delays the call, before it is made, by a time between the two.
    chaos_options& latency(double probability, std::chrono::nanoseconds least,
                           std::chrono::nanoseconds most) {
        latency_ = checked("chaos latency probability", probability);
        detail::check_option<std::int64_t>("chaos latency in ns", least.count(), 0, most.count());
        least_ = least;
        most_ = most;
        return *this;
    }
    /// Fails the call with this code, without making it.
    chaos_options& error(double probability, error_code ec) {
        error_ = checked("chaos error probability", probability);
        code_ = ec;
        return *this;
    }
    /// Fails the call with this exception, after it was made: the work was done, the answer lost.
    chaos_options& lost_answer(double probability, std::exception_ptr thrown) {
        lost_ = checked("chaos lost_answer probability", probability);
        thrown_ = std::move(thrown);
        return *this;
    }
    /// Lets the call look as if it had been cancelled, without making it.
    chaos_options& cancellation(double probability) {
        cancellation_ = checked("chaos cancellation probability", probability);
        return *this;
    }
    /// Spoils the result of the call, after it was made; see `basic_chaos`.
    chaos_options& result(double probability) {
        result_ = checked("chaos result probability", probability);
        return *this;
    }
    /// The same seed makes the same chaos for the same sequence of calls; default 1.
    chaos_options& seed(std::uint64_t value) {
        seed_ = value;
        return *this;
    }

private:
    template <class, class>
    friend class basic_chaos;

    static double checked(char const* option, double probability) {
        detail::check_option<double>(option, probability, 0, 1);
        return probability;
    }

    double latency_ = 0, error_ = 0, lost_ = 0, cancellation_ = 0, result_ = 0;
    std::chrono::nanoseconds least_{0}, most_{0};
    error_code code_;
    std::exception_ptr thrown_;
    std::uint64_t seed_ = 1;
};

/// For chaos that spoils no results.
struct spoil_nothing {};

/// A layer for tests and exercises; put it innermost. `spoil(result)` changes the result of a call
/// that succeeded, in place, where it accepts its type. Copies share the generator.
template <class Clock = std::chrono::steady_clock, class Spoil = spoil_nothing>
class basic_chaos {
public:
    using clock_type = Clock;
    using context = basic_call_context<Clock>;

    explicit basic_chaos(chaos_options settings, Spoil spoil = {})
        : settings_(std::move(settings)),
          dice_(std::make_shared<dice>(settings_.seed_)),
          spoil_(std::move(spoil)) {}

    std::string describe() const { return "chaos"; }

    class call : public detail::layer_call {
    public:
        static constexpr bool refuses = false;

        explicit call(basic_chaos const& layer) : layer_(&layer) {}

        error_code enter(context& c) {
            c.count_start();
            chaos_options const& s = layer_->settings_;
            std::lock_guard lock(layer_->dice_->mutex);
            auto& random = layer_->dice_->random;
            std::uniform_real_distribution<double> chance(0, 1);
            pause_ = {};
            if (chance(random) < s.latency_) {
                pause_ = std::chrono::nanoseconds(std::uniform_int_distribution<std::int64_t>(
                    s.least_.count(), s.most_.count())(random));
            }
            double const fate = chance(random);
            loses_ = fate < s.lost_;
            fails_with_ = {};
            if (!loses_ && fate < s.lost_ + s.error_) fails_with_ = s.code_;
            else if (!loses_ && fate < s.lost_ + s.error_ + s.cancellation_)
                fails_with_ = boost::asio::error::operation_aborted;
            spoils_ = chance(random) < s.result_;
            if (pause_.count() > 0) return boost::asio::error::would_block;
            return fails_with_;
        }

        template <class Executor>
        boost::asio::awaitable<error_code, Executor> wait(context& c) {
            auto const executor = co_await boost::asio::this_coro::executor;
            auto const room = detail::alarm_room<Clock>::of(executor);
            auto until =
                detail::deadline_in<Clock>(std::chrono::ceil<typename Clock::duration>(pause_));
            bool const too_late = c.deadline() < until;
            if (too_late) until = c.deadline();
            auto waiting =
                room->async_wait_until(until, boost::asio::as_tuple(boost::asio::deferred));
            auto const result = co_await std::move(waiting);
            auto const& [ec] = result;
            if (ec != tidegate::error::deadline_exceeded) co_return ec;
            if (too_late) co_return tidegate::error::deadline_exceeded;
            co_return fails_with_;
        }

        template <class T>
        detail::step leave(context&, outcome<T>& result) {
            if (loses_) result.fail(failure(layer_->settings_.thrown_));
            if constexpr (std::is_invocable_v<Spoil const&, typename outcome<T>::value_type&>) {
                if (spoils_ && result) layer_->spoil_(result.value());
            }
            return {};
        }

    private:
        basic_chaos const* layer_;
        std::chrono::nanoseconds pause_{0};
        error_code fails_with_;
        bool loses_ = false;
        bool spoils_ = false;
    };

private:
    struct dice {
        explicit dice(std::uint64_t seed) : random(seed) {}

        std::mutex mutex;
        std::mt19937_64 random;
    };

    chaos_options settings_;
    std::shared_ptr<dice> dice_;
    Spoil spoil_;
};

using chaos = basic_chaos<>;

} // namespace testing
TIDEGATE_END_NAMESPACE
