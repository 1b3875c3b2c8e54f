// SPDX-License-Identifier: BSL-1.0
// Results go with the memory of their tasks, also where nobody does more than ask.
#include <tidegate/background_tasks.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>

#include <functional>
#include <memory>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::task_context;
using tidegate::task_id;

namespace {

struct history_clock {};
using clock_type = tidegate::testing::basic_manual_clock<history_clock>;
using result = std::shared_ptr<int>;
using registry = tidegate::basic_background_tasks<result, clock_type>;

} // namespace

TEST_CASE("a result that is too old goes when anybody asks for any task") {
    int gone = 0;
    asio::io_context io{1};
    registry tasks(io, tidegate::background_tasks_options().history_age(1s));
    std::vector<std::function<void(task_id)>> const ways = {
        [&](task_id id) { CHECK_FALSE(tasks.status(id)); },
        [&](task_id id) { CHECK_FALSE(tasks.result(id)); },
        [&](task_id id) { CHECK_FALSE(tasks.cancel(id)); },
        [&](task_id id) {
            auto const ignore = [](std::exception_ptr const&, registry::result_pointer const&) {};
            tasks.async_wait(id, ignore);
        },
    };
    for (bool const another : {false, true}) {
        for (auto const& ask : ways) {
            gone = 0;
            task_id const id = tasks.spawn("", [&](task_context&) -> asio::awaitable<result> {
                co_return result(new int(1), [&](int* n) {
                    static_cast<void>(tasks.list()); // it may: no lock is held
                    ++gone;
                    delete n;
                });
            });
            io.restart();
            io.poll();
            clock_type::advance(1s);
            CHECK(tasks.status(id));
            CHECK(gone == 0);
            clock_type::advance(1ms);
            ask(another ? task_id{id.value + 1000} : id);
            CHECK(gone == 1);
        }
    }
    io.restart();
    io.poll();
}
