// SPDX-License-Identifier: BSL-1.0
// The parts of a multipart/form-data body (RFC 7578, RFC 2046) that arrives in pieces.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace vision::service {

// The boundary that a Content-Type names. Nothing: it is no multipart body. Throws bad_request for
// one that is not multipart/form-data, and for a boundary that RFC 2046 does not allow.
[[nodiscard]] std::optional<std::string> boundary_of(std::string_view content_type);

// Keeps nothing of a part's content: memory is bounded by the largest header of a part, 4 KiB. Any
// cut of the body gives the same parts. Throws bad_request where the body breaks the rules; it is
// not to be used after that.
class multipart_reader {
public:
    struct event {
        enum class kind {
            part,    // begins, and ends the one before; `bytes` is its name
            content, // the next bytes of the part; never empty
        };
        kind what = kind::part;
        std::string_view bytes; // of `input` or of the reader, until its next call
    };

    explicit multipart_reader(std::string_view boundary) : delimiter_("\r\n--") {
        delimiter_ += boundary;
    }

    // The next event in `input`, which loses what was read. Nothing: all of it was read.
    [[nodiscard]] std::optional<event> next(std::string_view& input);

    // To be called after the last piece. Throws unless the last part was closed.
    void finish() const;

private:
    enum class state { preamble, heading, content, epilogue };

    std::string_view up_to_delimiter(std::string_view& input);
    void read_heading(std::string_view& input);

    std::string delimiter_;
    state state_ = state::preamble;
    std::size_t held_ = 2; // bytes of a delimiter that may have begun; a body begins a line
    std::string heading_;  // from behind the delimiter up to the content
    std::string name_;
};

} // namespace vision::service
