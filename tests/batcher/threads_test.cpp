// SPDX-License-Identifier: BSL-1.0
// A batcher that several threads submit to.
#include "batcher/support.hpp"

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>

#include <algorithm>
#include <atomic>
#include <thread>

namespace asio = boost::asio;
using tidegate::batcher_options;

namespace {

/// Submits items from a strand of its own, where it cancels some of them.
template <class Batcher>
class client {
public:
    client(asio::io_context& io, Batcher& batches, std::uint64_t seed)
        : here_(asio::make_strand(io)), batches_(batches), random_(seed) {}

    void start(int from, int items) {
        asio::post(here_, [this, from, items] { submit_next(from, from + items); });
    }

    bool all_is_well() const {
        return std::ranges::all_of(calls_, [](call const& c) {
            bool const cancelled = c.why == asio::error::operation_aborted;
            return c.completions == 1 && c.was_here &&
                   (cancelled || (!c.why && c.result == 2 * c.item));
        });
    }
    std::size_t calls() const { return calls_.size(); }

private:
    struct call {
        explicit call(int i) : item(i) {}

        int item;
        asio::cancellation_signal signal;
        int completions = 0;
        bool was_here = false;
        int result = -1;
        tidegate::error_code why;
    };

    void submit_next(int item, int end) {
        if (item == end) return;
        call& mine = calls_.emplace_back(item);
        auto ended = [this, &mine](std::exception_ptr e, int result) {
            ++mine.completions;
            mine.was_here = here_.running_in_this_thread();
            mine.result = result;
            mine.why = test::code_of(e);
        };
        batches_.async_submit(
            item, asio::bind_executor(
                      here_, asio::bind_cancellation_slot(mine.signal.slot(), std::move(ended))));
        if (test::below(random_, 4) == 0) {
            std::size_t const back = test::below(random_, std::min<std::size_t>(8, calls_.size()));
            calls_[calls_.size() - 1 - back].signal.emit(asio::cancellation_type::total);
        }
        asio::post(here_, [this, item, end] { submit_next(item + 1, end); });
    }

    asio::strand<asio::io_context::executor_type> here_;
    Batcher& batches_;
    test::random random_;
    std::deque<call> calls_;
};

} // namespace

TEST_CASE("several threads submit: each caller hears once, and of its own item", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 2000);
        for (std::size_t round = 0; round < rounds; ++round) {
            constexpr int items = 200;
            constexpr std::size_t largest = 8;
            std::atomic<bool> too_large = false;
            asio::io_context io;
            tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(2));
            auto run = [&](std::span<int> batch) {
                if (batch.size() > largest) too_large = true;
                return test::doubled(batch);
            };
            using batcher = tidegate::batcher<int, int>;
            batcher batches(pool, batcher_options().max_size(largest).queue(6), run);
            std::deque<client<batcher>> clients;
            for (int i = 0; i < 4; ++i) {
                clients.emplace_back(io, batches, random()).start(i * items, items);
            }
            std::thread other([&] { io.run(); });
            io.run();
            other.join();
            CHECK_FALSE(too_large);
            for (auto const& one : clients) {
                CHECK(one.calls() == items);
                CHECK(one.all_is_well());
            }
        }
    }
}
