// SPDX-License-Identifier: BSL-1.0
// Metadata as exporters write it, and as nobody should.
#include "model_metadata.hpp"
#include "python_literal.hpp"

#include <catch2/catch_test_macros.hpp>
#include <map>
#include <random>
#include <string>

namespace {

using entries = std::map<std::string, std::string, std::less<>>;
using names = std::vector<std::string>;

names names_from(const std::string& text) {
    return vision::parse_model_metadata({{"names", text}}).names;
}

TEST_CASE("metadata of an Ultralytics export is read whole") {
    const auto m = vision::parse_model_metadata({
        {"author", "Ultralytics"},
        {"task", "detect"},
        {"stride", "32"},
        {"imgsz", "[480, 640]"},
        {"names", "{0: 'person', 1: 'bicycle', 2: \"driver's seat\"}"},
        {"args", "{'batch': 1, 'half': False, 'nms': True, 'simplify': True, 'opset': None}"},
        {"end2end", "False"},
    });
    CHECK(m.names == names{"person", "bicycle", "driver's seat"});
    CHECK(m.input == vision::image_size{640, 480}); // height first
    CHECK(m.stride == 32);
    CHECK(m.task == "detect");
    CHECK(m.suppression_inside == true);
    CHECK(m.end_to_end == false);
    CHECK(m.from_ultralytics());
    CHECK(m.says_finished_boxes());
}

TEST_CASE("no metadata means no claims") {
    const auto m = vision::parse_model_metadata({});
    CHECK(m.names.empty());
    CHECK_FALSE(m.input);
    CHECK_FALSE(m.from_ultralytics());
    CHECK_FALSE(m.says_finished_boxes());
}

TEST_CASE("names come as dicts, lists and tuples with either quote and escapes") {
    CHECK(names_from("['a', \"b\"]") == names{"a", "b"});
    CHECK(names_from("('a', 'b',)") == names{"a", "b"});
    CHECK(names_from("{1: 'b', 0: 'a'}") == names{"a", "b"});
    CHECK(names_from(R"({0: 'it\'s', 1: 'tab\there', 2: 'caf\xe9', 3: '\u732b'})") ==
          names{"it's", "tab here", "caf\xC3\xA9", "\xE7\x8C\xAB"});
    CHECK(names_from("  {  0 :'a' ,1:'b'}  ") == names{"a", "b"});
}

TEST_CASE("gaps in the numbers are filled and absurd numbers ignored") {
    CHECK(names_from("{2: 'c'}") == names{"class 0", "class 1", "c"});
    CHECK(names_from("{0: 'a', -1: 'x', 999999999: 'y', 1.5: 'z', 1e300: 'w'}") == names{"a"});
}

TEST_CASE("text that breaks off keeps what was whole") {
    CHECK(names_from("{0: 'a', 1: 'b', 2: 'c") == names{"a", "b"});
    CHECK(names_from("{0: 'a', 1: 'b', 2:") == names{"a", "b"});
    CHECK(names_from("{0: 'a' 1: 'b'}") == names{"a"});
}

TEST_CASE("garbage reads as nothing") {
    for (const char* text :
         {"", "{", "}", "names", "__import__('os')", "{{{{", "'", "[1, 2]", "{0: 0}", "\xff\xfe"}) {
        CAPTURE(text);
        CHECK(names_from(text).empty());
    }
    for (const char* text :
         {"", "0", "-5", "[640]", "[640, 640, 3]", "[1e99, 640]", "nan", "[0, 0]"}) {
        CAPTURE(text);
        CHECK_FALSE(vision::parse_model_metadata({{"imgsz", text}}).input);
    }
    CHECK_FALSE(vision::parse_model_metadata({{"end2end", "maybe"}}).end_to_end);
    CHECK_FALSE(vision::parse_model_metadata({{"args", "{'nms': 'True'}"}}).suppression_inside);
}

TEST_CASE("deep nesting and long text end quietly") {
    CHECK(names_from(std::string(1'000'000, '[')).empty());
    CHECK(names_from("{0: '" + std::string(500, 'x') + "'}").at(0).size() == 100);
    std::string many = "[";
    for (int i = 0; i < 20'000; ++i) {
        many += "'n',";
    }
    CHECK(names_from(many + "]").size() == 10'000);
    CHECK(names_from("['" + std::string(2'000'000, 'x')).empty());
}

TEST_CASE("names are made fit for terminal, picture and JSON") {
    CHECK(vision::printable_name("a\x1b[31m\nb") == "a [31m b");
    CHECK(vision::printable_name("\xff\xc3") == "??");
    CHECK(vision::printable_name("\xed\xa0\x80") == "???"); // a surrogate
    CHECK(vision::printable_name("na\xC3\xAFve") == "na\xC3\xAFve");
    // The cut falls between characters.
    CHECK(vision::printable_name(std::string(99, 'x') + "\xC3\xA9") == std::string(99, 'x'));
}

TEST_CASE("random bytes never throw") {
    std::mt19937 random(2026);
    const std::string alphabet = "{}[]():,'\"\\0123456789.eE+-TrueFalsNon xu\xff";
    for (int round = 0; round < 20'000; ++round) {
        std::string text;
        for (auto i = random() % 40; i > 0; --i) {
            text += alphabet[random() % alphabet.size()];
        }
        const auto m = vision::parse_model_metadata(
            {{"names", text}, {"imgsz", text}, {"args", text}, {"end2end", text}});
        REQUIRE(m.names.size() <= 10'000);
    }
}

} // namespace
