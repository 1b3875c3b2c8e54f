// SPDX-License-Identifier: BSL-1.0
// Any query and any JSON about a job: refused in words fit to be shown, or all of it in range.
#include "fuzz/input.hpp"

#include "model_metadata.hpp"
#include "service/job_wishes.hpp"
#include "service/query.hpp"
#include "service/request_target.hpp"

#include <optional>
#include <string_view>

namespace {

using vision::service::bad_request;
using vision::service::job;
using vision::service::job_wishes;

void check_shown(std::string_view text) {
    fuzz::require(vision::valid_utf8(text) == text, "in UTF-8");
    for (char const c : text) {
        auto const byte = static_cast<unsigned char>(c);
        fuzz::require(byte >= 32 && byte != 127, "printable");
    }
}

// What docs/vision-service.md allows.
void check(const job& one) {
    auto const counts = [](std::size_t n) { return n >= 1 && n <= 100'000; };
    auto const share = [](const std::optional<float>& x) { return !x || (*x >= 0 && *x <= 1); };
    fuzz::require(counts(one.options.every_n) && counts(one.options.chunk), "1 to 100000");
    fuzz::require(share(one.options.confidence) && share(one.options.iou), "0 to 1");
    fuzz::require(one.options.model.empty() || one.options.model == "shapes", "a known model");
    fuzz::require(one.name.size() <= 200, "a name of at most 200 bytes");
    check_shown(one.name);
}

// Whether `read` was not refused.
template <class Read>
bool accepted(const Read& read) {
    try {
        read();
    } catch (const bad_request& e) {
        check_shown(e.what());
        return false;
    }
    return true;
}

// What is accepted is in range, and refused when it comes again, if it names an option.
template <class Read>
void check(const job& one, bool names_any, const Read& read) {
    if (!accepted(read)) return;
    check(one);
    fuzz::require(accepted(read) != names_any, "an option may be given once");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    fuzz::input in(data, size);
    bool const is_query = in.byte() % 2 == 1; // as 'q' is; 'j' is not
    std::string const text = in.text(size);
    job one;
    job_wishes wishes(one, [](const std::string& name) { return name == "shapes"; });
    if (is_query) {
        auto const target = vision::service::parse_target("/v1/jobs?" + text);
        if (!target) return 0;
        check(one, !target->query.empty(), [&] { wishes.read_query(target->query); });
    } else {
        bool const names_any = text.find(':') != std::string::npos;
        check(one, names_any, [&] { wishes.read_json(text); });
    }
    return 0;
}
