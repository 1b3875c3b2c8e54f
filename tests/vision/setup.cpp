// SPDX-License-Identifier: BSL-1.0
// OpenCV's settings, made before the first test as main does.
#include "opencv_setup.hpp"

#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>

namespace {

struct set_up : Catch::EventListenerBase {
    using Catch::EventListenerBase::EventListenerBase;
    void testRunStarting(const Catch::TestRunInfo&) override { vision::set_up_opencv(); }
};

} // namespace

CATCH_REGISTER_LISTENER(set_up)
