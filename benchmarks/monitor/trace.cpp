// SPDX-License-Identifier: BSL-1.0
// What trace hooks cost while nobody listens, and when somebody does.
#include "trace_rows.hpp"

#include <memory>

namespace {

class last_count : public tidegate::trace_observer {
public:
    void on_event(tidegate::trace_record const& what) noexcept override { count_ += what.count; }

private:
    std::uint64_t count_ = 0;
};

// The peers are trace_on.cpp's and trace_off.cpp's.
group const hooks{[] {
    trace_rows("observed",
               [](auto& primitive) { primitive.observe(std::make_shared<last_count>(), "bench"); });
    claim("trace_nobody_listens",
          ratio_of("trace_semaphore/nobody_listens", "trace_semaphore/compiled_out"),
          at_most(1.05));
    for (std::string const what : {"trace_rate_refusal", "trace_cache_hit"}) {
        claim(what + "_nobody_listens_ns",
              difference_of(time_of(what + "/nobody_listens"), time_of(what + "/compiled_out")),
              at_most(1));
    }
    claim(
        "trace_observed_ns",
        difference_of(time_of("trace_semaphore/observed"), time_of("trace_semaphore/compiled_out")),
        at_most(20));
}};

} // namespace
