// SPDX-License-Identifier: BSL-1.0
// Suppression of overlaps, on boxes small enough to check by hand.
#include "nms.hpp"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <vector>

namespace {

vision::detection box(int class_id, float score, float x1, float y1, float x2, float y2) {
    return {class_id, score, x1, y1, x2, y2};
}

TEST_CASE("overlap is shared area over joint area") {
    const auto a = box(0, 1, 0, 0, 10, 10);
    CHECK(vision::overlap(a, a) == 1);
    CHECK(vision::overlap(a, box(0, 1, 0, 0, 10, 5)) == 0.5F);
    CHECK(vision::overlap(a, box(0, 1, 10, 0, 20, 10)) == 0);
    CHECK(vision::overlap(a, box(0, 1, 5, 5, 5, 5)) == 0);
}

TEST_CASE("the best of overlapping boxes of one class stays") {
    std::vector boxes = {box(0, 0.5F, 0, 0, 10, 10), box(0, 0.9F, 0, 0, 10, 9),
                         box(0, 0.4F, 50, 50, 60, 60)};
    vision::suppress_overlaps(boxes, {});
    REQUIRE(boxes.size() == 2);
    CHECK(boxes[0].score == 0.9F);
    CHECK(boxes[1].score == 0.4F);
}

TEST_CASE("boxes of different classes never suppress each other, wherever they lie") {
    const float far = 1.0e6F; // where the shift-by-class trick runs out of float precision
    std::vector boxes = {box(0, 0.9F, far, far, far + 10, far + 10),
                         box(79, 0.8F, far, far, far + 10, far + 10)};
    vision::suppress_overlaps(boxes, {});
    CHECK(boxes.size() == 2);
}

TEST_CASE("an overlap of exactly the threshold stays") {
    std::vector boxes = {box(0, 0.9F, 0, 0, 10, 10), box(0, 0.8F, 0, 0, 10, 5)}; // IoU 0.5
    vision::suppress_overlaps(boxes, {.iou = 0.5F});
    CHECK(boxes.size() == 2);
    vision::suppress_overlaps(boxes, {.iou = std::nextafter(0.5F, 0.0F)});
    CHECK(boxes.size() == 1);
}

TEST_CASE("a suppressed box suppresses nothing itself") {
    // The second overlaps the first and the third; the third overlaps the second only.
    std::vector boxes = {box(0, 0.9F, 0, 0, 10, 10), box(0, 0.8F, 4, 0, 14, 10),
                         box(0, 0.7F, 8, 0, 18, 10)};
    vision::suppress_overlaps(boxes, {.iou = 0.3F});
    REQUIRE(boxes.size() == 2);
    CHECK(boxes[1].score == 0.7F);
}

TEST_CASE("equal scores keep the order they came in") {
    std::vector<vision::detection> boxes;
    for (int i = 0; i < 50; ++i) {
        const float x = static_cast<float>(i) * 20;
        boxes.push_back(box(i, 0.5F, x, 0, x + 10, 10));
    }
    vision::suppress_overlaps(boxes, {});
    REQUIRE(boxes.size() == 50);
    for (int i = 0; i < 50; ++i) {
        CHECK(boxes[static_cast<std::size_t>(i)].class_id == i);
    }
}

TEST_CASE("candidates and detections are limited to the best") {
    std::vector<vision::detection> boxes;
    for (int i = 0; i < 100; ++i) {
        const float x = static_cast<float>(i) * 20;
        boxes.push_back(box(0, 0.001F * static_cast<float>(i), x, 0, x + 10, 10));
    }
    auto few = boxes;
    vision::suppress_overlaps(few, {.most_detections = 3});
    REQUIRE(few.size() == 3);
    CHECK(few[0].score == 0.001F * 99);
    CHECK(few[2].score == 0.001F * 97);

    vision::suppress_overlaps(boxes, {.most_candidates = 5});
    CHECK(boxes.size() == 5);
}

TEST_CASE("no boxes are fine") {
    std::vector<vision::detection> none;
    vision::suppress_overlaps(none, {});
    CHECK(none.empty());
}

} // namespace
