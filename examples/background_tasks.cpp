// SPDX-License-Identifier: BSL-1.0
// Jobs with an id: start one, get on with the answer, and ask later how far it is. Somebody else
// polls for the end of another.
#include <tidegate/background_tasks.hpp>
#include <tidegate/poll.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::task_context;
using tasks_type = tidegate::background_tasks<std::string>;

//! [report]
asio::awaitable<std::string> make_report(task_context& self) {
    for (int page = 1; page <= 10; ++page) {
        co_await tidegate::sleep_for(10ms);
        self.progress(page, 10);
    }
    co_return "ten pages";
}
//! [report]

asio::awaitable<void> watch(tasks_type& tasks) {
    auto events = tasks.subscribe();
    while (auto const event = co_await events.receive()) {
        std::cout << "  task " << event->id.value << " " << to_string(event->state) << "\n";
        if (tasks.live() == 0 && events.size() == 0) co_return;
    }
}

//! [use]
asio::awaitable<void> use(tasks_type& tasks) {
    auto const report = tasks.spawn("report", &make_report);
    auto const other = tasks.spawn("report nobody wants", &make_report);
    co_await tidegate::sleep_for(45ms);
    auto const status = tasks.status(report);
    std::cout << status->name << ": " << status->progress << " of " << status->progress_of << "\n";
    tasks.cancel(other);

    //! [poll]
    auto const has_ended = [&]() -> asio::awaitable<bool> {
        co_return tidegate::has_ended(tasks.status(other)->state);
    };
    co_await tidegate::poll_until(has_ended, 5ms, 1s);
    //! [poll]
    std::cout << "result: " << *co_await tasks.wait(report) << "\n";
}
//! [use]

int main() {
    asio::io_context io{1};
    tasks_type tasks(io, tidegate::background_tasks_options().max_running(2));
    asio::co_spawn(io, watch(tasks), asio::detached);
    asio::co_spawn(io, use(tasks), asio::detached);
    io.run();
}
