// SPDX-License-Identifier: BSL-1.0
// Each layout's reader on tensors written by hand.
#include "decode.hpp"

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <vector>

namespace {

using Catch::Approx;
using vision::layout_family;

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

vision::model_layout layout(layout_family family, int rows, int classes) {
    vision::model_layout result;
    result.family = family;
    result.input = {64, 64};
    result.rows = rows;
    result.class_count = classes;
    return result;
}

struct decoded {
    std::vector<vision::detection> boxes;
    std::size_t dropped;
};

decoded decode(const vision::model_layout& l, const std::vector<float>& output,
               float confidence = 0.25F) {
    decoded result{};
    result.dropped = vision::decode(l, output, confidence, result.boxes);
    return result;
}

TEST_CASE("YOLOv5 rows: objectness times class, centre and size to corners") {
    const auto result = decode(layout(layout_family::yolov5, 3, 2),
                               {10, 20, 4, 6, 0.8F, 0.1F, 0.5F,   //
                                10, 20, 4, 6, 0.2F, 1.0F, 1.0F,   // objectness too low
                                10, 20, 4, 6, 0.5F, 0.4F, 0.3F}); // product too low
    REQUIRE(result.boxes.size() == 1);
    CHECK(result.boxes[0].class_id == 1);
    CHECK(result.boxes[0].score == Approx(0.4));
    CHECK(result.boxes[0].x1 == 8);
    CHECK(result.boxes[0].y1 == 17);
    CHECK(result.boxes[0].x2 == 12);
    CHECK(result.boxes[0].y2 == 23);
    CHECK(result.dropped == 0);
}

TEST_CASE("a score of exactly the threshold is not above it") {
    CHECK(decode(layout(layout_family::yolov5, 1, 1), {9, 9, 4, 4, 1, 0.25F}).boxes.empty());
}

TEST_CASE("YOLOv8 columns: the best class, channels first") {
    constexpr std::size_t rows = 600; // more than one block
    std::vector<float> output(6 * rows, 0);
    const auto put = [&](std::size_t row, std::vector<float> column) {
        for (std::size_t c = 0; c < column.size(); ++c) {
            output[c * rows + row] = column[c];
        }
    };
    put(0, {10, 20, 4, 6, 0.3F, 0.7F});
    put(255, {11, 20, 4, 6, 0.9F, 0.2F});
    put(256, {12, 20, 4, 6, 0.1F, 0.2F});
    put(599, {13, 20, 4, 6, 0.6F, 0.6F}); // a tie goes to the first class
    const auto result = decode(layout(layout_family::yolov8, rows, 2), output);
    REQUIRE(result.boxes.size() == 3);
    CHECK(result.boxes[0].class_id == 1);
    CHECK(result.boxes[0].score == 0.7F);
    CHECK(result.boxes[0].x1 == 8);
    CHECK(result.boxes[0].y2 == 23);
    CHECK(result.boxes[1].class_id == 0);
    CHECK(result.boxes[1].x1 == 9);
    CHECK(result.boxes[2].class_id == 0);
    CHECK(result.boxes[2].x1 == 11);
}

TEST_CASE("raw YOLOX: offsets from the cell, exponential sizes, strides one after another") {
    // 64x64: 64 cells of stride 8, 16 of stride 16, 4 of stride 32.
    std::vector<float> output(84 * 6, 0);
    const auto put = [&](std::size_t row) {
        const std::vector<float> values = {0.5F, 0.25F, std::log(2.0F), 0, 1, 0.9F};
        std::ranges::copy(values, output.begin() + static_cast<std::ptrdiff_t>(row * 6));
    };
    put(8 * 3 + 5);      // stride 8, row 3, column 5
    put(64 + 4 * 1 + 2); // stride 16, row 1, column 2
    put(83);             // stride 32, row 1, column 1
    const auto result = decode(layout(layout_family::yolox_raw, 84, 1), output);
    REQUIRE(result.boxes.size() == 3);
    const auto check = [&](std::size_t i, float x, float y, float width, float height) {
        CAPTURE(i);
        CHECK((result.boxes[i].x1 + result.boxes[i].x2) / 2 == Approx(x));
        CHECK((result.boxes[i].y1 + result.boxes[i].y2) / 2 == Approx(y));
        CHECK(result.boxes[i].x2 - result.boxes[i].x1 == Approx(width));
        CHECK(result.boxes[i].y2 - result.boxes[i].y1 == Approx(height));
    };
    check(0, 5.5F * 8, 3.25F * 8, 16, 8);
    check(1, 2.5F * 16, 1.25F * 16, 32, 16);
    check(2, 1.5F * 32, 1.25F * 32, 64, 32);
}

TEST_CASE("raw YOLOX walks a grid that is not square") {
    auto wide = layout(layout_family::yolox_raw, 8 * 4 + 4 * 2 + 2, 1);
    wide.input = {64, 32};
    std::vector<float> output(42 * 6, 0);
    output[8 * 6 + 4] = output[8 * 6 + 5] = 1; // the first cell of the second row of stride 8
    const auto result = decode(wide, output);
    REQUIRE(result.boxes.size() == 1);
    CHECK((result.boxes[0].x1 + result.boxes[0].x2) / 2 == 0);
    CHECK((result.boxes[0].y1 + result.boxes[0].y2) / 2 == 8);
}

TEST_CASE("decoded YOLOX is read like YOLOv5") {
    const auto result =
        decode(layout(layout_family::yolox_decoded, 1, 1), {30, 30, 10, 10, 0.9F, 0.9F});
    REQUIRE(result.boxes.size() == 1);
    CHECK(result.boxes[0].x1 == 25);
}

TEST_CASE("finished boxes are taken as they are; classes out of range are dropped and counted") {
    const auto result =
        decode(layout(layout_family::end_to_end, 5, 3), {1, 2, 3, 4, 0.9F, 2, //
                                                         1, 2, 3, 4, 0.1F, 0, // below the threshold
                                                         1, 2, 3, 4, 0.8F, 3, // classes are 0..2
                                                         1, 2, 3, 4, 0.8F, -1,    //
                                                         1, 2, 3, 4, 0.8F, nan}); //
    REQUIRE(result.boxes.size() == 1);
    CHECK(result.boxes[0].class_id == 2);
    CHECK(result.boxes[0].x2 == 3);
    CHECK(result.dropped == 3);
    CHECK(decode(layout(layout_family::end_to_end, 1, 0), {1, 2, 3, 4, 0.9F, 77})
              .boxes.at(0)
              .class_id == 77);
}

TEST_CASE("scores and corners that are no numbers are dropped and counted") {
    for (const float bad : {nan, infinity, -infinity}) {
        CAPTURE(bad);
        const auto rows = decode(layout(layout_family::yolov5, 4, 1), {9,   9, 4, 4, bad,  0.9F, //
                                                                       9,   9, 4, 4, 0.9F, bad,  //
                                                                       bad, 9, 4, 4, 0.9F, 0.9F, //
                                                                       9,   9, 4, 4, 0.9F, 0.9F});
        CHECK(rows.boxes.size() == 1);
        CHECK(rows.dropped == 3);

        const auto columns =
            decode(layout(layout_family::yolov8, 2, 1), {9, 9, 9, 9, 4, bad, 4, 4, bad, 0.9F});
        CHECK(columns.boxes.empty());
        CHECK(columns.dropped == 2);
    }
    // exp(1000) is infinite.
    const auto raw = decode(layout(layout_family::yolox_raw, 1, 1), {0, 0, 1000, 0, 1, 1});
    CHECK(raw.boxes.empty());
    CHECK(raw.dropped == 1);
}

TEST_CASE("boxes without an area are no detections") {
    const auto result =
        decode(layout(layout_family::yolov5, 2, 1), {9, 9, 0, 4, 1, 1, 9, 9, 4, -4, 1, 1});
    CHECK(result.boxes.empty());
    CHECK(result.dropped == 0);
}

} // namespace
