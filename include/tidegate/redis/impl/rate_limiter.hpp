// SPDX-License-Identifier: BSL-1.0
// Asking Redis for permits, and deciding without it.
#pragma once

#include <tidegate/detail/deadline.hpp>
#include <tidegate/keyed_rate_limiter.hpp>
#include <tidegate/redis/detail/exec.hpp>
#include <tidegate/redis/detail/gcra.hpp>
#include <tidegate/redis/detail/known_refusals.hpp>
#include <tidegate/redis/rate_limiter.hpp>
#include <tidegate/sleep.hpp>

#include <boost/system/system_error.hpp>

#include <algorithm>
#include <atomic>
#include <optional>
#include <set>
#include <stdexcept>

TIDEGATE_BEGIN_NAMESPACE
namespace redis {
namespace detail {

class rate_limiter_state {
public:
    using clock = std::chrono::steady_clock;
    using time_point = clock::time_point;
    using nanoseconds = std::chrono::nanoseconds;
    using decision = rate_decision<nanoseconds>;
    using decide = tidegate::detail::rate_decision_maker;
    using self_type = std::shared_ptr<rate_limiter_state>;
    template <class T>
    using awaitable = boost::asio::awaitable<T>;

    /// So many permits of a key of one limiter.
    struct ask {
        self_type limiter;
        std::string key;
        std::uint64_t permits;
        std::uint64_t forgotten = 0; // see known_refusals
    };
    using asks = std::vector<ask>;

    rate_limiter_state(connection_pointer connection, rate_limiter_options&& settings)
        : connection_(checked(std::move(connection))),
          settings_(checked(std::move(settings))),
          breaker_(settings_.breaker()),
          refusals_(settings_.known_refusals()),
          permit_(fine_time::of_permit(quota().permits(),
                                       static_cast<std::uint64_t>(quota().period().count()))),
          burst_(quota().burst() * permit_),
          local_(local_quota(settings_)) {}

    connection_pointer const& connection() const noexcept { return connection_; }
    rate_limiter_options const& settings() const noexcept { return settings_; }
    tidegate::rate_limiter_options const& quota() const noexcept { return settings_.quota(); }
    circuit_breaker& breaker() noexcept { return breaker_; }
    bool grants(std::uint64_t n) const noexcept { return n > 0 && n <= quota().burst(); }

    // Asking ------------------------------------------------------------------------------------

    /// For one limiter, or for all of them; the first one's connection and breaker are used.
    static awaitable<decision> try_acquire(asks all) {
        for (ask const& one : all) {
            if (!one.limiter->grants(one.permits)) co_return decide::invalid_count();
        }
        auto const begun = clock::now();
        if (auto const known = refused_before(all, begun)) co_return *known;
        auto asking = ask_redis(all, gcra_action::take);
        auto const answer = co_await std::move(asking);
        if (!answer) co_return without_redis(all, begun);
        if (answer->granted) {
            for (ask const& one : all) ++one.limiter->granted_;
            co_return decision::grant();
        }
        nanoseconds const wait = std::chrono::microseconds(answer->wait_micros);
        ask const& slowest = all[std::min(answer->slowest, all.size() - 1)];
        // Counted from before the call, so that nobody is refused whom Redis would admit.
        slowest.limiter->refusals_.remember(slowest.key, slowest.permits, begun + wait,
                                            slowest.forgotten);
        for (ask const& one : all) ++one.limiter->refused_;
        co_return decide::rate_limited(wait);
    }

    static awaitable<decision> peek(ask one) {
        self_type const self = one.limiter;
        if (!self->grants(one.permits)) co_return decide::invalid_count();
        asks all;
        all.push_back(std::move(one));
        auto asking = ask_redis(all, gcra_action::peek);
        auto const answer = co_await std::move(asking);
        if (answer && !answer->granted)
            co_return decide::rate_limited(std::chrono::microseconds(answer->wait_micros));
        if (!answer && self->settings_.on_failure() == when_redis_fails::refuse)
            co_return decide::rate_limited(self->until_asked_again());
        co_return decision::grant();
    }

    static awaitable<std::uint64_t> available(ask one) {
        self_type const self = one.limiter;
        asks all;
        all.push_back(std::move(one));
        auto asking = ask_redis(all, gcra_action::peek);
        auto const answer = co_await std::move(asking);
        if (!answer) co_return self->quota().burst();
        co_return self->permits_beside(answer->until_full_micros);
    }

    static awaitable<bool> refund(ask one) {
        self_type const self = one.limiter;
        if (!self->grants(one.permits)) co_return false;
        self->refusals_.forget(one.key);
        asks all;
        all.push_back(std::move(one));
        auto asking = ask_redis(all, gcra_action::refund);
        auto const answer = co_await std::move(asking);
        // Who asked Redis first, and hears of its refusal last, is not to remember that.
        self->refusals_.forget(all.front().key);
        co_return answer.has_value();
    }

    static awaitable<void> acquire(ask one, time_point deadline) {
        self_type const self = one.limiter;
        deadline = std::min(
            deadline, tidegate::detail::deadline_in<clock>(
                          std::chrono::duration_cast<clock::duration>(self->quota().max_wait())));
        for (;;) {
            asks all{one};
            auto asking = try_acquire(std::move(all));
            auto const answer = co_await std::move(asking);
            if (answer) co_return;
            if (answer.error() != error::rate_limited)
                throw boost::system::system_error(answer.error());
            auto const wait = answer.retry_after();
            if (wait == nanoseconds::max() || wait > deadline - clock::now())
                throw boost::system::system_error(error::rate_limited);
            auto waiting = sleep_for(std::chrono::ceil<clock::duration>(wait));
            co_await std::move(waiting);
        }
    }

    rate_limiter_statistics statistics() const noexcept {
        rate_limiter_statistics all;
        all.granted = granted_;
        all.refused = refused_;
        all.refused_locally = refused_locally_;
        all.without_redis = without_redis_;
        all.failed_calls = failed_calls_;
        all.scripts_sent = scripts_sent_;
        return all;
    }

private:
    using counter = std::atomic<std::uint64_t>;
    static constexpr std::size_t most_local_keys = 100'000;

    static connection_pointer checked(connection_pointer connection) {
        if (!connection)
            throw std::invalid_argument("tidegate: redis::rate_limiter needs a connection");
        return connection;
    }
    static rate_limiter_options checked(rate_limiter_options&& settings) {
        auto const& quota = settings.quota();
        tidegate::detail::check_option<std::uint64_t>("redis::rate_limiter permits a period",
                                                      quota.permits(), 1, std::uint64_t{1} << 62);
        double const seconds = static_cast<double>(quota.burst()) * 1e-9 *
                               static_cast<double>(quota.period().count()) /
                               static_cast<double>(quota.permits());
        tidegate::detail::check_option<double>("redis::rate_limiter time to earn a burst in s",
                                               seconds, 0, 3'155'760'000);
        return std::move(settings);
    }

    // A part of the rate for this process. Keys that it has no room for are not turned away.
    static keyed_rate_limiter_options<std::string> local_quota(rate_limiter_options const& all) {
        auto const& quota = all.quota();
        std::int64_t const longest = std::int64_t{1} << 62;
        auto const share = static_cast<std::int64_t>(all.local_share());
        auto const period = quota.period().count();
        return keyed_rate_limiter_options<std::string>()
            .rate(quota.permits(), nanoseconds(period > longest / share ? longest : period * share))
            .burst(std::max<std::uint64_t>(quota.burst() / all.local_share(), 1))
            .max_keys(most_local_keys)
            .when_full(when_keys_full::share);
    }

    std::uint64_t permits_beside(std::uint64_t used_micros) const noexcept {
        std::uint64_t const there = burst_.micros > used_micros ? burst_.micros - used_micros : 0;
        double const each = static_cast<double>(permit_.micros) +
                            static_cast<double>(permit_.part) / fine_time::parts;
        double const part = static_cast<double>(burst_.part) / fine_time::parts;
        auto const whole =
            static_cast<std::uint64_t>((static_cast<double>(there) + part) / each + 1e-6);
        return used_micros > 0 ? std::min(whole, quota().burst()) : quota().burst();
    }

    static std::optional<decision> refused_before(asks& all, time_point now) {
        std::optional<time_point> latest;
        for (ask& one : all) {
            auto const known = one.limiter->refusals_.look(one.key, one.permits, now);
            one.forgotten = known.forgotten;
            if (known.until && (!latest || *known.until > *latest)) latest = known.until;
        }
        if (!latest) return std::nullopt;
        for (ask const& one : all) {
            ++one.limiter->refused_;
            ++one.limiter->refused_locally_;
        }
        return decide::rate_limited(*latest - now);
    }

    // Calling Redis -----------------------------------------------------------------------------

    /// Nothing if Redis did not answer.
    static awaitable<std::optional<gcra_answer>> ask_redis(asks const& all, gcra_action action) {
        self_type const self = all.front().limiter;
        auto permit = self->breaker_.try_acquire();
        if (!permit) co_return std::nullopt;
        std::vector<gcra_limit> limits;
        limits.reserve(all.size());
        for (ask const& one : all) {
            auto const& of = *one.limiter;
            limits.push_back(
                {of.settings_.prefix() + one.key, one.permits * of.permit_, of.burst_});
        }
        auto const deadline = tidegate::detail::deadline_in<clock>(
            std::chrono::ceil<clock::duration>(self->settings_.time_limit()));
        for (bool by_name : {true, false}) {
            auto const sent = std::make_shared<detail::call>();
            push_gcra(sent->request, by_name, action, limits);
            auto asking = exec_until(self->connection_, sent, deadline);
            error_code const ec = co_await std::move(asking);
            if (ec == boost::asio::error::operation_aborted) {
                permit.ignore();
                throw boost::system::system_error(ec);
            }
            if (!ec && by_name && is_unknown_script(sent->answer)) {
                ++self->scripts_sent_;
                continue;
            }
            auto const answer = ec ? std::nullopt : read_gcra(sent->answer);
            if (answer) permit.success();
            else self->note_failure(permit, ec);
            co_return answer;
        }
        co_return std::nullopt;
    }

    static bool is_unknown_script(replies const& answer) noexcept {
        return answer.nodes.size() == 1 && answer.nodes[0].is_error() &&
               answer.nodes[0].value.starts_with("NOSCRIPT");
    }

    void note_failure(circuit_breaker::permit& permit, error_code ec) {
        ++failed_calls_;
        permit.failure(ec ? ec : boost::redis::error::resp3_simple_error);
    }

    // Without Redis -----------------------------------------------------------------------------

    nanoseconds until_asked_again() const {
        return std::max<nanoseconds>(breaker_.retry_after(), settings_.time_limit());
    }

    static decision without_redis(asks const& all, time_point now) {
        decision last = decision::grant();
        std::size_t taken = 0;
        while (taken < all.size() && (last = all[taken].limiter->decide_alone(all[taken], now)))
            ++taken;
        for (ask const& one : all) {
            ++one.limiter->without_redis_;
            ++(last ? one.limiter->granted_ : one.limiter->refused_);
        }
        if (last) return last;
        while (taken-- > 0) {
            ask const& one = all[taken];
            one.limiter->local_.refund(one.key, one.limiter->local_count(one.permits));
        }
        return last;
    }

    // More than this process' part of the burst: all of the part.
    std::uint64_t local_count(std::uint64_t permits) const noexcept {
        return std::min(permits, local_.settings().quota().burst());
    }

    decision decide_alone(ask const& one, time_point now) {
        switch (settings_.on_failure()) {
        case when_redis_fails::admit: break;
        case when_redis_fails::refuse: return decide::rate_limited(until_asked_again());
        case when_redis_fails::local:
            return local_.try_acquire(one.key, local_count(one.permits), now);
        }
        return decision::grant();
    }

    connection_pointer const connection_;
    rate_limiter_options const settings_;
    circuit_breaker breaker_;
    known_refusals refusals_;
    fine_time const permit_;
    fine_time const burst_;
    keyed_rate_limiter<std::string> local_;
    counter granted_{0};
    counter refused_{0};
    counter refused_locally_{0};
    counter without_redis_{0};
    counter failed_calls_{0};
    counter scripts_sent_{0};
};

} // namespace detail

inline rate_limiter::rate_limiter(std::shared_ptr<boost::redis::connection> connection,
                                  options settings)
    : state_(std::make_shared<detail::rate_limiter_state>(std::move(connection),
                                                          std::move(settings))) {}

inline auto rate_limiter::try_acquire(std::string key, std::uint64_t n) -> awaitable<decision> {
    detail::rate_limiter_state::asks all;
    all.push_back({state_, std::move(key), n});
    return detail::rate_limiter_state::try_acquire(std::move(all));
}

inline auto rate_limiter::peek(std::string key, std::uint64_t n) -> awaitable<decision> {
    return detail::rate_limiter_state::peek({state_, std::move(key), n});
}

inline auto rate_limiter::available(std::string key) -> awaitable<std::uint64_t> {
    return detail::rate_limiter_state::available({state_, std::move(key), 1});
}

inline auto rate_limiter::refund(std::string key, std::uint64_t n) -> awaitable<bool> {
    return detail::rate_limiter_state::refund({state_, std::move(key), n});
}

inline auto rate_limiter::acquire(std::string key, std::uint64_t n) -> awaitable<void> {
    return acquire_until(time_point::max(), std::move(key), n);
}

inline auto rate_limiter::acquire_for(duration limit, std::string key, std::uint64_t n)
    -> awaitable<void> {
    using clock = std::chrono::steady_clock;
    auto const deadline =
        tidegate::detail::deadline_in<clock>(std::chrono::duration_cast<clock::duration>(limit));
    return acquire_until(deadline, std::move(key), n);
}

inline auto rate_limiter::acquire_until(time_point deadline, std::string key, std::uint64_t n)
    -> awaitable<void> {
    return detail::rate_limiter_state::acquire({state_, std::move(key), n}, deadline);
}

inline auto rate_limiter::settings() const noexcept -> options const& { return state_->settings(); }
inline rate_limiter_statistics rate_limiter::statistics() const noexcept {
    return state_->statistics();
}
inline circuit_breaker& rate_limiter::breaker() noexcept { return state_->breaker(); }

inline boost::asio::awaitable<rate_limiter::decision>
try_acquire_all(std::vector<rate_request> asked) {
    if (asked.empty())
        throw std::invalid_argument("tidegate: redis::try_acquire_all needs a limiter");
    detail::rate_limiter_state::asks all;
    std::set<std::string> names;
    for (rate_request& one : asked) {
        auto const& state = one.limiter.state_;
        if (state->connection() != asked.front().limiter.state_->connection())
            throw std::invalid_argument("tidegate: redis::try_acquire_all needs one connection");
        if (!names.insert(state->settings().prefix() + one.key).second)
            throw std::invalid_argument("tidegate: redis::try_acquire_all needs different keys");
        all.push_back({state, std::move(one.key), one.permits});
    }
    return detail::rate_limiter_state::try_acquire(std::move(all));
}

} // namespace redis
TIDEGATE_END_NAMESPACE
