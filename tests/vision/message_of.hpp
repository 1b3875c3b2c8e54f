// SPDX-License-Identifier: BSL-1.0
// The one-line message of the vision::error that an action throws; empty where it throws none.
#pragma once

#include "error.hpp"

#include <catch2/catch_test_macros.hpp>
#include <string>

template <class Action>
std::string message_of(Action action) {
    try {
        action();
    } catch (const vision::error& e) {
        const std::string message = e.what();
        CHECK(message.find('\n') == std::string::npos);
        return message;
    }
    return {};
}

inline bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}
