// SPDX-License-Identifier: BSL-1.0
// Items that there is no memory for are not in the queue, and batches that there is none for fail.
#include "batcher/support.hpp"

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_allocator.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

using test::batches;
using test::held_batcher;
using tidegate::batcher;
using tidegate::batcher_options;
using tidegate::worker_pool;
using tidegate::worker_pool_options;

namespace {

bool is_bad_alloc(std::exception_ptr const& e) {
    if (!e) return false;
    try {
        std::rethrow_exception(e);
    } catch (std::bad_alloc const&) {
        return true;
    } catch (...) {
        return false;
    }
}

/// A pool that needs memory for the next job that is posted: its only thread is busy until `open`,
/// and all jobs of its first block are taken.
class full_pool {
public:
    full_pool() {
        bool taken = pool.post([this] {
            inside_ = true;
            inside_.notify_one();
            open_.wait(false);
        });
        inside_.wait(false);
        auto before = test::allocated();
        for (int i = 1; i < 16; ++i) taken = pool.post([] {}) && taken;
        CHECK(test::allocated() == before);
        CHECK(taken);
    }
    ~full_pool() { open(); }
    full_pool(full_pool const&) = delete;
    full_pool& operator=(full_pool const&) = delete;

    void open() {
        open_ = true;
        open_.notify_one();
    }

private:
    std::atomic<bool> inside_ = false, open_ = false;

public:
    boost::asio::io_context io;
    worker_pool pool{io, worker_pool_options().threads(1).measure_every(0)};
};

/// Memory for handlers that is not counted. While it spoils, the next that is counted is refused
/// each time that some of this was taken.
bool spoils = false;
template <class T>
struct spoiling_allocator {
    using value_type = T;

    spoiling_allocator() = default;
    template <class U>
    spoiling_allocator(spoiling_allocator<U> const&) noexcept {}

    T* allocate(std::size_t n) {
        if (spoils) test::fail_allocation(1);
        return static_cast<T*>(std::malloc(n * sizeof(T)));
    }
    void deallocate(T* p, std::size_t) noexcept { std::free(p); }
    friend bool operator==(spoiling_allocator const&, spoiling_allocator const&) = default;
};

} // namespace

TEST_CASE("an item that finds no memory to wait with leaves nothing of its source behind") {
    auto const tens = [](int item) { return item / 10; };
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        held_batcher held(batcher_options().max_size(8), std::monostate(), tens);
        held.submit(10);
        held.calls.emplace_back();
        bool thrown = false;
        test::fail_allocation(n);
        try {
            held.calls.back().start(held.b, 20);
        } catch (std::bad_alloc const&) {
            thrown = true;
        }
        failed = test::until_failure() == 0;
        test::fail_allocation(0);
        CHECK(held.b.queued() == (failed ? 1u : 2u));
        held.submit(11);
        held.submit(30);
        auto const ran = held.open();
        if (failed) CHECK(ran == batches{{10, 30, 11}});
        else CHECK(ran == batches{{10, 20, 30, 11}});
        CHECK(held.calls[1].completions == (thrown ? 0 : 1));
        CHECK((held.calls[1].failure != nullptr) == (failed && !thrown));
    }
}

TEST_CASE("a batch that finds no memory to be run fails, and no other") {
    for (std::size_t n = 1; n <= 2; ++n) { // for the block of jobs, and for the list of blocks
        INFO("allocation " << n);
        std::array<test::call, 3> calls;
        full_pool full;
        batcher<int, int> b(full.pool,
                            batcher_options().max_delay(std::chrono::hours(1)).max_in_flight(3),
                            test::doubled, [](int item) { return item; });
        for (int i = 0; i < 3; ++i) calls[static_cast<std::size_t>(i)].start(b, i);
        test::fail_allocation(n);
        bool thrown = false;
        try {
            b.flush();
        } catch (std::bad_alloc const&) {
            thrown = true;
        }
        CHECK(test::until_failure() == 0);
        test::fail_allocation(0);
        CHECK_FALSE(thrown);
        full.open();
        full.io.run_for(std::chrono::seconds(thrown ? 1 : 60)); // returns when all is done
        int failed = 0;
        for (auto const& call : calls) {
            CHECK(call.completions == 1);
            failed += is_bad_alloc(call.failure);
        }
        CHECK(failed == 1);
        CHECK(b.queued() == 0);
    }
}

TEST_CASE("an item whose batch finds no memory to be run fails, once") {
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        test::call call;
        full_pool full;
        batcher<int, int> b(full.pool, batcher_options(), test::doubled);
        bool thrown = false;
        test::fail_allocation(n);
        try {
            call.start(b, 1);
        } catch (std::bad_alloc const&) {
            thrown = true;
        }
        failed = test::until_failure() == 0;
        test::fail_allocation(0);
        full.open();
        full.io.run();
        CHECK(call.completions == (thrown ? 0 : 1));
        CHECK(is_bad_alloc(call.failure) == (failed && !thrown));
        CHECK(b.queued() == 0);
    }
}

TEST_CASE("of batches that all find no memory to be run, each fails") {
    std::array<int, 3> failures{};
    full_pool full;
    batcher<int, int> b(full.pool,
                        batcher_options().max_delay(std::chrono::hours(1)).max_in_flight(1),
                        test::doubled, [](int item) { return item; });
    for (int i = 0; i < 3; ++i) {
        b.async_submit(i, boost::asio::bind_allocator(
                              spoiling_allocator<void>(), [&, i](std::exception_ptr e, int) {
                                  failures[static_cast<std::size_t>(i)] += is_bad_alloc(e);
                              }));
    }
    spoils = true;
    test::fail_allocation(1);
    b.flush();
    spoils = false;
    test::fail_allocation(0);
    CHECK(b.queued() == 0);
    full.open();
    full.io.run();
    CHECK(failures == std::array{1, 1, 1});
}

TEST_CASE("a batch that finds no memory for its items when it is its turn fails, and no other") {
    for (std::size_t n = 1; n <= 2; ++n) { // for the batch, and for its items
        INFO("allocation " << n);
        boost::asio::io_context io;
        std::atomic<bool> open = false;
        worker_pool pool(io, worker_pool_options().threads(1).measure_every(0));
        bool const taken = pool.post([&] {
            open.wait(false);
            test::fail_allocation(n);
        });
        CHECK(taken);
        batcher<int, int> b(pool, batcher_options(), test::doubled);
        test::call first, second;
        first.start(b, 1);
        open = true;
        open.notify_one();
        io.run();
        CHECK(test::until_failure() == 0);
        test::fail_allocation(0);
        CHECK(first.completions == 1);
        CHECK(is_bad_alloc(first.failure));
        CHECK(b.queued() == 0);
        second.start(b, 2);
        io.restart();
        io.run();
        CHECK(second.completions == 1);
        CHECK(second.failure == nullptr);
    }
}
