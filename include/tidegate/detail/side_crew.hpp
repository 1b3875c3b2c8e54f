// SPDX-License-Identifier: BSL-1.0
// Coroutines that run beside a primitive, and are cancelled with it.
#pragma once

#include <tidegate/detail/side_task.hpp>

#include <boost/asio/any_io_executor.hpp>

#include <list>
#include <memory>
#include <mutex>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Owned by the primitive's state, which the handlers given to `start` keep alive.
class side_crew {
public:
    explicit side_crew(boost::asio::any_io_executor const& executor) : executors_(executor) {}
    side_crew(side_crew const&) = delete;
    side_crew& operator=(side_crew const&) = delete;

    /// Starts `coroutine` by posting; `ended(std::exception_ptr, T)` is called when it has, where
    /// it ran. If this throws, neither is called. After `cancel_all` it is cancelled at once.
    template <class Coroutine, class Handler>
    void start(Coroutine coroutine, Handler ended) {
        auto const task = std::make_shared<side_task>(executors_.next());
        tasks::iterator place;
        bool is_late = false;
        {
            std::lock_guard lock(mutex_);
            place = running_.insert(running_.end(), task);
            is_late = cancelled_;
        }
        leaving<Handler> last(*this, place, std::move(ended));
        boost::asio::post(task->executor(), [task, coroutine = std::move(coroutine),
                                             last = std::move(last)]() mutable {
            task->start(std::move(coroutine), std::move(last));
        });
        if (is_late) task->cancel();
    }

    void cancel_all() {
        tasks running;
        {
            std::lock_guard lock(mutex_);
            cancelled_ = true;
            if (context_is_gone_) return;
            running = running_;
        }
        for (auto const& task : running) task->cancel();
    }

    /// The context ends, and what runs on it with it.
    void shutdown() noexcept {
        std::lock_guard lock(mutex_);
        context_is_gone_ = true;
    }

private:
    using tasks = std::list<std::shared_ptr<side_task>>;

    void leave(tasks::iterator place) noexcept {
        std::lock_guard lock(mutex_);
        running_.erase(place);
    }

    // However a task ends, be it with its context, nobody cancels it any more.
    template <class Handler>
    class leaving {
    public:
        leaving(side_crew& crew, tasks::iterator place, Handler&& ended)
            : crew_(&crew), place_(place), ended_(std::move(ended)) {}
        leaving(leaving&& other) noexcept
            : crew_(std::exchange(other.crew_, nullptr)),
              place_(other.place_),
              ended_(std::move(other.ended_)) {}
        leaving& operator=(leaving&&) = delete;
        ~leaving() { leave(); }

        template <class... Outcome>
        void operator()(Outcome&&... outcome) {
            leave();
            std::move(ended_)(std::forward<Outcome>(outcome)...);
        }

    private:
        void leave() noexcept {
            if (side_crew* const crew = std::exchange(crew_, nullptr)) crew->leave(place_);
        }

        side_crew* crew_;
        tasks::iterator place_;
        Handler ended_; // keeps the crew alive
    };

    serial_executors executors_;
    std::mutex mutex_;
    tasks running_;
    bool cancelled_ = false;
    bool context_is_gone_ = false;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
