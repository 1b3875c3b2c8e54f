// SPDX-License-Identifier: BSL-1.0
// Sources that lie about themselves, are broken, or are no sources at all.
#include "container_check.hpp"
#include "message_of.hpp"
#include "real_data.hpp"
#include "temp_folder.hpp"
#include "video_source.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdio>
#include <fcntl.h>
#include <limits>
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/videoio.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace {

using vision::read_status;

struct counted {
    int frames = 0;
    int skipped = 0;
};

counted read_all(vision::video_source& source) {
    counted result;
    cv::Mat frame;
    for (;;) {
        switch (source.read(frame)) {
        case read_status::frame: ++result.frames; break;
        case read_status::skipped: ++result.skipped; break;
        case read_status::end: return result;
        }
    }
}

std::string open_refusal(const std::filesystem::path& path) {
    return message_of([&] { (void)vision::open_source(path); });
}

// What is written to file descriptor 2, by whatever library, while `action` runs.
template <class Action>
std::string captured_stderr(Action action) {
    const temp_folder folder;
    const auto path = folder / "stderr";
    const int file = open(path.c_str(), O_CREAT | O_WRONLY, 0600);
    const int original = dup(2);
    dup2(file, 2);
    action();
    std::fflush(stderr);
    dup2(original, 2);
    close(original);
    close(file);
    return file_text(path);
}

void put_image(const std::filesystem::path& path, int width, int height, int value) {
    REQUIRE(cv::imwrite(path.string(), cv::Mat(height, width, CV_8UC3, cv::Scalar::all(value))));
}

// Ten frames whose brightness is 20 times their number.
std::filesystem::path put_video(const temp_folder& folder) {
    const auto path = folder / "made.avi";
    cv::VideoWriter writer(path.string(), cv::CAP_FFMPEG,
                           cv::VideoWriter::fourcc('M', 'J', 'P', 'G'), 10, {64, 48});
    for (int i = 0; i < 10; ++i) {
        writer.write(cv::Mat(48, 64, CV_8UC3, cv::Scalar::all(20 * i)));
    }
    return path;
}

int brightness(const cv::Mat& frame) { return static_cast<int>(std::lround(cv::mean(frame)[1])); }

TEST_CASE("a video gives its frames in order, then its end for ever") {
    const temp_folder folder;
    const auto source = vision::open_source(put_video(folder));
    CHECK(source->info().size == vision::image_size{64, 48});
    CHECK(source->info().frames_per_second == Catch::Approx(10));
    CHECK(source->info().announced_frames == 10);
    CHECK(source->index() == -1);
    cv::Mat frame;
    for (int i = 0; i < 10; ++i) {
        REQUIRE(source->read(frame) == read_status::frame);
        CHECK(source->index() == i);
        CHECK(std::abs(brightness(frame) - 20 * i) <= 2);
    }
    CHECK(source->seconds(5) == Catch::Approx(0.5));
    CHECK(source->read(frame) == read_status::end);
    CHECK(source->read(frame) == read_status::end);
    CHECK(source->skip() == read_status::end);
    CHECK(source->index() == 9);
    CHECK(source->truncation_warning().empty());
    CHECK(source->undecodable() == 0);
}

TEST_CASE("a frame that was read is the caller's: later reads leave it alone") {
    const temp_folder folder;
    const auto source = vision::open_source(put_video(folder));
    std::vector<cv::Mat> frames(10);
    for (auto& frame : frames) {
        REQUIRE(source->read(frame) == read_status::frame);
    }
    for (int i = 0; i < 10; ++i) {
        CHECK(std::abs(brightness(frames[static_cast<std::size_t>(i)]) - 20 * i) <= 2);
    }
}

TEST_CASE("reading into the same picture allocates it once") {
    const temp_folder folder;
    const auto source = vision::open_source(put_video(folder));
    cv::Mat frame;
    REQUIRE(source->read(frame) == read_status::frame);
    const auto* const memory = frame.data;
    while (source->read(frame) == read_status::frame) {
        CHECK(frame.data == memory);
    }
}

TEST_CASE("frames can be passed over, and count") {
    const temp_folder folder;
    const auto source = vision::open_source(put_video(folder));
    cv::Mat frame;
    for (int i = 0; i < 10; ++i) {
        if (i % 3 != 0) {
            REQUIRE(source->skip() == read_status::frame);
        } else {
            REQUIRE(source->read(frame) == read_status::frame);
            CHECK(std::abs(brightness(frame) - 20 * i) <= 2);
        }
        CHECK(source->index() == i);
    }
    CHECK(source->skip() == read_status::end);
}

TEST_CASE("what is no regular file or folder is refused") {
    const temp_folder folder;
    REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
    for (const char* path :
         {"absent.mp4", "http://localhost/x.mp4", "rtsp://localhost/x", "file:///etc/passwd",
          "/dev/video0", "/dev/zero", "frames/%03d.png", "videotestsrc ! appsink", ""}) {
        CAPTURE(path);
        CHECK(contains(open_refusal(path), "allowed: a local video, image or folder"));
    }
    CHECK(contains(open_refusal(folder / "pipe"), "neither a file nor a folder"));
}

TEST_CASE("files that hold no video are refused by name, without noise") {
    const temp_folder folder;
    const std::string noise = captured_stderr([&] {
        CHECK(contains(open_refusal(folder.put("text.mp4", "hello")), "text.mp4': not a video"));
        CHECK(contains(open_refusal(folder.put("empty.mp4", "")), "empty.mp4': not a video"));
        // A playlist would have FFmpeg fetch what it names.
        CHECK_FALSE(
            open_refusal(folder.put("list.mp4", "#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/x.ts\n"))
                .empty());
    });
    CHECK(noise.empty());
}

TEST_CASE("a video without a single frame is refused") {
    const temp_folder folder;
    const std::string whole = file_text(put_video(folder));
    const auto frames = whole.find("movi");
    REQUIRE(frames != std::string::npos);
    CHECK_FALSE(open_refusal(folder.put("headers.avi", whole.substr(0, frames + 4))).empty());
}

TEST_CASE("a video that was cut off is refused, wherever that was") {
    const temp_folder folder;
    const std::string whole = file_text(put_video(folder));
    const auto frames = whole.find("movi");
    REQUIRE(frames != std::string::npos);
    for (const std::size_t left : {frames + 100, (frames + whole.size()) / 2, whole.size() - 1}) {
        CAPTURE(left);
        const auto refusal = open_refusal(folder.put("cut.avi", whole.substr(0, left)));
        CHECK(contains(refusal, "cut.avi': truncated: " + std::to_string(left) + " bytes of the " +
                                    std::to_string(whole.size())));
    }
}

TEST_CASE("a container's size is believed only where it promises one") {
    const temp_folder folder;
    const auto promised = [&](std::string const& bytes) {
        return vision::promised_size(folder.put("file", bytes));
    };
    using namespace std::string_literals;
    const std::string ftyp = "\0\0\0\x10"s + "ftypisom" + std::string(4, '\0');
    CHECK_FALSE(promised(""));
    CHECK_FALSE(promised("RIFF"));
    CHECK_FALSE(promised("some text that is no video at all"));
    CHECK_FALSE(promised("RIFF\0\0\0\0AVI LIST"s)); // its recorder was killed
    CHECK_FALSE(promised("RIFF\x08\0\0\0AVI LIST"s));
    CHECK(promised("RIFF\x20\0\0\0AVI LIST"s) == 40);
    // A second RIFF chunk, as in files of several gigabytes.
    CHECK(promised("RIFF\x04\0\0\0AVI RIFF\x40\0\0\0AVIX"s) == 12 + 8 + 64);
    CHECK_FALSE(promised(ftyp));
    CHECK_FALSE(promised(ftyp + "\0\0\0\0mdat"s + "to the end"));
    CHECK_FALSE(promised(ftyp + "\0\0\0\x0cmdat"s + "1234" + "\x7f\0\0\0????????"s));
    CHECK(promised(ftyp + "\0\0\1\0mdat"s + "1234") == 16 + 256);
    CHECK(promised(ftyp + "\0\0\0\1mdat\0\0\0\1\0\0\0\0"s) == 16 + (std::uint64_t{1} << 32));
}

TEST_CASE("a folder gives its images in the order of their names; others are left out") {
    const temp_folder folder;
    put_image(folder / "b.png", 30, 20, 100);
    put_image(folder / "a.JPG", 60, 40, 50);
    put_image(folder / "c.bmp", 10, 10, 150);
    folder.put("notes.txt", "no image");
    const auto source = vision::open_source(folder.path());
    CHECK(source->info().images);
    CHECK(source->info().announced_frames == 3);
    CHECK(source->info().size == vision::image_size{60, 40});
    cv::Mat frame;
    for (const auto& [name, value] : {std::pair{"a.JPG", 50}, {"b.png", 100}, {"c.bmp", 150}}) {
        REQUIRE(source->read(frame) == read_status::frame);
        CHECK(source->image_name() == name);
        CHECK(brightness(frame) == value);
    }
    CHECK(source->seconds(source->index()) == 2);
    CHECK(source->read(frame) == read_status::end);
}

TEST_CASE("a broken image in the middle is skipped and counted; the end is still the end") {
    const temp_folder folder;
    put_image(folder / "a.png", 30, 20, 100);
    folder.put("b.png", "broken");
    put_image(folder / "c.png", 30, 20, 120);
    const std::string noise = captured_stderr([&] {
        const auto source = vision::open_source(folder.path());
        cv::Mat frame;
        CHECK(source->read(frame) == read_status::frame);
        CHECK(source->read(frame) == read_status::skipped);
        CHECK(source->index() == 1);
        CHECK(source->read(frame) == read_status::frame);
        CHECK(source->index() == 2);
        CHECK(source->read(frame) == read_status::end);
        CHECK(source->undecodable() == 1);
        CHECK(source->truncation_warning().empty());
    });
    CHECK(noise.empty());
}

TEST_CASE("a source without one good picture is an error at its end") {
    const temp_folder folder;
    folder.put("a.png", "broken");
    const auto source = vision::open_source(folder.path());
    cv::Mat frame;
    CHECK(source->read(frame) == read_status::skipped);
    CHECK(contains(message_of([&] { (void)source->read(frame); }),
                   "no picture in it can be decoded"));
}

TEST_CASE("one image is a source; an empty folder is none") {
    const temp_folder folder;
    CHECK(contains(open_refusal(folder.path()), "a folder without images"));
    put_image(folder / "one.png", 30, 20, 100);
    const auto source = vision::open_source(folder / "one.png");
    CHECK(read_all(*source).frames == 1);
    CHECK(source->image_name() == "one.png");
}

TEST_CASE("the rotation that OpenCV reports is read in its version's sense") {
    CHECK(vision::rotation_from_meta(90, 4, 5) == 90);
    CHECK(vision::rotation_from_meta(270, 4, 6) == 90);
    CHECK(vision::rotation_from_meta(90, 4, 6) == 270);
    CHECK(vision::rotation_from_meta(180, 4, 6) == 180);
    CHECK(vision::rotation_from_meta(-90, 4, 10) == 270);
    CHECK(vision::rotation_from_meta(0, 4, 6) == 0);
    CHECK(vision::rotation_from_meta(45, 4, 10) == 0);
    CHECK(vision::rotation_from_meta(std::numeric_limits<double>::quiet_NaN(), 4, 6) == 0);
    CHECK(vision::rotation_from_meta(-9.2e18, 4, 6) == 0);
}

TEST_CASE("a film that says 90 degrees clockwise is turned clockwise") {
    NEEDS_REAL_DATA();
    const auto plain = vision::open_source(real_data() / "video" / "cup.mp4");
    const auto asking = vision::open_source(real_data() / "video" / "cup_rot90_made.mp4");
    CHECK(asking->info().rotation == 90);
    CHECK(asking->info().size == vision::image_size{480, 640});
    cv::Mat a;
    cv::Mat b;
    for (int i = 0; i < 5; ++i) {
        REQUIRE(plain->read(a) == read_status::frame);
        REQUIRE(asking->read(b) == read_status::frame);
        cv::rotate(a, a, cv::ROTATE_90_CLOCKWISE);
        CHECK(cv::norm(a, b, cv::NORM_INF) == 0);
    }
}

TEST_CASE("counts that lie are reported, not believed") {
    NEEDS_REAL_DATA();
    const auto video = real_data() / "video";
    const auto tree = vision::open_source(video / "tree.avi");
    CHECK(tree->info().announced_frames == 444);
    CHECK(read_all(*tree).frames == 68);
    CHECK(contains(tree->truncation_warning(), "announces 444 frames but holds 68"));
    const auto box = vision::open_source(video / "box.mp4");
    CHECK(read_all(*box).frames == 455);
    CHECK(contains(box->truncation_warning(), "announces 456"));
    const auto cup = vision::open_source(video / "cup.mp4");
    CHECK(read_all(*cup).frames == 217);
    CHECK(cup->truncation_warning().empty());
}

TEST_CASE("bad videos end in an error, a warning or their frames, and write nothing to stderr") {
    NEEDS_REAL_DATA();
    const auto bad = real_data() / "video_bad";
    const std::string noise = captured_stderr([&] {
        for (const char* name : {"empty.mp4", "random.mp4", "text.avi"}) {
            CAPTURE(name);
            CHECK(contains(open_refusal(bad / name), std::string(name) + "': not a video"));
        }
        for (const char* name : {"cup_trunc.mp4", "vtest_trunc.avi"}) {
            CAPTURE(name);
            CHECK(contains(open_refusal(bad / name), std::string(name) + "': truncated: "));
        }
        // Flipped bits give odd pictures, not errors.
        const auto flips = vision::open_source(bad / "cup_flips.mp4");
        CHECK(read_all(*flips).frames + flips->undecodable() == 217);
        const auto street_flips = vision::open_source(bad / "vtest_flips.avi");
        CHECK(read_all(*street_flips).frames + street_flips->undecodable() == 795);
        // A photo under a video's name is a video of one frame, which announces -2^63.
        const auto photo = vision::open_source(bad / "jpeg_named.mp4");
        CHECK_FALSE(photo->info().announced_frames);
        CHECK(read_all(*photo).frames == 1);
        CHECK(photo->truncation_warning().empty());
    });
    CHECK(noise == "");
}

} // namespace
