// SPDX-License-Identifier: BSL-1.0
// A channel between coroutines of several threads, some of which give up.
#include <tidegate/channel.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using tidegate::channel;

namespace {

constexpr int senders = 4;
constexpr int receivers = 3;
constexpr int values_each = 200;

using time_point = std::chrono::steady_clock::time_point;
using strand = asio::strand<asio::io_context::executor_type>;

/// Who sends or receives, on a strand: only there its operations are cancelled.
class party {
public:
    party(asio::io_context& io, std::uint64_t seed)
        : io_(io), here_(asio::make_strand(io)), random_(seed) {}

    strand const& here() const { return here_; }
    std::size_t below(std::size_t limit) { return test::below(random_, limit); }

    /// None, or one that may come first.
    time_point deadline() {
        if (below(3) > 0) return time_point::max();
        return std::chrono::steady_clock::now() + std::chrono::microseconds(below(50));
    }
    /// Not to be cancelled, or cancelled after some turns of others, which may be too late.
    auto token() {
        asio::cancellation_slot slot;
        if (below(3) == 0) {
            signals_.push_back(std::make_unique<asio::cancellation_signal>());
            emit_after(below(4), *signals_.back());
            slot = signals_.back()->slot();
        }
        return asio::bind_cancellation_slot(slot, asio::as_tuple(asio::deferred));
    }

private:
    void emit_after(std::size_t turns, asio::cancellation_signal& signal) {
        if (turns == 0) {
            asio::post(here_, [&signal] { signal.emit(asio::cancellation_type::total); });
        } else {
            asio::post(io_, [=, this, &signal] { emit_after(turns - 1, signal); });
        }
    }

    asio::io_context& io_;
    strand here_;
    test::random random_;
    std::vector<std::unique_ptr<asio::cancellation_signal>> signals_;
};

/// What was sent, and what each receiver got in its order.
struct exchange {
    explicit exchange(std::size_t capacity) : values(io, capacity) {}

    asio::awaitable<void> send(party& self, int number) {
        for (int i = 0; i < values_each; ++i) {
            int const value = number * values_each + i;
            bool was_sent = false;
            if (values.capacity() == 0 || self.below(2) == 0) {
                auto sending = values.async_send_until(self.deadline(), value, self.token());
                auto const [ec] = co_await std::move(sending);
                note_executor(self);
                was_sent = !ec;
            } else {
                auto reserving = values.async_reserve_until(self.deadline(), self.token());
                auto [ec, room] = co_await std::move(reserving);
                note_executor(self);
                // Else it is given back.
                if (!ec && self.below(3) > 0) was_sent = room.send(int{value});
            }
            sent[static_cast<std::size_t>(value)] = was_sent;
        }
        if (--still_sending == 0) values.close();
    }

    asio::awaitable<void> receive(party& self, std::vector<int>& into) {
        for (;;) {
            auto receiving = values.async_receive_until(self.deadline(), self.token());
            auto const [ec, value] = co_await std::move(receiving);
            note_executor(self);
            if (ec == tidegate::error::closed) co_return;
            if (!ec) into.push_back(value);
        }
    }

    void note_executor(party const& self) {
        if (!self.here().running_in_this_thread()) elsewhere = true;
    }

    std::vector<char> sent = std::vector<char>(senders * values_each);
    std::vector<std::vector<int>> got = std::vector<std::vector<int>>(receivers);
    std::atomic<int> still_sending = senders;
    std::atomic<bool> elsewhere = false;
    asio::io_context io;
    channel<int> values;
    std::deque<party> parties; // whose strands must not outlive their context
};

} // namespace

TEST_CASE("threads that send, reserve, receive and give up lose and double nothing", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 1000);
        for (std::size_t round = 0; round < rounds; ++round) {
            exchange e(test::below(random, 4));
            for (int i = 0; i < senders; ++i) {
                party& one = e.parties.emplace_back(e.io, random());
                asio::co_spawn(one.here(), e.send(one, i), asio::detached);
            }
            for (auto& got : e.got) {
                party& one = e.parties.emplace_back(e.io, random());
                asio::co_spawn(one.here(), e.receive(one, got), asio::detached);
            }
            std::thread other([&] { e.io.run(); });
            e.io.run();
            other.join();

            std::vector<char> received(e.sent.size());
            bool doubled = false, in_order = true;
            for (auto const& got : e.got) {
                std::vector<int> last(senders, -1);
                for (int const value : got) {
                    doubled |= std::exchange(received[static_cast<std::size_t>(value)], 1) != 0;
                    int& before = last[static_cast<std::size_t>(value / values_each)];
                    in_order &= std::exchange(before, value) < value;
                }
            }
            CHECK_FALSE(e.elsewhere);
            CHECK_FALSE(doubled);
            CHECK(in_order); // each receiver sees those of each sender so
            CHECK(received == e.sent);
            CHECK(e.values.size() == 0);
            CHECK(e.values.reserved() == 0);
        }
    }
}
