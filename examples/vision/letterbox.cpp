// SPDX-License-Identifier: BSL-1.0
// Every rounding here moves scores by hundredths: it follows what the models were trained with, in
// double.
#include "letterbox.hpp"

#include "error.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <opencv2/imgproc.hpp>

namespace vision {
namespace {

int scaled_side(int side, double ratio, resize_rounding rounding) {
    const double exact = side * ratio;
    // nearbyint rounds half to even, as Python does.
    const double rounded =
        rounding == resize_rounding::truncate ? std::trunc(exact) : std::nearbyint(exact);
    return std::max(1, static_cast<int>(rounded));
}

int first_padding(int free, padding_rule rule) {
    // With an odd number of free pixels the smaller half comes first.
    return rule == padding_rule::top_left ? 0 : static_cast<int>(std::nearbyint(free / 2.0 - 0.1));
}

void fill_grey(cv::Mat area) {
    if (!area.empty()) {
        area.setTo(cv::Scalar::all(letterbox_grey));
    }
}

} // namespace

letterbox_plan plan_letterbox(image_size source, image_size input, const preparation& prepare) {
    if (source.width < 1 || source.height < 1 || input.width < 1 || input.height < 1) {
        throw error(
            fmt::format("cannot fit a {}x{} picture into {}x{}; allowed: sides of at least 1",
                        source.width, source.height, input.width, input.height));
    }
    letterbox_plan plan{.source = source, .input = input};
    plan.ratio = std::min(static_cast<double>(input.width) / source.width,
                          static_cast<double>(input.height) / source.height);
    plan.scaled = {
        std::min(input.width, scaled_side(source.width, plan.ratio, prepare.rounding)),
        std::min(input.height, scaled_side(source.height, plan.ratio, prepare.rounding))};
    plan.left = first_padding(input.width - plan.scaled.width, prepare.padding);
    plan.top = first_padding(input.height - plan.scaled.height, prepare.padding);
    return plan;
}

void apply_letterbox(const cv::Mat& bgr, const letterbox_plan& plan,
                     std::span<std::uint8_t> target) {
    if (bgr.type() != CV_8UC3 || image_size{bgr.cols, bgr.rows} != plan.source ||
        target.size() != letterbox_bytes(plan.input)) {
        throw error("letterbox: picture and buffer must be 8-bit BGR of the plan's sizes");
    }
    cv::Mat canvas(plan.input.height, plan.input.width, CV_8UC3, target.data());
    const int right = plan.left + plan.scaled.width;
    const int bottom = plan.top + plan.scaled.height;
    fill_grey(canvas.rowRange(0, plan.top));
    fill_grey(canvas.rowRange(bottom, plan.input.height));
    fill_grey(canvas(cv::Range(plan.top, bottom), cv::Range(0, plan.left)));
    fill_grey(canvas(cv::Range(plan.top, bottom), cv::Range(right, plan.input.width)));

    cv::Mat inner = canvas(cv::Range(plan.top, bottom), cv::Range(plan.left, right));
    cv::resize(bgr, inner, inner.size(), 0, 0,
               cv::INTER_LINEAR); // copies where the sizes are equal
}

void to_planes(std::span<const std::uint8_t> bgr, const preparation& prepare,
               std::span<float> planes) {
    const std::size_t pixels = bgr.size() / 3;
    const bool rgb = prepare.colour == colour_order::rgb;
    const float scale = prepare.scale;
    float* const blue = planes.data() + (rgb ? 2 * pixels : 0);
    float* const green = planes.data() + pixels;
    float* const red = planes.data() + (rgb ? 0 : 2 * pixels);

    // In blocks: taking three bytes apart stays scalar, turning bytes into floats becomes SIMD.
    constexpr std::size_t block = 512;
    std::array<std::uint8_t, block> b;
    std::array<std::uint8_t, block> g;
    std::array<std::uint8_t, block> r;
    for (std::size_t first = 0; first < pixels; first += block) {
        const std::size_t count = std::min(block, pixels - first);
        const std::uint8_t* from = bgr.data() + 3 * first;
        for (std::size_t i = 0; i < count; ++i) {
            b[i] = from[3 * i];
            g[i] = from[3 * i + 1];
            r[i] = from[3 * i + 2];
        }
        for (std::size_t i = 0; i < count; ++i) {
            blue[first + i] = static_cast<float>(b[i]) * scale;
        }
        for (std::size_t i = 0; i < count; ++i) {
            green[first + i] = static_cast<float>(g[i]) * scale;
        }
        for (std::size_t i = 0; i < count; ++i) {
            red[first + i] = static_cast<float>(r[i]) * scale;
        }
    }
}

detection to_source(const detection& in_input, const letterbox_plan& plan) noexcept {
    const auto back = [&](float at, int padding, int side) {
        const double mapped = (static_cast<double>(at) - padding) / plan.ratio;
        return static_cast<float>(std::clamp(mapped, 0.0, static_cast<double>(side)));
    };
    detection result = in_input;
    result.x1 = back(in_input.x1, plan.left, plan.source.width);
    result.x2 = back(in_input.x2, plan.left, plan.source.width);
    result.y1 = back(in_input.y1, plan.top, plan.source.height);
    result.y2 = back(in_input.y2, plan.top, plan.source.height);
    return result;
}

} // namespace vision
