// SPDX-License-Identifier: BSL-1.0
// Real models on real pictures beside reference detections that two other runtimes agree on.
#include "detector.hpp"
#include "message_of.hpp"
#include "nms.hpp"
#include "real_data.hpp"
#include "video_source.hpp"

#include <algorithm>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <map>
#include <opencv2/core.hpp>
#include <thread>
#include <vector>

namespace {

using vision::layout_family;

vision::detector load(const std::string& model) {
    vision::detector_options options; // as the references were made
    options.model = real_data() / "models" / model;
    options.confidence = 0.30F;
    options.iou = 0.45F;
    return vision::detector(options);
}

struct letterboxed {
    std::vector<std::uint8_t> pixels;
    vision::letterbox_plan plan;
};

letterboxed prepare(const vision::detector& detector, const cv::Mat& picture) {
    letterboxed result{std::vector<std::uint8_t>(detector.picture_bytes()),
                       detector.plan({picture.cols, picture.rows})};
    vision::apply_letterbox(picture, result.plan, result.pixels);
    return result;
}

// Detects on everything of the source, `batch` pictures at a time, at every `every`-th one.
std::map<std::string, boxes> detect_all(const vision::detector& detector,
                                        const std::filesystem::path& path, std::size_t batch,
                                        std::int64_t every = 1) {
    std::map<std::string, boxes> results;
    auto scratch = detector.make_scratch(batch);
    vision::run_control control;
    const auto source = vision::open_source(path);
    std::vector<letterboxed> waiting;
    std::vector<std::string> names;
    const auto flush = [&] {
        std::vector<vision::prepared_picture> pictures;
        for (const auto& picture : waiting) {
            pictures.push_back({picture.pixels, picture.plan});
        }
        const auto found = detector.run(pictures, scratch, control);
        for (std::size_t i = 0; i < found.size(); ++i) {
            results[names[i]] = found[i];
        }
        waiting.clear();
        names.clear();
    };
    cv::Mat frame;
    while (source->read(frame) == vision::read_status::frame) {
        if (source->index() % every != 0) {
            continue;
        }
        waiting.push_back(prepare(detector, frame));
        names.push_back(source->info().images ? source->image_name()
                                              : std::to_string(source->index()));
        if (waiting.size() == batch) {
            flush();
        }
    }
    flush();
    CHECK(scratch.dropped_boxes() == 0);
    return results;
}

void check_same(const std::map<std::string, boxes>& expected,
                const std::map<std::string, boxes>& found) {
    REQUIRE_FALSE(expected.empty());
    REQUIRE(found.size() == expected.size());
    for (const auto& [name, list] : expected) {
        CAPTURE(name);
        CHECK(difference(list, found.at(name)) == "");
    }
}

TEST_CASE("photos give the reference's boxes through every layout") {
    NEEDS_REAL_DATA();
    const auto [model, file, family] = GENERATE(table<std::string, std::string, layout_family>({
        {"yolox_nano_416_dyn.onnx", "images_yolox.jsonl", layout_family::yolox_raw},
        {"yolox_nano_416.onnx", "images_yolox.jsonl", layout_family::yolox_raw},
        {"derived_v5layout_416_dyn.onnx", "images_v5.jsonl", layout_family::yolov5},
        {"derived_v8layout_416_dyn.onnx", "images_v8.jsonl", layout_family::yolov8},
        {"derived_v10layout_416_b1.onnx", "images_v10.jsonl", layout_family::end_to_end},
    }));
    CAPTURE(model);
    const auto detector = load(model);
    CHECK(detector.layout().family == family);
    CHECK(detector.layout().class_count == 80);
    check_same(reference(file), detect_all(detector, real_data() / "images", 1));
}

TEST_CASE("the same weights behind v5, v8 and v10 layouts give the same boxes") {
    NEEDS_REAL_DATA();
    const auto images = real_data() / "images";
    const auto v5 = detect_all(load("derived_v5layout_416_dyn.onnx"), images, 1);
    const auto v8 = detect_all(load("derived_v8layout_416_dyn.onnx"), images, 1);
    const auto v10 = detect_all(load("derived_v10layout_416_b1.onnx"), images, 1);
    REQUIRE(v5.size() == 5);
    for (const auto& [name, list] : v5) {
        CAPTURE(name);
        REQUIRE(list.size() >= 2);
        for (const auto* other : {&v8.at(name), &v10.at(name)}) {
            REQUIRE(other->size() == list.size());
            for (std::size_t i = 0; i < list.size(); ++i) {
                CHECK(other->at(i).class_id == list[i].class_id);
                CHECK(std::abs(other->at(i).score - list[i].score) < 1e-5F);
                CHECK(vision::overlap(other->at(i), list[i]) > 0.9999F);
            }
        }
    }
}

TEST_CASE("batch sizes 1, 3, 4 and 8 agree") {
    NEEDS_REAL_DATA();
    const auto model =
        GENERATE(as<std::string>(), "yolox_nano_416_dyn.onnx", "derived_v8layout_416_dyn.onnx");
    const auto detector = load(model);
    const auto video = real_data() / "video" / "vtest.avi";
    const auto one = detect_all(detector, video, 1, 40);
    REQUIRE(one.size() == 20);
    for (const std::size_t batch : {3U, 4U, 8U}) {
        CAPTURE(batch);
        const auto many = detect_all(detector, video, batch, 40);
        REQUIRE(many.size() == one.size());
        for (const auto& [name, list] : one) {
            CAPTURE(name);
            CHECK(difference(list, many.at(name), 0.999F, 1e-4F) == "");
        }
    }
}

TEST_CASE("every fifth frame of the street video gives the reference's boxes") {
    NEEDS_REAL_DATA();
    const auto expected = reference("vtest_every5_yolox.jsonl");
    REQUIRE(expected.size() == 159);
    check_same(expected, detect_all(load("yolox_nano_416_dyn.onnx"),
                                    real_data() / "video" / "vtest.avi", 1, 5));
}

TEST_CASE("the synthetic clip has exactly its truth in every frame") {
    NEEDS_REAL_DATA();
    const auto batch = GENERATE(as<std::size_t>(), 1, 3, 4, 8);
    const auto truth = reference("synthetic_blobs_truth.jsonl");
    REQUIRE(truth.size() == 60);
    const auto found = detect_all(load("synthetic_blob_v8_416_dyn.onnx"),
                                  real_data() / "video" / "synthetic_blobs.avi", batch);
    REQUIRE(found.size() == 60);
    for (const auto& [frame, expected] : truth) {
        CAPTURE(frame);
        auto list = found.at(frame);
        std::ranges::sort(list, {}, &vision::detection::class_id);
        REQUIRE(list.size() == expected.size());
        for (std::size_t i = 0; i < list.size(); ++i) {
            CHECK(list[i].class_id == expected[i].class_id);
            CHECK(vision::overlap(list[i], expected[i]) > 0.999F);
        }
    }
}

TEST_CASE("a one-class YOLOX with last dimension 6 is not taken for finished boxes") {
    NEEDS_REAL_DATA();
    const auto detector = load("light_person_detector.onnx");
    CHECK(detector.layout().family == layout_family::yolox_raw);
    CHECK(detector.layout().class_count == 1);
    CHECK(detector.layout().input == vision::image_size{192, 192});
    CHECK(detector.fixed_batch() == 1);
    // It sees the people that YOLOX-nano sees best.
    const auto people = detect_all(detector, real_data() / "images", 1);
    const auto& runner = people.at("nanodet_000258.jpg");
    REQUIRE_FALSE(runner.empty());
    CHECK(vision::overlap(runner[0], reference("images_yolox.jsonl").at("nanodet_000258.jpg")[0]) >
          0.7F);
}

TEST_CASE("models of other architectures are refused with their shapes and what would do") {
    NEEDS_REAL_DATA();
    const std::string nanodet = message_of([] { load("nanodet_m_320.onnx"); });
    CHECK(contains(nanodet, "nanodet_m_320.onnx': 6 outputs (cls_pred_stride_8 1x1600x80,"));
    CHECK(contains(nanodet, "yolov8 Nx(4+classes)xA"));
    const std::string fastestdet = message_of([] { load("fastestdet.onnx"); });
    CHECK(contains(fastestdet, "output 1x85x22x22 for a 352x352 input is no YOLO layout"));
}

TEST_CASE("a run can be stopped from another thread while it computes") {
    NEEDS_REAL_DATA();
    const auto detector = load("yolox_nano_416_dyn.onnx");
    auto scratch = detector.make_scratch(16); // about 0.2 s
    vision::run_control control;
    const auto grey = prepare(detector, cv::Mat(416, 416, CV_8UC3, cv::Scalar::all(114)));
    for (std::size_t slot = 0; slot < 16; ++slot) {
        detector.load({grey.pixels, grey.plan}, slot, scratch);
    }
    std::atomic<bool> started = false;
    std::jthread stopper([&] {
        started.wait(false);
        control.request_stop();
    });
    started = true;
    started.notify_one();
    CHECK_THROWS_AS(detector.infer(16, scratch, control), vision::run_stopped);
    stopper.join();
    control.reset();
    CHECK_NOTHROW(detector.infer(1, scratch, control));
}

TEST_CASE("a film that asks to be turned gives the boxes of the film that was turned") {
    NEEDS_REAL_DATA();
    const auto detector = load("yolox_nano_416_dyn.onnx");
    auto scratch = detector.make_scratch(1);
    vision::run_control control;
    const auto plain = vision::open_source(real_data() / "video" / "cup.mp4");
    const auto asking = vision::open_source(real_data() / "video" / "cup_rot90_made.mp4");
    cv::Mat upright;
    cv::Mat turned;
    std::size_t compared = 0;
    for (int i = 0; i < 60; ++i) {
        REQUIRE(plain->read(upright) == vision::read_status::frame);
        REQUIRE(asking->read(turned) == vision::read_status::frame);
        if (i % 20 != 0) {
            continue;
        }
        cv::rotate(upright, upright, cv::ROTATE_90_CLOCKWISE);
        const auto detect = [&](const cv::Mat& picture) {
            const auto ready = prepare(detector, picture);
            const std::vector<vision::prepared_picture> batch = {{ready.pixels, ready.plan}};
            return detector.run(batch, scratch, control).at(0);
        };
        const auto expected = detect(upright);
        compared += expected.size();
        CHECK(difference(expected, detect(turned)) == "");
    }
    CHECK(compared > 0);
}

} // namespace
