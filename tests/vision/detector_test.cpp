// SPDX-License-Identifier: BSL-1.0
// The loaded model as a black box, on models of a few hundred bytes: what is accepted, what is
// refused, whose result goes where.
#include "detector.hpp"
#include "message_of.hpp"
#include "temp_folder.hpp"
#include "tiny_onnx.hpp"

#include <atomic>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <limits>
#include <thread>
#include <vector>

namespace {

using Catch::Approx;

// A yolov8 model on 64 x 64 whose one box scores what its picture's red channel is, in 0..1.
tiny_onnx echo_model() {
    tiny_onnx model;
    model.base.assign(5 * 84, 0);
    model.gain.assign(5 * 84, 0);
    const std::size_t row = 10;
    model.base[0 * 84 + row] = model.base[1 * 84 + row] = 32;
    model.base[2 * 84 + row] = model.base[3 * 84 + row] = 20;
    model.gain[4 * 84 + row] = 1;
    return model;
}

vision::detector load(const tiny_onnx& model, vision::detector_options options = {}) {
    const temp_folder folder;
    options.model = folder.put("tiny.onnx", model.bytes());
    return vision::detector(options);
}

std::string refusal(const tiny_onnx& model, vision::detector_options options = {}) {
    return message_of([&] { load(model, options); });
}

// Grey pictures of the given brightness, as the network gets them.
struct pictures {
    pictures(const vision::detector& d, const std::vector<int>& brightness) {
        for (const int value : brightness) {
            pixels.emplace_back(d.picture_bytes(), static_cast<std::uint8_t>(value));
        }
        for (const auto& p : pixels) {
            batch.push_back({p, d.plan({64, 64})});
        }
    }
    std::vector<std::vector<std::uint8_t>> pixels;
    std::vector<vision::prepared_picture> batch;
};

void check_echo(const std::vector<std::vector<vision::detection>>& results,
                const std::vector<int>& brightness) {
    REQUIRE(results.size() == brightness.size());
    for (std::size_t i = 0; i < results.size(); ++i) {
        CAPTURE(i);
        REQUIRE(results[i].size() == 1);
        CHECK(results[i][0].score == Approx(brightness[i] / 255.0).margin(1e-5));
        CHECK(results[i][0].x1 == 22);
        CHECK(results[i][0].y2 == 42);
    }
}

TEST_CASE("every picture of a batch gets its own result, whatever the batch's size") {
    const auto d = load(echo_model());
    CHECK(d.fixed_batch() == 0);
    auto scratch = d.make_scratch(8);
    vision::run_control control;
    for (const std::vector<int>& brightness : {std::vector<int>{200},
                                               {100, 150, 250},
                                               {80, 90, 100, 110},
                                               {255, 70, 240, 80, 220, 90, 210, 95}}) {
        check_echo(d.run(pictures(d, brightness).batch, scratch, control), brightness);
    }
    CHECK(d.run({}, scratch, control).empty());
}

TEST_CASE("a fixed batch of 1 takes any number of pictures, one by one") {
    auto model = echo_model();
    model.input[0] = 1;
    const auto d = load(model);
    CHECK(d.fixed_batch() == 1);
    auto scratch = d.make_scratch(4);
    vision::run_control control;
    check_echo(d.run(pictures(d, {100, 150, 250, 80}).batch, scratch, control),
               {100, 150, 250, 80});
}

TEST_CASE("a fixed batch of 4 takes any number of pictures, the last batch part empty") {
    auto model = echo_model();
    model.input[0] = 4;
    const auto d = load(model);
    CHECK(d.fixed_batch() == 4);
    auto scratch = d.make_scratch(6);
    vision::run_control control;
    check_echo(d.run(pictures(d, {100, 150, 250, 80, 90, 110}).batch, scratch, control),
               {100, 150, 250, 80, 90, 110});
    check_echo(d.run(pictures(d, {77}).batch, scratch, control), {77});
}

TEST_CASE("a model that only claims to take any batch is run one by one, with a warning") {
    auto model = echo_model();
    model.only_batch_one = true;
    const auto d = load(model);
    CHECK(d.fixed_batch() == 1);
    REQUIRE(d.layout().warnings.size() == 1);
    CHECK(contains(d.layout().warnings[0], "one by one"));
    auto scratch = d.make_scratch(3);
    vision::run_control control;
    check_echo(d.run(pictures(d, {100, 150, 250}).batch, scratch, control), {100, 150, 250});
}

TEST_CASE("a scratch can be used again and again, and keeps its memory") {
    const auto d = load(echo_model());
    auto scratch = d.make_scratch(2);
    const std::size_t bytes = scratch.bytes();
    CHECK(bytes == 2 * sizeof(float) * (64 * 64 * 3 + 5 * 84));
    vision::run_control control;
    for (int i = 70; i < 120; ++i) {
        check_echo(d.run(pictures(d, {i, 255 - i}).batch, scratch, control), {i, 255 - i});
    }
    CHECK(scratch.bytes() == bytes);
    CHECK(scratch.dropped_boxes() == 0);
}

TEST_CASE("many threads share one detector") {
    const auto d = load(echo_model());
    std::atomic<int> wrong = 0;
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            auto scratch = d.make_scratch(3);
            vision::run_control control;
            for (int i = 0; i < 100; ++i) {
                const std::vector<int> brightness = {70 + i, 75 + t * 40, 255 - i};
                const auto results = d.run(pictures(d, brightness).batch, scratch, control);
                for (std::size_t k = 0; k < brightness.size(); ++k) {
                    const bool right = results[k].size() == 1 &&
                                       std::abs(results[k][0].score -
                                                static_cast<float>(brightness[k]) / 255) < 1e-5F;
                    wrong += right ? 0 : 1;
                }
            }
        });
    }
    threads.clear();
    CHECK(wrong == 0);
}

TEST_CASE("a stopped control ends runs with run_stopped until it is reset") {
    const auto d = load(echo_model());
    auto scratch = d.make_scratch(1);
    vision::run_control control;
    const pictures grey(d, {100});
    control.request_stop();
    CHECK(control.stop_requested());
    CHECK_THROWS_AS(d.run(grey.batch, scratch, control), vision::run_stopped);
    CHECK_THROWS_AS(d.run(grey.batch, scratch, control), vision::run_stopped);
    control.reset();
    check_echo(d.run(grey.batch, scratch, control), {100});
}

TEST_CASE("more pictures than the scratch has room for are refused") {
    const auto d = load(echo_model());
    auto scratch = d.make_scratch(2);
    vision::run_control control;
    CHECK_THROWS_AS(d.run(pictures(d, {80, 90, 100}).batch, scratch, control), vision::error);
    CHECK(
        contains(message_of([&] { (void)d.make_scratch(0); }), "batch size is 0; allowed: 1..16"));
}

TEST_CASE("outputs that are no numbers are dropped and counted, the rest stays") {
    auto model = echo_model();
    model.base[4 * 84 + 3] = std::numeric_limits<float>::quiet_NaN();
    model.base[4 * 84 + 4] = std::numeric_limits<float>::infinity();
    const auto d = load(model);
    auto scratch = d.make_scratch(1);
    vision::run_control control;
    check_echo(d.run(pictures(d, {100}).batch, scratch, control), {100});
    CHECK(scratch.dropped_boxes() == 2);
}

TEST_CASE("the confidence and the limit of detections are kept") {
    auto model = echo_model();
    for (std::size_t row = 0; row < 5; ++row) { // five boxes side by side
        model.base[row] = 6 + 12 * static_cast<float>(row);
        model.base[84 + row] = 5;
        model.base[2 * 84 + row] = model.base[3 * 84 + row] = 10;
        model.base[4 * 84 + row] = 0.5F + 0.1F * static_cast<float>(row);
    }
    vision::detector_options options;
    options.confidence = 0.65F;
    options.most_detections = 2;
    const auto d = load(model, options);
    auto scratch = d.make_scratch(1);
    vision::run_control control;
    const auto boxes = d.run(pictures(d, {0}).batch, scratch, control).at(0);
    REQUIRE(boxes.size() == 2);
    CHECK(boxes[0].score == Approx(0.9));
    CHECK(boxes[1].score == Approx(0.8));
}

TEST_CASE("metadata names classes and sets an open input size") {
    auto model = echo_model();
    model.input = {-1, 3, -1, -1};
    model.metadata = {{"imgsz", "[64, 64]"},
                      {"names", "{0: 'light'}"},
                      {"task", "detect"},
                      {"author", "Ultralytics"}};
    const auto d = load(model);
    CHECK(d.layout().input == vision::image_size{64, 64});
    CHECK(d.layout().class_name(0) == "light");
    CHECK(d.picture_bytes() == 64 * 64 * 3);

    model.metadata.erase("imgsz");
    vision::detector_options options;
    options.input_side = 96; // an option beats the default of 640; names explain the 84 columns
    CHECK(load(model, options).layout().input == vision::image_size{96, 96});
    options.input_side = std::nullopt;
    CHECK(load(model).layout().input == vision::image_size{640, 640});
}

TEST_CASE("files that are no usable model are refused by name") {
    const temp_folder folder;
    const auto refused = [](const std::filesystem::path& path) {
        return message_of([&] {
            vision::detector_options options;
            options.model = path;
            vision::detector d(options);
        });
    };
    CHECK(contains(refused(folder / "absent.onnx"), "absent.onnx': no such file"));
    CHECK(contains(refused(folder.path()), "not a regular file"));
    CHECK(contains(refused("/dev/null"), "not a regular file"));
    CHECK(
        contains(refused(folder.put("text.onnx", "hello there")), "text.onnx': not an ONNX model"));
    CHECK_FALSE(refused(folder.put("empty.onnx", "")).empty());
    const std::string whole = echo_model().bytes();
    CHECK_FALSE(refused(folder.put("half.onnx", whole.substr(0, whole.size() / 2))).empty());
}

TEST_CASE("inputs and outputs of other kinds are refused with what is allowed") {
    auto rank3 = echo_model();
    rank3.input = {-1, 3, 64};
    CHECK(contains(refusal(rank3), "images ?x3x64; allowed: one float32 input Nx3xHxW"));
    auto grey = echo_model();
    grey.input = {-1, 1, 64, 64};
    CHECK(contains(refusal(grey), "has 1 channels; allowed: 3"));
    auto bytes = echo_model();
    bytes.input_type = 2;
    CHECK(contains(refusal(bytes), "(not float32); allowed: one float32 input"));
    auto two = echo_model();
    two.second_output = true;
    CHECK(contains(refusal(two), "2 outputs (output0 ?x5x84, mean ?x1x1); allowed: one"));
    auto huge = echo_model();
    huge.input = {-1, 3, 100'000, 64};
    CHECK(contains(refusal(huge), "input side 100000; allowed: 32..4096"));
    auto no_yolo = echo_model();
    no_yolo.item = {1, 17, 19};
    no_yolo.base.clear();
    no_yolo.gain.clear();
    CHECK(contains(refusal(no_yolo),
                   "tiny.onnx': output 1x17x19 for a 64x64 input is no YOLO layout"));
}

TEST_CASE("absurd options are refused before the model is opened") {
    const auto refused = [](auto set) {
        return message_of([&] {
            vision::detector_options options;
            options.model = "absent.onnx";
            set(options);
            vision::detector d(options);
        });
    };
    CHECK(contains(refused([](auto& o) { o.confidence = -1; }), "confidence is -1; allowed: 0..1"));
    CHECK(contains(refused([](auto& o) { o.iou = std::numeric_limits<float>::quiet_NaN(); }),
                   "iou is nan"));
    CHECK(contains(refused([](auto& o) { o.most_detections = 0; }), "most detections is 0"));
    CHECK(contains(refused([](auto& o) { o.intra_op_threads = 0; }), "threads is 0"));
    auto fixed = echo_model();
    vision::detector_options options;
    options.input_side = 128;
    CHECK(contains(refusal(fixed, options), "input side 128 was asked for; allowed: 64"));
}

} // namespace
