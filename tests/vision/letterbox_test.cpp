// SPDX-License-Identifier: BSL-1.0
// Where a picture lands in the input, to the pixel.
#include "letterbox.hpp"
#include "message_of.hpp"

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <numeric>
#include <opencv2/core.hpp>
#include <vector>

namespace {

using vision::image_size;
using vision::plan_letterbox;
using vision::preparation;

TEST_CASE("Ultralytics centres, with the smaller half first") {
    const auto p = plan_letterbox({500, 333}, {416, 416}, preparation::ultralytics());
    CHECK(p.ratio == 0.832);
    CHECK(p.scaled == image_size{416, 277}); // 277.056
    CHECK(p.left == 0);
    CHECK(p.top == 69); // 139 free: 69 and 70
}

TEST_CASE("Ultralytics rounds half to even") {
    CHECK(plan_letterbox({128, 5}, {64, 64}, preparation::ultralytics()).scaled ==
          image_size{64, 2}); // 2.5
    CHECK(plan_letterbox({128, 7}, {64, 64}, preparation::ultralytics()).scaled ==
          image_size{64, 4}); // 3.5
}

TEST_CASE("YOLOX truncates and pads at the right and the bottom") {
    const auto p = plan_letterbox({768, 576}, {416, 416}, preparation::yolox());
    CHECK(p.scaled == image_size{416, 312});
    CHECK(p.left == 0);
    CHECK(p.top == 0);
    CHECK(plan_letterbox({128, 7}, {64, 64}, preparation::yolox()).scaled ==
          image_size{64, 3}); // 3.5
}

TEST_CASE("the scaled size is computed in double") {
    // In float, 359 * (416 / 638.) comes out a pixel larger or smaller for many sizes; in double
    // the longer side is exact up to one truncation, which Python shows too.
    for (int width = 1; width <= 1000; ++width) {
        const double ratio = std::min(416.0 / width, 416.0 / 777);
        const auto p = plan_letterbox({width, 777}, {416, 416}, preparation::yolox());
        REQUIRE(p.scaled.width == std::max(1, static_cast<int>(width * ratio)));
        REQUIRE(p.scaled.height == static_cast<int>(777 * ratio));
    }
}

TEST_CASE("extreme shapes keep at least one pixel and stay inside") {
    for (const auto& rule : {preparation::ultralytics(), preparation::yolox()}) {
        for (const image_size source : {image_size{1, 10'000}, {10'000, 1}, {1, 1}, {3, 65'535}}) {
            const auto p = plan_letterbox(source, {416, 320}, rule);
            CHECK(p.scaled.width >= 1);
            CHECK(p.scaled.height >= 1);
            CHECK(p.left + p.scaled.width <= 416);
            CHECK(p.top + p.scaled.height <= 320);
        }
    }
    CHECK(contains(message_of([] { (void)plan_letterbox({0, 5}, {416, 416}, {}); }), "0x5"));
}

TEST_CASE("the letterboxed picture is the source inside and grey around it") {
    const cv::Mat source(20, 40, CV_8UC3, cv::Scalar(10, 20, 30));
    const auto p = plan_letterbox({40, 20}, {80, 80}, preparation::ultralytics());
    REQUIRE(p.top == 20);
    std::vector<std::uint8_t> target(vision::letterbox_bytes(p.input), 255);
    vision::apply_letterbox(source, p, target);
    for (std::size_t y = 0; y < 80; ++y) {
        for (std::size_t x = 0; x < 80; ++x) {
            const bool inside = y >= 20 && y < 60;
            for (std::size_t c = 0; c < 3; ++c) {
                REQUIRE(target[(y * 80 + x) * 3 + c] == (inside ? 10 * (c + 1) : 114));
            }
        }
    }
}

TEST_CASE("padding at the left and right is grey too, on every row") {
    const cv::Mat source(30, 7, CV_8UC3, cv::Scalar::all(0));
    const auto p = plan_letterbox({7, 30}, {30, 30}, preparation::ultralytics());
    std::vector<std::uint8_t> target(vision::letterbox_bytes(p.input), 255);
    vision::apply_letterbox(source, p, target);
    CHECK(std::ranges::count(target, 114) == 30 * 23 * 3);
    CHECK(std::ranges::count(target, 0) == 30 * 7 * 3);
}

TEST_CASE("a picture or buffer of the wrong size is refused") {
    const auto p = plan_letterbox({40, 20}, {80, 80}, preparation::ultralytics());
    std::vector<std::uint8_t> target(vision::letterbox_bytes(p.input));
    CHECK_THROWS_AS(vision::apply_letterbox(cv::Mat(20, 41, CV_8UC3), p, target), vision::error);
    CHECK_THROWS_AS(vision::apply_letterbox(cv::Mat(20, 40, CV_8UC1), p, target), vision::error);
    target.pop_back();
    CHECK_THROWS_AS(vision::apply_letterbox(cv::Mat(20, 40, CV_8UC3), p, target), vision::error);
}

TEST_CASE("planes hold every byte in the model's order and scale") {
    constexpr std::size_t pixels = 1337; // more than one block, and no multiple of it
    std::vector<std::uint8_t> bgr(3 * pixels);
    for (std::size_t i = 0; i < bgr.size(); ++i) {
        bgr[i] = static_cast<std::uint8_t>(i * 7 % 256);
    }
    std::vector<float> rgb_planes(bgr.size());
    std::vector<float> bgr_planes(bgr.size());
    vision::to_planes(bgr, preparation::ultralytics(), rgb_planes);
    vision::to_planes(bgr, preparation::yolox(), bgr_planes);
    for (std::size_t i = 0; i < pixels; ++i) {
        for (std::size_t c = 0; c < 3; ++c) {
            const auto byte = static_cast<float>(bgr[3 * i + c]);
            REQUIRE(bgr_planes[c * pixels + i] == byte);
            REQUIRE(rgb_planes[(2 - c) * pixels + i] == Catch::Approx(byte / 255));
        }
    }
}

TEST_CASE("boxes go back to where they came from, clipped to the picture") {
    const auto p = plan_letterbox({1000, 500}, {400, 400}, preparation::ultralytics());
    REQUIRE(p.top == 100);
    const auto inside = vision::to_source({3, 0.5F, 40, 140, 80, 180}, p);
    CHECK(inside.class_id == 3);
    CHECK(inside.score == 0.5F);
    CHECK(inside.x1 == 100);
    CHECK(inside.y1 == 100);
    CHECK(inside.x2 == 200);
    CHECK(inside.y2 == 200);
    const auto clipped = vision::to_source({0, 1, -50, 50, 500, 350}, p);
    CHECK(clipped.x1 == 0);
    CHECK(clipped.y1 == 0);
    CHECK(clipped.x2 == 1000);
    CHECK(clipped.y2 == 500);
    const auto in_padding = vision::to_source({0, 1, 10, 10, 20, 20}, p);
    CHECK(in_padding.y1 == in_padding.y2);
}

} // namespace
