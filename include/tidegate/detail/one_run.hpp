// SPDX-License-Identifier: BSL-1.0
// A function object that either runs once or says that it never will.
#pragma once

#include <tidegate/config.hpp>

#include <memory>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Calls `Run` on the state when called, or `NeverRan` when it is destroyed before that: a pool
/// that is closed drops its queued jobs, and those who wait for one must hear of it.
template <class State, void (State::*Run)() noexcept, void (State::*NeverRan)() noexcept>
class one_run {
public:
    explicit one_run(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
    one_run(one_run&& other) noexcept = default;
    one_run& operator=(one_run&&) = delete;
    ~one_run() {
        if (state_) (state_.get()->*NeverRan)();
    }

    void operator()() noexcept {
        auto const state = std::move(state_);
        (state.get()->*Run)();
    }

    /// It will not run, and who owns it sees to what is to be done then.
    void forget() noexcept { state_.reset(); }

private:
    std::shared_ptr<State> state_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
