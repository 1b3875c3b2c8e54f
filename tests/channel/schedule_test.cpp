// SPDX-License-Identifier: BSL-1.0
// The channel beside a plain model of it, through random schedules.
#include <tidegate/channel.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <ostream>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::channel_mode;
using tidegate::error;
using tidegate::error_code;

namespace {

struct schedule_clock {};
using clock_type = tidegate::testing::basic_manual_clock<schedule_clock>;
using channel_type = tidegate::basic_channel<int, clock_type>;
using time_point = clock_type::time_point;

/// How an operation ended. `value` counts for receivers only.
struct outcome {
    error_code ec;
    int value = 0;
    bool operator==(outcome const&) const = default;
    friend std::ostream& operator<<(std::ostream& to, outcome const& o) {
        return to << o.ec.message() << ' ' << o.value;
    }
};

/// What the documentation says, in the simplest code.
class model {
public:
    enum class kind { send, reserve };
    struct waiting {
        int id;
        kind what;
        int value;
        time_point deadline;
    };

    model(std::size_t capacity, channel_mode mode) : capacity_(capacity), mode_(mode) {}

    void send(int id, int value, time_point deadline) {
        if (closed_) done_[id] = {error::closed};
        else if (try_send(value)) done_[id] = {};
        else senders_.push_back({id, kind::send, value, deadline});
    }
    bool try_send(int value) {
        if (closed_) return false;
        bool const in_line = mode_ == channel_mode::wait && !senders_.empty();
        if (!in_line && !receivers_.empty()) {
            done_[receivers_.front().id] = {{}, value};
            receivers_.pop_front();
            return true;
        }
        if (senders_.empty() && has_room()) {
            buffer_.push_back(value);
            return true;
        }
        if (mode_ == channel_mode::wait) return false;
        if (mode_ == channel_mode::drop_newest || buffer_.empty()) {
            dropped_.push_back(value);
        } else {
            dropped_.push_back(buffer_.front());
            buffer_.pop_front();
            buffer_.push_back(value);
        }
        return true;
    }
    void reserve(int id, time_point deadline) {
        if (closed_) done_[id] = {error::closed};
        else senders_.push_back({id, kind::reserve, 0, deadline});
        serve();
    }
    void use_room(int value) {
        --reserved_;
        if (!closed_) {
            if (!receivers_.empty()) {
                done_[receivers_.front().id] = {{}, value};
                receivers_.pop_front();
            } else {
                buffer_.push_back(value);
            }
        }
        serve();
    }
    void give_back_room() {
        --reserved_;
        serve();
    }
    void receive(int id, time_point deadline) {
        if (auto value = try_receive()) done_[id] = {{}, *value};
        else if (closed_) done_[id] = {error::closed};
        else receivers_.push_back({id, kind::send, 0, deadline});
    }
    std::optional<int> try_receive() {
        std::optional<int> value;
        if (!buffer_.empty()) {
            value = buffer_.front();
            buffer_.pop_front();
        } else if (!senders_.empty() && senders_.front().what == kind::send) {
            value = senders_.front().value;
            done_[senders_.front().id] = {};
            senders_.pop_front();
        }
        serve();
        return value;
    }
    void cancel(int id) {
        leave(asio::error::operation_aborted, [id](waiting const& w) { return w.id == id; });
    }
    void time_is(time_point now) {
        leave(error::deadline_exceeded, [now](waiting const& w) { return w.deadline <= now; });
    }
    void close() {
        closed_ = true;
        leave(error::closed, [](waiting const&) { return true; });
    }

    std::map<int, outcome> const& done() const { return done_; }
    std::vector<int> const& dropped() const { return dropped_; }
    std::size_t reserved() const { return reserved_; }
    std::size_t size() const { return buffer_.size(); }

private:
    bool has_room() const { return buffer_.size() + reserved_ < capacity_; }

    void serve() {
        while (!senders_.empty()) {
            waiting const first = senders_.front();
            if (first.what == kind::send && !receivers_.empty()) {
                done_[receivers_.front().id] = {{}, first.value};
                receivers_.pop_front();
            } else if (!has_room()) {
                return;
            } else if (first.what == kind::send) {
                buffer_.push_back(first.value);
            } else {
                ++reserved_;
            }
            done_[first.id] = {};
            senders_.pop_front();
        }
    }

    template <class Who>
    void leave(error_code ec, Who who) {
        for (auto* const line : {&senders_, &receivers_}) {
            for (waiting const& w : *line) {
                if (who(w)) done_[w.id] = {ec};
            }
            std::erase_if(*line, who);
        }
        serve();
    }

    std::size_t capacity_;
    channel_mode mode_;
    bool closed_ = false;
    std::size_t reserved_ = 0;
    std::deque<int> buffer_;
    std::deque<waiting> senders_, receivers_;
    std::map<int, outcome> done_;
    std::vector<int> dropped_;
};

/// One schedule: the same steps for the channel and the model.
class schedule {
public:
    explicit schedule(test::random& random)
        : random_(random),
          capacity_(test::below(random, 4)),
          mode_(capacity_ ? static_cast<channel_mode>(test::below(random, 3))
                          : static_cast<channel_mode>(test::below(random, 2))),
          channel_(io_, tidegate::channel_options<int>().capacity(capacity_).mode(mode_).on_drop(
                            [this](int v) { dropped_.push_back(v); })),
          model_(capacity_, mode_) {}

    void run() {
        for (int step = 0; step < 24; ++step) {
            INFO("step " << step << ", capacity " << capacity_);
            take_step();
            settle();
            for (auto const& [id, o] : done_) UNSCOPED_INFO("operation " << id << ": " << o);
            for (auto const& [id, o] : model_.done()) UNSCOPED_INFO("modelled " << id << ": " << o);
            REQUIRE(done_ == model_.done());
            REQUIRE(dropped_ == model_.dropped());
            REQUIRE(channel_.reserved() == model_.reserved());
            REQUIRE(channel_.size() == model_.size());
        }
        rooms_.clear();
        channel_.close();
        settle();
    }

private:
    void expire() { model_.time_is(clock_type::now()); }

    template <class Handler>
    auto bind(Handler handler) {
        return asio::bind_cancellation_slot(signals_[next_ - 1].slot(), std::move(handler));
    }

    void take_step() {
        int const id = next_++;
        time_point deadline = time_point::max();
        if (test::below(random_, 3) == 0) {
            deadline = clock_type::now() + 1ms * static_cast<int>(test::below(random_, 4));
        }
        switch (test::below(random_, capacity_ ? 12 : 8)) {
        case 0:
        case 1:
            channel_.async_send_until(deadline, id,
                                      bind([this, id](error_code ec) { record(id, {ec}); }));
            model_.send(id, id, deadline);
            expire();
            break;
        case 2:
        case 3:
            channel_.async_receive_until(
                deadline, bind([this, id](error_code ec, int v) { record(id, {ec, v}); }));
            model_.receive(id, deadline);
            expire();
            break;
        case 4: REQUIRE(channel_.try_send(id) == model_.try_send(id)); break;
        case 5: REQUIRE(channel_.try_receive() == model_.try_receive()); break;
        case 6:
            if (!signals_.empty()) {
                auto const chosen =
                    std::next(signals_.begin(),
                              static_cast<std::ptrdiff_t>(test::below(random_, signals_.size())));
                chosen->second.emit(asio::cancellation_type::total);
                model_.cancel(chosen->first);
            }
            break;
        case 7:
            clock_type::advance(1ms);
            expire();
            break;
        case 8:
        case 9:
            channel_.async_reserve_until(
                deadline, bind([this, id](error_code ec, channel_type::reservation room) {
                    record(id, {ec});
                    if (room) rooms_.push_back(std::move(room));
                }));
            model_.reserve(id, deadline);
            expire();
            break;
        case 10:
            if (rooms_.empty()) break;
            static_cast<void>(rooms_.front().send(int{id}));
            rooms_.pop_front();
            model_.use_room(id);
            break;
        case 11:
            if (rooms_.empty()) break;
            rooms_.pop_front();
            model_.give_back_room();
            break;
        }
        if (test::below(random_, 60) == 0) {
            settle();
            channel_.close();
            model_.close();
        }
    }

    void record(int id, outcome o) {
        REQUIRE_FALSE(done_.contains(id)); // each handler runs once
        done_[id] = o;
    }

    void settle() {
        io_.restart();
        io_.poll();
    }

    test::random& random_;
    std::map<int, asio::cancellation_signal> signals_;
    asio::io_context io_;
    std::size_t capacity_;
    channel_mode mode_;
    channel_type channel_;
    model model_;
    int next_ = 1;
    std::map<int, outcome> done_;
    std::vector<int> dropped_;
    std::deque<channel_type::reservation> rooms_;
};

} // namespace

TEST_CASE("random schedules go as the model says", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t i = 0; i < test::schedules(); ++i) schedule(random).run();
    }
}
