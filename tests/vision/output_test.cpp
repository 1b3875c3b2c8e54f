// SPDX-License-Identifier: BSL-1.0
// What is written is whole and readable, or it is not there.
#include "annotated_video.hpp"
#include "detections_writer.hpp"
#include "message_of.hpp"
#include "partial_file.hpp"
#include "temp_folder.hpp"
#include "video_source.hpp"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <csignal>
#include <opencv2/core.hpp>
#include <string>
#include <sys/resource.h>
#include <vector>

namespace {

namespace json = boost::json;

vision::model_layout animals() {
    vision::model_layout layout;
    layout.class_names = {"cat", "say \"dog\"\n"};
    layout.class_count = 2;
    return layout;
}

// No file of this process may grow beyond `bytes`: what a full disk looks like to a writer.
class file_size_limit {
public:
    explicit file_size_limit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        getrlimit(RLIMIT_FSIZE, &before_);
        const rlimit limited{bytes, before_.rlim_max};
        setrlimit(RLIMIT_FSIZE, &limited);
    }
    ~file_size_limit() {
        setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }
    file_size_limit(const file_size_limit&) = delete;
    file_size_limit& operator=(const file_size_limit&) = delete;

private:
    void (*handler_)(int);
    rlimit before_{};
};

TEST_CASE("each frame is one line of JSON") {
    const temp_folder folder;
    const auto path = folder / "detections.jsonl";
    const auto layout = animals();
    vision::detections_writer writer(path, layout.class_names);
    const std::vector<vision::detection> two = {{1, 0.87654F, 1.234F, 2, 3.5F, 4},
                                                {7, 0.5F, 0, 0, 10, 10}};
    writer.write(0, 0, two);
    writer.write(5, 0.2, {}, "a \\ b.jpg");
    writer.commit();

    const std::string text = file_text(path);
    const auto newline = text.find('\n');
    REQUIRE(std::ranges::count(text, '\n') == 2);
    const auto first = json::parse(text.substr(0, newline)).as_object();
    CHECK(first.at("frame") == 0);
    CHECK_FALSE(first.contains("image"));
    const auto& list = first.at("detections").as_array();
    REQUIRE(list.size() == 2);
    CHECK(list[0].at("class") == "say \"dog\"\n");
    CHECK(list[0].at("class_id") == 1);
    CHECK(list[0].at("score").to_number<double>() == Catch::Approx(0.8765));
    CHECK(list[0].at("box").as_array().at(0).to_number<double>() == Catch::Approx(1.23));
    CHECK(list[1].at("class") == "class 7");
    const auto second = json::parse(text.substr(newline + 1)).as_object();
    CHECK(second.at("frame") == 5);
    CHECK(second.at("time").to_number<double>() == Catch::Approx(0.2));
    CHECK(second.at("image") == "a \\ b.jpg");
    CHECK(second.at("detections").as_array().empty());
    CHECK(folder.entries() == 1);
}

TEST_CASE("without commit nothing is left behind, and an older file stays") {
    const temp_folder folder;
    const auto path = folder.put("detections.jsonl", "older");
    {
        vision::detections_writer writer(path, {});
        writer.write(0, 0, {});
        CHECK(folder.entries() == 2);
    }
    CHECK(file_text(path) == "older");
    CHECK(folder.entries() == 1);
}

TEST_CASE("an unwritable folder and a full disk are errors that name the file") {
    const temp_folder folder;
    const auto absent = folder / "absent" / "detections.jsonl";
    CHECK(contains(message_of([&] { vision::detections_writer(absent, {}); }),
                   "cannot write '" + absent.string() + "': No such file or directory"));

    const auto path = folder / "detections.jsonl";
    const std::string message = message_of([&] {
        const file_size_limit limit(10'000);
        vision::detections_writer writer(path, {});
        const std::vector<vision::detection> many(300);
        writer.write(0, 0, many);
        writer.commit();
    });
    CHECK(contains(message, "cannot write '" + path.string() + "': File too large"));
    CHECK(folder.entries() == 0);
}

TEST_CASE("the last flush's failure is an error too") {
    const temp_folder folder;
    std::filesystem::create_symlink("/dev/full", folder / "report.part.json");
    CHECK(contains(message_of([&] { vision::write_whole_file(folder / "report.json", "{}"); }),
                   "No space left on device"));
    CHECK(folder.entries() == 0);
    vision::write_whole_file(folder / "report.json", "{}");
    CHECK(file_text(folder / "report.json") == "{}");
}

TEST_CASE("an annotated video can be read back with all its frames") {
    const temp_folder folder;
    const auto path = folder / "annotated.mp4";
    for (const vision::image_size size : {vision::image_size{64, 48}, {48, 64}, {33, 17}, {5, 5}}) {
        CAPTURE(size.width, size.height);
        vision::annotated_video video(path, 12.5);
        for (int i = 0; i < 7; ++i) {
            cv::Mat frame(size.height, size.width, CV_8UC3, cv::Scalar::all(90));
            video.write(frame, {}, animals());
        }
        video.commit();
        CHECK(folder.entries() == 1);
        const auto source = vision::open_source(path);
        CHECK(source->info().announced_frames == 7);
        CHECK(source->info().frames_per_second == Catch::Approx(12.5));
        CHECK(source->info().size.width >= size.width);
        CHECK(source->info().size.height >= size.height);
        CHECK(source->info().size.width <= std::max(16, size.width + 1));
        cv::Mat frame;
        int frames = 0;
        while (source->read(frame) == vision::read_status::frame) {
            CHECK(std::abs(frame.at<cv::Vec3b>(2, 2)[0] - 90) < 12);
            ++frames;
        }
        CHECK(frames == 7);
    }
}

TEST_CASE("pictures of other sizes are fitted into the first one's") {
    const temp_folder folder;
    vision::annotated_video video(folder / "annotated.mp4", 1);
    for (const cv::Size size : {cv::Size(64, 48), cv::Size(100, 200), cv::Size(10, 10)}) {
        cv::Mat frame(size, CV_8UC3, cv::Scalar::all(200));
        video.write(frame, {}, animals());
    }
    video.commit();
    const auto source = vision::open_source(folder / "annotated.mp4");
    CHECK(source->info().announced_frames == 3);
    CHECK(source->info().size == vision::image_size{64, 48});
}

TEST_CASE("a video that was not finished leaves nothing behind") {
    const temp_folder folder;
    {
        vision::annotated_video video(folder / "annotated.mp4", 25);
        cv::Mat frame(48, 64, CV_8UC3, cv::Scalar::all(90));
        video.write(frame, {}, animals());
    }
    CHECK(folder.entries() == 0);
    vision::annotated_video empty(folder / "annotated.mp4", 25);
    CHECK_NOTHROW(empty.commit());
    CHECK(folder.entries() == 0);
}

TEST_CASE("a video that does not fit on the disk is an error, not a broken file") {
    const temp_folder folder;
    const auto path = folder / "annotated.mp4";
    const std::string message = message_of([&] {
        const file_size_limit limit(20'000);
        vision::annotated_video video(path, 25);
        cv::Mat noise(240, 320, CV_8UC3);
        for (int i = 0; i < 30; ++i) {
            cv::randu(noise, 0, 255);
            video.write(noise, {}, animals());
        }
        video.commit();
    });
    CHECK(contains(message, "cannot write '" + path.string() + "'"));
    CHECK(folder.entries() == 0);
    CHECK(contains(message_of([&] {
                       vision::annotated_video video(folder / "absent" / "a.mp4", 25);
                       cv::Mat frame(48, 64, CV_8UC3);
                       video.write(frame, {}, animals());
                   }),
                   "cannot be opened"));
}

TEST_CASE("boxes and labels are drawn where the objects are, in the colour of the class") {
    cv::Mat picture(200, 300, CV_8UC3, cv::Scalar::all(0));
    const std::vector<vision::detection> found = {{0, 0.9F, 100, 100, 150, 150},
                                                  {1, 0.8F, 200, 100, 250, 150}};
    vision::draw_detections(picture, found, animals());
    const auto at = [&](int x, int y) { return picture.at<cv::Vec3b>(y, x); };
    CHECK(at(100, 125) != cv::Vec3b(0, 0, 0)); // left edge
    CHECK(at(149, 125) == at(100, 125));       // right edge
    CHECK(at(200, 125) != at(100, 125));       // another class
    CHECK(at(125, 125) == cv::Vec3b(0, 0, 0)); // inside
    CHECK(at(100, 98) == at(100, 125));        // the label's bar, above
    CHECK(at(50, 50) == cv::Vec3b(0, 0, 0));
}

TEST_CASE("boxes at the edges, names of any bytes and tiny pictures can be drawn") {
    auto layout = animals();
    layout.class_names[0] = "\xE7\x8C\xAB" + std::string(90, 'x');
    for (const cv::Size size : {cv::Size(300, 200), cv::Size(3, 3), cv::Size(1, 1)}) {
        cv::Mat picture(size, CV_8UC3, cv::Scalar::all(0));
        const auto right = static_cast<float>(size.width);
        const auto bottom = static_cast<float>(size.height);
        const std::vector<vision::detection> found = {{0, 1, 0, 0, right, bottom},
                                                      {-1, 0, right - 1, bottom - 1, right, bottom},
                                                      {9999, 0.5F, 0, 0, 1, 1}};
        CHECK_NOTHROW(vision::draw_detections(picture, found, layout));
        CHECK(cv::countNonZero(picture.reshape(1)) > 0);
    }
}

} // namespace
