// SPDX-License-Identifier: BSL-1.0
// The state of one lazy value.
#pragma once

#include <tidegate/detail/sequence_lock.hpp>
#include <tidegate/lazy.hpp>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// What there is of a lazy value while nobody loads it: the value, and how it is loaded. Loads need
/// much more, a lazy_map_state of one entry. That is made for the first caller who may have to
/// wait, and goes when the load is over; while it is there, it has the value.
template <class T, class Clock, class Executor>
class lazy_state final : public lazy_owner,
                         public std::enable_shared_from_this<lazy_state<T, Clock, Executor>> {
    struct hash {
        std::size_t operator()(std::monostate) const noexcept { return 0; }
    };
    using room =
        lazy_map_state<std::monostate, T, hash, std::equal_to<std::monostate>, Clock, Executor>;
    using value = std::shared_ptr<T>;

public:
    using executor_type = Executor;

    lazy_state(Executor executor, lazy_loader<T> load, lazy_options const& options)
        : executor_(std::move(executor)), load_(std::move(load)), options_(unless_usual(options)) {}

    Executor const& executor() const noexcept { return executor_; }

    value get_if_ready() const {
        return look([](room& loads) { return loads.get_if_ready({}); });
    }

    /// Tells observers only if it is there.
    value hit() const {
        return look([](room& loads) { return loads.hit({}); });
    }

    template <class Handler>
    void start(get_lazy what, Handler&& handler, bool anew) {
        visit const inside(*this);
        inside.loads().start(what, std::forward<Handler>(handler), std::monostate(), anew);
    }

    void reset() {
        value gone; // goes after the lock
        {
            std::lock_guard lock(lock_);
            gone = std::exchange(ready_, nullptr);
            if (!loads_) return;
        }
        visit const inside(*this);
        inside.loads().reset({});
    }

    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        visit const inside(*this);
        inside.loads().observe("lazy", std::move(observer), std::move(name));
        std::lock_guard lock(lock_);
        observed_ = true;
    }

    void cancel() noexcept {
        if (auto const loads = current_loads()) loads->cancel();
    }

    void close() noexcept {
        {
            std::lock_guard lock(lock_);
            closed_ = true;
        }
        if (auto const loads = current_loads()) loads->close();
    }

private:
    /// Whoever may begin a load, or change the value where loads are.
    class visit {
    public:
        explicit visit(lazy_state& state) : state_(state.shared_from_this()) {
            state.enter();
            try {
                loads_ = state.loads();
            } catch (...) {
                state.leave();
                throw;
            }
        }
        visit(visit const&) = delete;
        visit& operator=(visit const&) = delete;
        ~visit() { state_->leave(); }

        room& loads() const noexcept { return *loads_; }

    private:
        std::shared_ptr<lazy_state> state_; // which a handler may end
        std::shared_ptr<room> loads_;
    };

    static std::unique_ptr<lazy_options const> unless_usual(lazy_options const& options) {
        lazy_options const usual;
        if (options.load_timeout() == usual.load_timeout() &&
            options.keep_failure() == usual.keep_failure() &&
            options.keep_loading() == usual.keep_loading() &&
            options.serve_old_while_reloading() == usual.serve_old_while_reloading() &&
            !options.load_on())
            return nullptr;
        return std::make_unique<lazy_options const>(options);
    }

    // The value, or what `ask` says of where loads are. A room without a value that was sent away
    // meanwhile says nothing.
    template <class Ask>
    value look(Ask ask) const {
        while (true) {
            std::shared_ptr<room> loads;
            {
                std::lock_guard lock(lock_);
                if (!loads_) [[likely]]
                    return ready_;
                loads = loads_;
            }
            if (auto found = ask(*loads)) return found;
            if (current_loads() == loads) return nullptr;
        }
    }

    std::shared_ptr<room> current_loads() const noexcept {
        std::lock_guard lock(lock_);
        return loads_;
    }

    void enter() noexcept {
        std::lock_guard lock(lock_);
        ++visitors_;
        ++visits_;
    }
    void leave() noexcept {
        {
            std::lock_guard lock(lock_);
            --visitors_;
        }
        load_over();
    }

    std::shared_ptr<room> loads() {
        if (auto there = current_loads()) return there;
        auto fresh = room::make(executor_, options_ ? *options_ : lazy_options());
        fresh->register_loader({}, load_);
        fresh->set_owner(this->weak_from_this());
        std::shared_ptr<room> chosen; // if it is another, `fresh` goes after the lock
        bool closed = false;
        {
            std::lock_guard lock(lock_);
            if (!loads_) {
                fresh->take_over({}, std::move(ready_));
                loads_ = fresh;
            }
            chosen = loads_;
            closed = closed_;
        }
        if (closed) chosen->close();
        return chosen;
    }

    // Sends the room away if it is not needed. Whoever is visiting, or came and left meanwhile,
    // sees to that himself.
    void load_over() noexcept override {
        std::shared_ptr<room> idle;
        std::uint64_t seen = 0;
        {
            std::lock_guard lock(lock_);
            if (visitors_ > 0 || observed_) return;
            idle = loads_;
            seen = visits_;
        }
        value found;
        if (!idle || !idle->is_at_rest({}, found)) return;
        {
            std::lock_guard lock(lock_);
            if (visits_ != seen || visitors_ > 0 || loads_ != idle) return;
            ready_ = std::move(found);
            loads_.reset(); // `idle` is another
        }
        idle->forget({}); // a handler or a deaf load may keep the room for long
    }

    Executor executor_;
    lazy_loader<T> load_;
    std::unique_ptr<lazy_options const> options_; // null for the usual ones
    mutable sequence_lock lock_;
    value ready_; // unless there is a room
    std::shared_ptr<room> loads_;
    std::uint64_t visits_ = 0;
    std::uint32_t visitors_ = 0;
    bool observed_ = false; // by way of the room, which stays
    bool closed_ = false;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
