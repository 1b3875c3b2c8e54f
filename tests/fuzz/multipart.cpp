// SPDX-License-Identifier: BSL-1.0
// Any body of parts in any pieces: what is read of it does not depend on them.
#include "fuzz/input.hpp"

#include "service/multipart.hpp"
#include "service/query.hpp"

#include <string_view>
#include <utility>
#include <vector>

namespace {

using vision::service::bad_request;
using vision::service::multipart_reader;

// What was read before the end, or before something was wrong.
struct seen {
    std::vector<std::pair<std::string, std::string>> parts;
    bool whole = false;
    bool operator==(const seen&) const = default;
};

seen read(std::string_view body, std::string_view boundary, std::size_t piece) {
    multipart_reader reader(boundary);
    seen all;
    try {
        while (!body.empty()) {
            auto rest = body.substr(0, piece);
            body.remove_prefix(rest.size());
            while (auto const event = reader.next(rest)) {
                if (event->what == multipart_reader::event::kind::part) {
                    all.parts.emplace_back(event->bytes, "");
                    continue;
                }
                fuzz::require(!all.parts.empty(), "content belongs to a part");
                fuzz::require(!event->bytes.empty(), "content is never empty");
                all.parts.back().second += event->bytes;
            }
        }
        reader.finish();
        all.whole = true;
    } catch (const bad_request&) {
        // What came before it is compared all the same.
    }
    return all;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    fuzz::input in(data, size);
    std::size_t const piece = 1 + in.byte();
    std::string const boundary(1 + in.below(3), 'b');
    std::string const body = in.text(size);
    auto const whole = read(body, boundary, body.size() + 1);
    fuzz::require(read(body, boundary, 1) == whole, "one by one");
    fuzz::require(read(body, boundary, piece) == whole, "in pieces");
    for (auto const& [name, content] : whole.parts) {
        bool const ends_it = content.find("\r\n--" + boundary) != std::string::npos;
        fuzz::require(!ends_it, "a delimiter is no content");
    }
    return 0;
}
