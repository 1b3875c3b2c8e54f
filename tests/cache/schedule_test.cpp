// SPDX-License-Identifier: BSL-1.0
// Random schedules of everything that can happen to a cache and its loads, step by step beside a
// model.
#include "cache/support.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::cache_clock;

constexpr int keys = 3;
constexpr std::chrono::nanoseconds time_to_live = 50ms;
constexpr std::chrono::nanoseconds load_timeout = 70ms;

// What the outside of a load sees, and what the model says of it.
struct load_record {
    explicit load_record(asio::io_context& io) : permits(io, 1), shut(permits.try_acquire()) {}

    tidegate::semaphore permits;
    tidegate::semaphore::permit shut;
    bool deaf = false;
    bool fails = false;
    bool heard = false; // a cancellation

    // The model.
    int key = 0;
    int result = 0;
    cache_clock::time_point deadline;
    std::set<int> waiting;
    bool current = true; // neither fenced nor over
    bool over = false;
};

struct ask_record {
    test::asking<int> real;
    // The model: what it must have got, once it is done.
    bool done = false;
    bool fails = false;
    int value = 0;
};

class schedule {
public:
    explicit schedule(test::random& random)
        : random_(random),
          cache_(io_, tidegate::cache_options<int, int>{}
                          .max_entries(100)
                          .time_to_live(time_to_live)
                          .load_timeout(load_timeout)) {}

    std::string steps(int count) {
        for (int i = 0; i < count; ++i) {
            step();
            if (!agree()) return done_ + " <- here";
        }
        cache_.close();
        run();
        return {};
    }

private:
    struct entry {
        int value;
        cache_clock::time_point until;
    };

    void note(char const* what, int key) {
        done_.append(" ").append(what).append(":").append(std::to_string(key));
    }
    void run() {
        io_.restart();
        io_.poll();
    }
    int some_key() { return static_cast<int>(test::below(random_, keys)); }

    void step() {
        std::size_t const choice = test::below(random_, 100);
        if (choice < 40) ask(some_key());
        else if (choice < 55) finish();
        else if (choice < 70) cancel();
        else if (choice < 80) put(some_key());
        else if (choice < 86) invalidate(some_key());
        else if (choice < 88) invalidate_all();
        else advance();
        run();
    }

    entry* fresh(int key) {
        auto const it = entries_.find(key);
        return it != entries_.end() && it->second.until > cache_clock::now() ? &it->second
                                                                             : nullptr;
    }
    load_record* current_load(int key) {
        for (auto& one : loads_) {
            if (one->key == key && one->current) return one.get();
        }
        return nullptr;
    }

    void ask(int key) {
        note("ask", key);
        auto& one = asks_.emplace_back();
        int const id = static_cast<int>(asks_.size() - 1);
        if (entry const* const there = fresh(key)) {
            one.done = true;
            one.value = there->value;
        } else if (load_record* const joined = current_load(key)) {
            joined->waiting.insert(id);
        } else {
            auto made = std::make_shared<load_record>(io_);
            made->key = key;
            made->result = ++results_;
            made->deaf = random_() % 4 == 0;
            made->deadline = cache_clock::now() + load_timeout;
            made->waiting.insert(id);
            loads_.push_back(made);
            next_ = made;
        }
        one.real.ask(io_, cache_, key, load_);
        run();
    }

    asio::awaitable<int> load(int) {
        auto const mine = std::exchange(next_, nullptr);
        if (!mine) {
            ++unexpected_;
            co_return -1;
        }
        if (mine->deaf) {
            co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        }
        tidegate::error_code ec;
        auto const passed =
            co_await mine->permits.async_acquire(1, asio::redirect_error(asio::deferred, ec));
        if (ec) {
            mine->heard = true;
            throw boost::system::system_error(ec);
        }
        if (mine->fails) throw std::runtime_error("load");
        co_return mine->result;
    }

    // A load that is still at it comes to its end.
    void finish() {
        std::erase_if(loads_,
                      [](auto const& one) { return one->over && (!one->shut || one->heard); });
        if (loads_.empty()) return;
        auto const one = loads_[test::below(random_, loads_.size())];
        if (!one->shut) return;
        one->fails = random_() % 4 == 0;
        note(one->fails ? "fail" : "finish", one->key);
        one->shut.release();
        if (one->over) return;
        for (int const id : one->waiting) settle(id, one->fails, one->result);
        if (one->current && !one->fails) {
            entries_[one->key] = {one->result, cache_clock::now() + time_to_live};
        }
        end(*one);
    }

    void settle(int id, bool fails, int value) {
        auto& a = asks_[static_cast<std::size_t>(id)];
        a.done = true;
        a.fails = fails;
        a.value = value;
    }
    void end(load_record& one) {
        one.over = true;
        one.current = false;
        one.waiting.clear();
    }

    void cancel() {
        if (asks_.empty()) return;
        int const id = static_cast<int>(test::below(random_, asks_.size()));
        note("cancel", id);
        asks_[static_cast<std::size_t>(id)].real.cancel();
        for (auto& one : loads_) {
            if (!one->waiting.erase(id)) continue;
            settle(id, true, 0);
            if (one->waiting.empty()) end(*one);
        }
    }

    void fence(int key) {
        if (load_record* const one = current_load(key)) one->current = false;
    }
    void put(int key) {
        note("put", key);
        fence(key);
        cache_.put(key, ++results_);
        entries_[key] = {results_, cache_clock::now() + time_to_live};
    }
    void invalidate(int key) {
        note("invalidate", key);
        fence(key);
        cache_.invalidate(key);
        entries_.erase(key);
    }
    void invalidate_all() {
        note("invalidate_all", 0);
        for (int k = 0; k < keys; ++k) fence(k);
        cache_.invalidate_all();
        entries_.clear();
    }

    void advance() {
        auto const by = std::chrono::milliseconds(1 + test::below(random_, 40));
        note("advance", static_cast<int>(by.count()));
        cache_clock::advance(by);
        for (auto& one : loads_) {
            if (one->over || one->deadline > cache_clock::now()) continue;
            for (int const id : one->waiting) settle(id, true, 0);
            end(*one);
        }
    }

    bool agree() {
        if (unexpected_) return false;
        for (auto& a : asks_) {
            if (a.real.done != a.done) return false;
            if (a.done && a.fails != bool(a.real.failure)) return false;
            if (a.done && !a.fails && a.real.value != a.value) return false;
        }
        std::size_t running = 0;
        for (auto const& one : loads_) {
            running += !one->over;
            // It was cancelled if and only if nobody wanted it any more.
            bool const ought = one->over && bool(one->shut) && !one->deaf;
            if (one->heard != ought) return false;
        }
        for (int k = 0; k < keys; ++k) {
            entry const* const there = fresh(k);
            if (cache_.peek(k) != (there ? std::optional(there->value) : std::nullopt))
                return false;
        }
        return cache_.statistics().loading == running;
    }

    test::random& random_;
    asio::io_context io_;
    test::timed_cache<int, int> cache_;
    std::function<asio::awaitable<int>(int)> load_ = [this](int key) { return load(key); };
    std::map<int, entry> entries_;
    std::deque<std::shared_ptr<load_record>> loads_;
    std::deque<ask_record> asks_;
    std::shared_ptr<load_record> next_;
    int results_ = 0;
    int unexpected_ = 0;
    std::string done_;
};

} // namespace

TEST_CASE("whatever happens in whatever order, a cache and its loads do what the model does",
          "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::string wrong;
        for (std::size_t i = 0; i < test::schedules(10'000) && wrong.empty(); ++i) {
            wrong = schedule(random).steps(25);
        }
        CHECK(wrong == "");
    }
}
