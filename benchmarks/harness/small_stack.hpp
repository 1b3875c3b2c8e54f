// SPDX-License-Identifier: BSL-1.0
// Runs a function on a thread with a stack of a given size.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <exception>
#include <system_error>

namespace bench {

// Returns when the function is done, and rethrows what it threw.
template <class Function>
void on_a_stack_of(std::size_t bytes, Function function) {
    struct call {
        Function& function;
        std::exception_ptr error;
    } shared{function, nullptr};

    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    int failed = pthread_attr_setstacksize(&attributes, bytes);
    pthread_t thread{};
    if (failed == 0)
        failed = pthread_create(
            &thread, &attributes,
            [](void* argument) -> void* {
                auto& own = *static_cast<call*>(argument);
                try {
                    own.function();
                } catch (...) {
                    own.error = std::current_exception();
                }
                return nullptr;
            },
            &shared);
    pthread_attr_destroy(&attributes);
    if (failed != 0)
        throw std::system_error(failed, std::generic_category(), "cannot start a thread");
    pthread_join(thread, nullptr);
    if (shared.error) std::rethrow_exception(shared.error);
}

} // namespace bench
