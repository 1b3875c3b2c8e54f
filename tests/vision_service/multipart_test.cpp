// SPDX-License-Identifier: BSL-1.0
// Bodies of several parts, cut anywhere.
#include "multipart.hpp"
#include "query.hpp"

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <utility>
#include <vector>

using Catch::Matchers::Message;
using vision::service::bad_request;
using vision::service::boundary_of;
using vision::service::multipart_reader;

namespace {

using parts = std::vector<std::pair<std::string, std::string>>; // names and contents

class collected {
public:
    explicit collected(std::string_view boundary) : reader_(boundary) {}

    void read(std::string_view piece) {
        while (auto const event = reader_.next(piece)) {
            if (event->what == multipart_reader::event::kind::part)
                all_.emplace_back(event->bytes, "");
            else all_.back().second += event->bytes;
        }
        CHECK(piece.empty());
    }
    parts finish() {
        reader_.finish();
        return all_;
    }

private:
    multipart_reader reader_;
    parts all_;
};

parts parts_of(const std::string& body, std::string_view boundary = "b") {
    collected all(boundary);
    all.read(body);
    return all.finish();
}

std::string body_of(const parts& all, const std::string& boundary) {
    std::string body;
    for (const auto& [name, content] : all) {
        body += "--" + boundary + "\r\nContent-Disposition: form-data; name=\"" + name +
                "\"\r\n\r\n" + content + "\r\n";
    }
    return body + "--" + boundary + "--\r\n";
}

} // namespace

TEST_CASE("parts have names and contents") {
    CHECK(parts_of(body_of({{"options", "{}"}, {"video", "bytes"}}, "b")) ==
          parts{{"options", "{}"}, {"video", "bytes"}});
    CHECK(parts_of("--b--").empty());
    SECTION("with what RFC 2046 allows round them") {
        CHECK(parts_of("a preamble\r\n--b \t\r\n"
                       "content-disposition:form-data;name=video;filename=\"x; name=y\"\r\n"
                       "Content-Type: video/mp4\r\n\r\n"
                       "\r\n\r\n--\r\n--ytes"
                       "\r\n--b--\r\nan epilogue\r\n--b\r\n") ==
              parts{{"video", "\r\n\r\n--\r\n--ytes"}});
    }
    SECTION("or none") {
        CHECK(parts_of("--b\r\nContent-Disposition: form-data; name=video\r\n\r\n\r\n--b--") ==
              parts{{"video", ""}});
    }
}

TEST_CASE("bodies that break the rules are refused") {
    std::string const head = "--b\r\nContent-Disposition: form-data; name=video\r\n\r\n";
    CHECK_THROWS_MATCHES(parts_of(""), bad_request,
                         Message("the body ends before its last boundary"));
    CHECK_THROWS_AS(parts_of(head + "bytes"), bad_request);
    CHECK_THROWS_AS(parts_of(head + "bytes\r\n--b-"), bad_request);
    CHECK_THROWS_AS(parts_of("--b\r\nContent-Disp"), bad_request);
    CHECK_THROWS_MATCHES(parts_of(head + "x\r\n--bc\r\n\r\n"), bad_request,
                         Message("a boundary in the body is followed by something else"));
    CHECK_THROWS_MATCHES(parts_of("--b\r\nContent-Type: video/mp4\r\n\r\n"), bad_request,
                         Message("a part of the body has no name"));
    CHECK_THROWS_AS(parts_of("--b\r\n\r\nbytes\r\n--b--"), bad_request);
    CHECK_THROWS_MATCHES(parts_of("--b\r\nX: " + std::string(5000, 'x')), bad_request,
                         Message("the header of a part has 4096 bytes or more"));
}

TEST_CASE("a Content-Type tells whether there are parts, and what is between them") {
    CHECK(boundary_of("multipart/form-data; boundary=abc") == "abc");
    CHECK(boundary_of("Multipart/Form-Data;charset=utf-8;Boundary=\"a b?\"") == "a b?");
    CHECK(boundary_of("multipart/form-data; boundary=" + std::string(70, 'x')) ==
          std::string(70, 'x'));
    for (std::string const none : {"", "video/mp4", "application/x-www-form-urlencoded"}) {
        CHECK(boundary_of(none) == std::nullopt);
    }
    for (std::string const& bad :
         {std::string("multipart/form-data"), std::string("multipart/form-data; boundary="),
          std::string("multipart/form-data; boundary=\"a \""),
          std::string("multipart/form-data; boundary=\"a\\\r\""),
          "multipart/form-data; boundary=" + std::string(71, 'x'),
          std::string("multipart/related; boundary=abc")}) {
        CHECK_THROWS_AS(boundary_of(bad), bad_request);
    }
}

TEST_CASE("any cut of a body gives the same parts") {
    std::string const boundary = "-b";
    parts const expected{{"options", "{\"chunk\":1}"},
                         {"video", "\r\n---\r\n--\r\r\n---a\r\n\r--b\r\n--"}};
    std::string const body = "x\r\n" + body_of(expected, boundary) + "y";
    for (std::size_t cut = 0; cut <= body.size(); ++cut) {
        for (std::size_t next = cut; next <= body.size(); ++next) {
            INFO("cut at " << cut << " and " << next);
            collected all(boundary);
            all.read(std::string_view(body).substr(0, cut));
            all.read(std::string_view(body).substr(cut, next - cut));
            all.read(std::string_view(body).substr(next));
            CHECK(all.finish() == expected);
        }
    }
}

TEST_CASE("contents come back whatever they are, if the boundary is not in them") {
    auto const seed = GENERATE(std::uint64_t{1}, std::uint64_t{std::random_device()()});
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    for (int round = 0; round < 2000; ++round) {
        std::string const boundary(1 + random() % 3, 'b');
        // What nearly is a delimiter is likely.
        std::array<std::string, 6> const words{
            "\r\n--" + boundary.substr(1) + "\r", "\r", "\n", "--", "b", "x"};
        parts expected;
        for (std::size_t n = random() % 4; n > 0; --n) {
            std::string content;
            for (std::size_t k = random() % 20; k > 0; --k) content += words[random() % 6];
            bool const delimits =
                ("\r\n" + content + "\r").find("\r\n--" + boundary) != std::string::npos;
            expected.emplace_back("part", delimits ? std::string("-") : content);
        }
        std::string const body = body_of(expected, boundary);
        collected all(boundary);
        for (std::string_view rest = body; !rest.empty();) {
            std::size_t const n = std::min<std::size_t>(rest.size(), 1 + random() % 9);
            all.read(rest.substr(0, n));
            rest.remove_prefix(n);
        }
        CHECK(all.finish() == expected);
    }
}
