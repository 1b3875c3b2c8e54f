// SPDX-License-Identifier: BSL-1.0
// Shows whether a handler ran inside the call that started its operation.
#pragma once

namespace test {

/// True on this thread while a call under test is being made.
inline bool& initiating() {
    static thread_local bool value = false;
    return value;
}

/// Runs `call` with `initiating()` set.
template <class Call>
auto initiate(Call call) {
    struct scope {
        scope() { initiating() = true; }
        ~scope() { initiating() = false; }
    } const mark;
    return call();
}

} // namespace test
