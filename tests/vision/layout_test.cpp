// SPDX-License-Identifier: BSL-1.0
// Which output layout is recognised from which shapes, metadata and options.
#include "error.hpp"
#include "layout.hpp"
#include "message_of.hpp"

#include <catch2/catch_test_macros.hpp>

namespace {

using vision::layout_family;
using vision::preparation;

vision::layout_question question(vision::image_size input, std::vector<std::int64_t> shape) {
    return {input, std::move(shape), {}, {}, {}};
}

vision::model_metadata ultralytics(std::size_t classes) {
    vision::model_metadata m;
    m.task = "detect";
    m.names.assign(classes, "thing");
    m.input = {416, 416};
    return m;
}

constexpr vision::image_size side416{416, 416};
constexpr vision::image_size side640{640, 640};

TEST_CASE("grid cells are counted over the strides") {
    CHECK(vision::grid_cells(side640) == 8400);
    CHECK(vision::grid_cells(side416) == 3549);
    CHECK(vision::grid_cells({192, 192}) == 756);
    CHECK(vision::grid_cells({640, 384}) == 80 * 48 + 40 * 24 + 20 * 12);
    CHECK(vision::grid_cells({1280, 1280}, 64) == 34'000);
}

TEST_CASE("arithmetic alone recognises each family") {
    const auto family = [](vision::image_size input, std::vector<std::int64_t> shape) {
        return vision::deduce_layout(question(input, std::move(shape))).family;
    };
    CHECK(family(side640, {1, 25'200, 85}) == layout_family::yolov5);
    CHECK(family(side640, {1, 25'200, 6}) ==
          layout_family::yolov5); // one class, not finished boxes
    CHECK(family(side640, {1, 84, 8400}) == layout_family::yolov8);
    CHECK(family(side640, {1, 5, 8400}) == layout_family::yolov8);
    CHECK(family({640, 384}, {1, 84, 5040}) == layout_family::yolov8);
    CHECK(family({1280, 1280}, {1, 102'000, 85}) == layout_family::yolov5); // four strides
    CHECK(family(side416, {1, 3549, 85}) == layout_family::yolox_raw);
    CHECK(family({192, 192}, {1, 756, 6}) == layout_family::yolox_raw); // one class
    CHECK(family(side640, {1, 300, 6}) == layout_family::end_to_end);
}

TEST_CASE("family decides the preparation") {
    const auto x = vision::deduce_layout(question(side416, {1, 3549, 85}));
    CHECK(x.prepare == preparation::yolox());
    CHECK(x.class_count == 80);
    CHECK(x.rows == 3549);
    const auto v8 = vision::deduce_layout(question(side416, {1, 7, 3549}));
    CHECK(v8.prepare == preparation::ultralytics());
    CHECK(v8.class_count == 3);
    CHECK(v8.rows == 3549);
    CHECK(v8.class_name(2) == "class 2");
}

TEST_CASE("a grey picture tells decoded YOLOX from raw") {
    auto q = question({64, 64}, {1, 84, 6});
    std::vector<float> output(84 * 6, 0.5F);
    q.grey_output = output;
    CHECK(vision::deduce_layout(q).family == layout_family::yolox_raw);
    for (std::size_t i = 0; i < 84; ++i) {
        output[6 * i] = static_cast<float>(i % 8) * 8;
    }
    CHECK(vision::deduce_layout(q).family == layout_family::yolox_decoded);
}

TEST_CASE("Ultralytics metadata makes A rows YOLOv5-like") {
    auto q = question(side416, {1, 3549, 85});
    q.metadata = ultralytics(80);
    const auto layout = vision::deduce_layout(q);
    CHECK(layout.family == layout_family::yolov5);
    CHECK(layout.prepare == preparation::ultralytics());
}

TEST_CASE("metadata settles finished boxes, and contradictions are refused") {
    auto q = question(side640, {1, 100, 6});
    q.metadata = ultralytics(80);
    q.metadata.end_to_end = true;
    CHECK(vision::deduce_layout(q).family == layout_family::end_to_end);
    CHECK(vision::deduce_layout(q).class_count == 80);
    q.output_shape = {1, 84, 8400};
    CHECK(contains(message_of([&] { (void)vision::deduce_layout(q); }), "metadata says so"));
    q.metadata.end_to_end = false;
    CHECK(vision::deduce_layout(q).family == layout_family::yolov8);
    q.metadata.suppression_inside = true;
    CHECK_FALSE(message_of([&] { (void)vision::deduce_layout(q); }).empty());
}

TEST_CASE("heads with other strides are recognised by their names") {
    auto q = question(side416, {1, 7, 169}); // stride 32 only
    CHECK(contains(message_of([&] { (void)vision::deduce_layout(q); }), "no YOLO layout"));
    q.metadata = ultralytics(3);
    CHECK(vision::deduce_layout(q).family == layout_family::yolov8);
    CHECK(vision::deduce_layout(q).rows == 169);

    auto one_class = question(side416, {1, 2028, 6}); // three anchors on two strides
    one_class.metadata = ultralytics(1);
    CHECK(vision::deduce_layout(one_class).family == layout_family::yolov5);
}

TEST_CASE("two readings of one shape are settled by names or refused") {
    auto q = question({64, 64}, {1, 84, 84}); // 84 grid cells: yolov8 of 80 classes or YOLOX of 79
    const std::string refused = message_of([&] { (void)vision::deduce_layout(q); });
    CHECK(contains(refused, "1x84x84"));
    CHECK(contains(refused, "ambiguous"));
    CHECK(contains(refused, "yolov8"));
    CHECK(contains(refused, "yolox"));
    q.metadata.names.assign(80, "thing");
    CHECK(vision::deduce_layout(q).family == layout_family::yolov8);
    q.metadata.names.assign(79, "thing");
    CHECK(vision::deduce_layout(q).family == layout_family::yolox_raw);
    q.metadata.names.clear();
    q.options.family = layout_family::yolov8;
    CHECK(vision::deduce_layout(q).family == layout_family::yolov8);
}

TEST_CASE("what the user says wins over what the model says") {
    auto q = question(side416, {1, 3549, 85});
    q.metadata = ultralytics(80);
    q.options.family = layout_family::yolox_raw;
    q.options.colour = vision::colour_order::rgb;
    q.options.scale = 0.5F;
    q.options.padding = vision::padding_rule::centred;
    q.options.class_names = {"only"};
    const auto layout = vision::deduce_layout(q);
    CHECK(layout.family == layout_family::yolox_raw);
    CHECK(layout.prepare.colour == vision::colour_order::rgb);
    CHECK(layout.prepare.scale == 0.5F);
    CHECK(layout.prepare.padding == vision::padding_rule::centred);
    CHECK(layout.class_name(0) == "only");
    CHECK(layout.warnings.size() == 1); // 80 classes, 1 name

    q.options.family = layout_family::end_to_end;
    CHECK(contains(message_of([&] { (void)vision::deduce_layout(q); }), "asked for"));
}

TEST_CASE("refusals list the shape and what would fit") {
    for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{1, 85, 22, 22},
                                                   {1, 1000},
                                                   {},
                                                   {1, 8400, 3},
                                                   {1, 17, 19},
                                                   {2, 84, 8400}}) {
        const std::string message =
            message_of([&] { (void)vision::deduce_layout(question(side640, shape)); });
        CHECK(contains(message, vision::shape_text(shape)));
        CHECK(contains(message, "yolov5 Nx25200x(5+classes)"));
        CHECK(contains(message, "yolov8 Nx(4+classes)x8400"));
    }
    CHECK(vision::shape_text({}) == "(no dimensions)");
}

TEST_CASE("other tasks than detection are refused") {
    auto q = question(side640, {1, 56, 8400});
    q.metadata.task = "pose";
    CHECK(contains(message_of([&] { (void)vision::deduce_layout(q); }), "'pose'"));
}

TEST_CASE("scores that are no probabilities are refused") {
    auto q = question({64, 64}, {1, 6, 84});
    std::vector<float> output(6 * 84, 0.5F);
    q.grey_output = output;
    CHECK_NOTHROW(vision::deduce_layout(q));
    output[5 * 84 + 7] = -4.5F; // a logit
    CHECK(contains(message_of([&] { (void)vision::deduce_layout(q); }), "-4.5"));
    q.options.family = layout_family::end_to_end;
    q.output_shape = {1, 84, 6};
    output.assign(6 * 84, 0.5F);
    output[5] = 17; // a class number is no score
    CHECK_NOTHROW(vision::deduce_layout(q));
}

TEST_CASE("80 classes without names are taken to be COCO's, and said so") {
    const auto layout = vision::deduce_layout(question(side640, {1, 84, 8400}));
    CHECK(layout.class_name(0) == "person");
    CHECK(layout.class_name(79) == "toothbrush");
    CHECK(layout.class_name(80) == "class 80");
    CHECK(layout.class_name(-1) == "class -1");
    CHECK(layout.warnings.size() == 1);
}

TEST_CASE("layout names go to text and back") {
    for (const auto family :
         {layout_family::yolov5, layout_family::yolov8, layout_family::yolox_raw,
          layout_family::yolox_decoded, layout_family::end_to_end}) {
        CHECK(vision::parse_layout_family(vision::to_string(family)) == family);
    }
    CHECK(contains(message_of([] { (void)vision::parse_layout_family("yolo"); }),
                   "'yolo'; allowed: yolov5"));
}

} // namespace
