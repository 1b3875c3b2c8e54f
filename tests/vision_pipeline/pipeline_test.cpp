// SPDX-License-Identifier: BSL-1.0
// Videos through the whole pipeline: right boxes, in order, in whole files.
#include "average_precision.hpp"
#include "error.hpp"
#include "real_data.hpp"
#include "reorder_buffer.hpp"
#include "report.hpp"
#include "run_video.hpp"
#include "temp_folder.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <fstream>
#include <opencv2/videoio.hpp>

namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using namespace std::chrono_literals;

const std::filesystem::path assets =
    std::filesystem::path(TIDEGATE_SOURCE_ROOT) / "examples" / "vision" / "assets";

vision::engine_options with_model(const std::filesystem::path& model, std::size_t workers = 2,
                                  std::size_t batch = 1) {
    vision::engine_options options;
    options.model.model = model;
    options.workers = workers;
    options.batch = batch;
    return options;
}

vision::video_options video(const std::filesystem::path& source, const std::filesystem::path& out) {
    vision::video_options options;
    options.source = source;
    options.out = out;
    options.annotate = false;
    return options;
}

boxes_by_frame all_boxes(const finished_video& done) {
    boxes_by_frame found;
    for (const auto& part : done.parts) {
        for (const auto& frame : part.frames) found[frame.index] = frame.found;
    }
    return found;
}

// Every frame once, in order; progress never at its end before the end.
void check_parts(const finished_video& done, std::size_t chunk) {
    std::int64_t next = 0;
    std::int64_t frames = 0;
    for (std::size_t i = 0; i < done.parts.size(); ++i) {
        const auto& part = done.parts[i];
        for (const auto& frame : part.frames) {
            CHECK(frame.index >= next);
            next = frame.index + 1;
            ++frames;
        }
        CHECK(part.frames_done == frames);
        if (i + 1 < done.parts.size()) CHECK(part.frames.size() >= chunk);
        if (auto const progress = part.progress()) CHECK(*progress < 1);
    }
    CHECK(frames == done.summary.frames);
}

std::size_t lines_of(const std::filesystem::path& file) {
    std::ifstream in(file);
    std::string line;
    std::size_t n = 0;
    while (std::getline(in, line)) {
        json::parse(line); // throws if it is none
        ++n;
    }
    return n;
}

std::size_t frames_of(const std::filesystem::path& file) {
    cv::VideoCapture in(file.string(), cv::CAP_FFMPEG);
    std::size_t n = 0;
    while (in.grab()) ++n;
    return n;
}

boxes_by_frame shapes_truth() {
    boxes_by_frame truth;
    std::ifstream in(assets / "shapes_truth.jsonl");
    std::string line;
    while (std::getline(in, line)) {
        auto const frame = json::parse(line);
        auto& listed = truth[frame.at("frame").to_number<std::int64_t>()];
        for (const auto& d : frame.at("detections").as_array()) {
            auto const corner = [&](std::size_t i) {
                return d.at("box").as_array()[i].to_number<float>();
            };
            listed.push_back(
                {d.at("class").to_number<int>(), 1, corner(0), corner(1), corner(2), corner(3)});
        }
    }
    return truth;
}

} // namespace

TEST_CASE("the bundled detector finds the bundled clip's shapes with mAP@0.5 of at least 0.90") {
    temp_folder const out;
    auto engine = with_model(assets / "shapes.onnx");
    engine.model.confidence = 0.05F; // the whole curve
    auto const done = run_video(engine, video(assets / "shapes.mp4", out.path()));
    CHECK(done.summary.frames == 300);
    check_parts(done, 30);
    auto const truth = shapes_truth();
    REQUIRE(truth.size() == 300);
    auto const found = all_boxes(done);
    double sum = 0;
    for (int class_id = 0; class_id < 3; ++class_id) {
        sum += average_precision(truth, found, class_id, 0.5F);
    }
    CAPTURE(sum / 3);
    CHECK(sum / 3 >= 0.90);
}

TEST_CASE("batches forced to 4 and 8 give the boxes of single frames, and the report tells sizes") {
    temp_folder const out;
    auto const alone =
        run_video(with_model(assets / "shapes.onnx"), video(assets / "shapes.mp4", out.path()));
    auto const expected = all_boxes(alone);
    for (std::size_t const batch : {4u, 8u}) {
        asio::io_context io(1);
        auto options = with_model(assets / "shapes.onnx", 2, batch);
        options.max_delay = 20ms; // so that batches fill
        vision::engine engine(io.get_executor(), options);
        finished_video done;
        asio::co_spawn(io, run_video(engine, video(assets / "shapes.mp4", out.path()), done),
                       [](std::exception_ptr e) { CHECK_FALSE(e); });
        io.run();
        auto const stats = engine.models.get_if_ready()->batches.statistics();
        CHECK(stats.items == 300);
        CHECK(stats.by_size[batch] >= 300 / batch / 2);
        auto const found = all_boxes(done);
        REQUIRE(found.size() == expected.size());
        for (const auto& [frame, listed] : expected) {
            INFO("batch " << batch << ", frame " << frame);
            CHECK(difference(listed, found.at(frame), 0.98F, 1e-3F).empty());
        }
        auto const report =
            vision::make_report("shapes.onnx", engine, *engine.models.get_if_ready(), done.summary);
        auto const parsed = json::parse(report.json());
        CHECK(parsed.at("batching").at("frames").to_number<int>() == 300);
        CHECK(parsed.at("stages").as_array().size() >= 6);
        CHECK(parsed.at("peak_memory_bytes").to_number<std::int64_t>() > 1000000);
        CHECK(report.text().find("closed because") != std::string::npos);
    }
}

TEST_CASE("ten copies run together: every frame of every copy has exactly its truth") {
    NEEDS_REAL_DATA();
    auto const truth = reference("synthetic_blobs_truth.jsonl");
    auto const batch = GENERATE(as<std::size_t>(), 1, 3, 4, 8);
    temp_folder const out;
    asio::io_context io(1);
    vision::engine engine(
        io.get_executor(),
        with_model(real_data() / "models/synthetic_blob_v8_416_dyn.onnx", 2, batch));
    std::vector<finished_video> copies(10);
    for (std::size_t i = 0; i < copies.size(); ++i) {
        asio::co_spawn(
            io,
            run_video(engine,
                      video(real_data() / "video/synthetic_blobs.avi", out / std::to_string(i)),
                      copies[i]),
            [](std::exception_ptr e) { CHECK_FALSE(e); });
    }
    io.run();
    for (const finished_video& copy : copies) {
        check_parts(copy, 30);
        auto const found = all_boxes(copy);
        REQUIRE(found.size() == truth.size());
        for (auto [frame, listed] : found) {
            const auto& expected = truth.at(std::to_string(frame));
            std::ranges::sort(listed, {}, &vision::detection::class_id);
            REQUIRE(listed.size() == expected.size());
            for (std::size_t i = 0; i < listed.size(); ++i) {
                CHECK(listed[i].class_id == expected[i].class_id);
                CHECK(vision::overlap(listed[i], expected[i]) > 0.999F);
            }
        }
    }
}

TEST_CASE("the street video gives the reference's boxes through the pipeline") {
    NEEDS_REAL_DATA();
    temp_folder const out;
    auto options = video(real_data() / "video/vtest.avi", out.path());
    options.every_n = 15;
    auto engine = with_model(real_data() / "models/yolox_nano_416_dyn.onnx");
    engine.model.confidence = 0.30F;
    auto const done = run_video(engine, options);
    auto const expected = reference("vtest_every5_yolox.jsonl");
    CHECK(done.summary.frames == 53);
    for (const auto& [frame, listed] : all_boxes(done)) {
        INFO("frame " << frame);
        CHECK(difference(expected.at(std::to_string(frame)), listed) == "");
    }
}

TEST_CASE("a container that announces more than it holds is reported, and progress stays below 1") {
    NEEDS_REAL_DATA();
    temp_folder const out;
    auto const done = run_video(with_model(real_data() / "models/synthetic_blob_v8_416_dyn.onnx"),
                                video(real_data() / "video/tree.avi", out.path()));
    CHECK(done.summary.frames == 68);
    REQUIRE_FALSE(done.summary.warnings.empty());
    CHECK(done.summary.warnings[0].find("444") != std::string::npos);
    check_parts(done, 30);
    CHECK(lines_of(out / "detections.jsonl") == 68);
}

TEST_CASE("models with a fixed batch, and end-to-end ones, run one by one") {
    NEEDS_REAL_DATA();
    auto const name = GENERATE("yolox_nano_416.onnx", "derived_v10layout_416_b1.onnx");
    temp_folder const out;
    auto options = video(real_data() / "images", out.path());
    auto const done = run_video(with_model(real_data() / "models" / name), options);
    CHECK(done.summary.frames == 5);
    CHECK(done.summary.detections > 5);
    CHECK_THROWS_AS(run_video(with_model(real_data() / "models" / name, 1, 4), options),
                    vision::error);
}

TEST_CASE("a run that is stopped in the middle leaves whole files of what was done") {
    temp_folder const out;
    auto options = video(assets / "shapes.mp4", out.path());
    options.annotate = true;
    options.chunk = 10;
    auto const done =
        run_video(with_model(assets / "shapes.onnx"), options,
                  [](vision::engine& engine, const vision::partial_result&) { engine.stop(); });
    CHECK(done.summary.interrupted);
    CHECK(done.summary.frames >= 10);
    CHECK(done.summary.frames < 300);
    auto const frames = static_cast<std::size_t>(done.summary.frames);
    CHECK(lines_of(out / "detections.jsonl") == frames);
    CHECK(frames_of(out / "annotated.mp4") == frames);
    CHECK(out.entries() == 2);
}

TEST_CASE("frames of an urgent video go first, and those of others still get on") {
    temp_folder const alone, here, there;
    auto every_second = video(assets / "shapes.mp4", alone.path());
    every_second.every_n = 2;
    every_second.chunk = 1;
    auto const expected = run_video(with_model(assets / "shapes.onnx"), every_second);
    auto const batch = GENERATE(std::size_t{1}, std::size_t{4});
    auto settings = with_model(assets / "shapes.onnx", 1, batch);
    settings.decoders = 2;
    settings.before_inference = [batch] { // slower than all else
        auto const end = std::chrono::steady_clock::now() + batch * 8ms;
        while (std::chrono::steady_clock::now() < end) {
        }
    };
    asio::io_context io(1);
    vision::engine engine(io.get_executor(), settings);
    finished_video ordinary, urgent;
    std::int64_t ordinary_meanwhile = 0;
    int failures = 0;
    auto const count = [&](std::exception_ptr e) { failures += e ? 1 : 0; };
    auto first = every_second, second = every_second;
    first.out = here.path();
    second.out = there.path();
    second.is_urgent = [] { return true; };
    auto const note = [&](const vision::partial_result& part) {
        if (part.frames_done != 150 || ordinary.parts.empty()) return;
        ordinary_meanwhile = ordinary.parts.back().frames_done;
    };
    asio::co_spawn(io, run_video(engine, first, ordinary), count);
    asio::co_spawn(io, run_video(engine, second, urgent, note), count);
    io.run();
    CHECK(failures == 0);
    CHECK(ordinary_meanwhile > 0);
    CHECK(ordinary_meanwhile < 75); // an 18th of 150, and what was under way: about 20
    CHECK((all_boxes(ordinary) == all_boxes(expected)));
    CHECK((all_boxes(urgent) == all_boxes(expected)));
}

TEST_CASE("every n-th frame only") {
    temp_folder const out;
    auto options = video(assets / "shapes.mp4", out.path());
    options.every_n = 7;
    auto const done = run_video(with_model(assets / "shapes.onnx"), options);
    CHECK(done.summary.frames == 43);
    for (const auto& each : all_boxes(done)) CHECK(each.first % 7 == 0);
}

TEST_CASE("few frames under way are enough, and bound the memory") {
    temp_folder const out;
    auto const options = video(assets / "shapes.mp4", out.path());
    auto engine = with_model(assets / "shapes.onnx", 2, 4);
    engine.frames_in_flight = 2;
    auto const done = run_video(engine, options);
    CHECK(done.summary.frames == 300);
    CHECK(done.summary.frames_in_flight == 2);
}

TEST_CASE("an output that fails ends the video with its error") {
    temp_folder const out;
    auto options = video(assets / "shapes.mp4", out.put("file", "in the way"));
    std::string message;
    try {
        run_video(with_model(assets / "shapes.onnx"), options);
    } catch (const vision::error& e) {
        message = e.what();
    }
    CHECK(message.find((out / "file").string()) != std::string::npos);
}

TEST_CASE("calibration chooses one of the points that it measured, within 5 % of the best") {
    vision::detector_options options;
    options.model = assets / "shapes.onnx";
    vision::detector const model(options);
    auto const start = std::chrono::steady_clock::now();
    vision::run_control stop;
    auto const tuned = vision::calibrate(model, {.max_workers = 2, .budget = 400ms}, stop);
    CHECK(std::chrono::steady_clock::now() - start < 2s);
    double best = 0, chosen = 0;
    for (const auto& p : tuned.measured) {
        best = std::max(best, p.items_per_second);
        if (p.workers == tuned.chosen.workers && p.batch == tuned.chosen.batch) {
            chosen = p.items_per_second;
        }
    }
    CHECK(chosen * 1.05 >= best);
    CHECK(tuned.table().find("<- chosen") != std::string::npos);
}

TEST_CASE("things that were numbered come back in order") {
    vision::reorder_buffer<char> buffer;
    CHECK_FALSE(buffer.take_next());
    buffer.put(2, 'c');
    buffer.put(1, 'b');
    CHECK_FALSE(buffer.take_next());
    buffer.put(0, 'a');
    for (char const expected : {'a', 'b', 'c'}) CHECK(buffer.take_next() == expected);
    CHECK_FALSE(buffer.take_next());
}
