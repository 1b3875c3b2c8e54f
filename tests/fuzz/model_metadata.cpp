// SPDX-License-Identifier: BSL-1.0
// What any ONNX file may say about itself: read without harm, and fit to be shown.
#include "fuzz/input.hpp"

#include "model_metadata.hpp"
#include "python_literal.hpp"

#include <functional>
#include <map>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    fuzz::input in(data, size);
    std::map<std::string, std::string, std::less<>> entries;
    char const* const keys[] = {"author", "task", "names", "imgsz", "stride", "end2end", "args"};
    while (!in.empty() && entries.size() < 7) {
        char const* const key = keys[in.below(7)];
        entries[key] = in.text(in.number(2));
    }
    auto const read = vision::parse_model_metadata(entries);
    fuzz::require(read.names.size() <= 10'000, "at most 10,000 names");
    for (auto const& name : read.names) {
        fuzz::require(name.size() <= 100, "of at most 100 bytes");
        fuzz::require(vision::valid_utf8(name) == name, "in UTF-8");
        for (char const c : name) fuzz::require(static_cast<unsigned char>(c) >= 32, "printable");
    }
    return 0;
}
