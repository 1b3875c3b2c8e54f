// SPDX-License-Identifier: BSL-1.0
// What is kept of a run: bit for bit, and never more than is whole.
#include "checkpoint.hpp"
#include "error.hpp"
#include "temp_folder.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

using vision::checkpoint_reader;
using vision::checkpoint_writer;
using vision::known_frame;
namespace fs = std::filesystem;

namespace {

using bits = std::vector<std::uint32_t>;

bits bits_of(const known_frame& one) {
    bits all{static_cast<std::uint32_t>(one.index), static_cast<std::uint32_t>(one.dropped)};
    for (const vision::detection& d : one.found) {
        all.push_back(static_cast<std::uint32_t>(d.class_id));
        for (float const f : {d.score, d.x1, d.y1, d.x2, d.y2}) {
            all.push_back(std::bit_cast<std::uint32_t>(f));
        }
    }
    return all;
}

std::vector<bits> read_all(const fs::path& file, const std::string& recipe = "recipe") {
    checkpoint_reader from(file, recipe);
    std::vector<bits> all;
    while (auto one = from.next()) all.push_back(bits_of(*one));
    return all;
}

// Any finite floats: also those that no decimal of six digits tells apart.
known_frame any_frame(std::int64_t index, std::mt19937_64& random) {
    auto const any = [&] {
        float f = 0;
        do f = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
        while (!std::isfinite(f));
        return f;
    };
    known_frame one{index, {}, random() % 3};
    for (std::size_t i = random() % 4; i > 0; --i) {
        one.found.push_back({static_cast<int>(random() % 80), any(), any(), any(), any(), any()});
    }
    return one;
}

std::vector<bits> write_some(const fs::path& file, int frames, std::uint64_t seed,
                             std::int64_t step = 1) {
    std::mt19937_64 random(seed);
    checkpoint_writer to(file, "recipe", {});
    std::vector<bits> all;
    for (int i = 0; i < frames; ++i) {
        auto const one = any_frame(i * step, random);
        to.add(one);
        all.push_back(bits_of(one));
    }
    to.save();
    return all;
}

} // namespace

TEST_CASE("what was found comes back bit for bit, and a later run adds to it") {
    temp_folder const folder;
    std::mt19937_64 random(1);
    auto expected = write_some(folder / "c", 500, 1);
    CHECK(read_all(folder / "c") == expected);
    {
        checkpoint_writer again(folder / "c", "recipe", {});
        CHECK(again.frames() == 500);
        auto const more = any_frame(500, random);
        again.add(more);
        expected.push_back(bits_of(more));
        CHECK(read_all(folder / "c").size() == 500); // what is not saved is not there
        again.make_durable();
        CHECK(read_all(folder / "c") == expected);
    }
    CHECK(read_all(folder / "c") == expected);
}

TEST_CASE("of another recipe nothing is known, and the file begins anew") {
    temp_folder const folder;
    write_some(folder / "c", 5, 2);
    CHECK(read_all(folder / "c", "other").empty());
    checkpoint_writer to(folder / "c", "other", {});
    CHECK(to.frames() == 0);
    to.save();
    CHECK(read_all(folder / "c").empty());
    CHECK(read_all(folder / "not there").empty());
}

TEST_CASE(
    "a file cut off or damaged anywhere gives the frames before that, and can be gone on with") {
    temp_folder const folder;
    auto const expected = write_some(folder / "c", 20, 3);
    std::string const whole = file_text(folder / "c");
    std::mt19937_64 random(4);
    for (std::size_t at = 0; at < whole.size(); at += 61) {
        std::string text = whole;
        if (random() % 2 == 0) text.resize(at);
        else text[at] = static_cast<char>(text[at] ^ (1 << random() % 8));
        auto const file = folder.put("damaged", text);
        auto const found = read_all(file);
        INFO("at " << at << " of " << whole.size() << ", " << found.size() << " frames");
        REQUIRE(found.size() < expected.size());
        CHECK(std::equal(found.begin(), found.end(), expected.begin()));
        auto const lines = static_cast<std::size_t>(
            std::count(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
        CHECK(found.size() == (lines == 0 ? 0 : lines - 1)); // one line is the recipe
        checkpoint_writer to(file, "recipe", {});
        CHECK(to.frames() == static_cast<std::int64_t>(found.size()));
        to.add({1000, {}, 0});
        to.save();
        CHECK(read_all(file).size() == found.size() + 1);
    }
}

TEST_CASE("a frame out of order is cut off, and hides nothing that is written later") {
    temp_folder const folder;
    {
        checkpoint_writer to(folder / "c", "recipe", {});
        to.add({5, {}, 0});
        to.add({5, {}, 0});
        to.save();
    }
    checkpoint_writer to(folder / "c", "recipe", {});
    CHECK(to.frames() == 1);
    to.add({6, {}, 0});
    to.save();
    CHECK(read_all(folder / "c").size() == 2);
}

TEST_CASE("a run begins with the checkpoint that has got furthest, and leaves it alone") {
    temp_folder const folder;
    write_some(folder / "short", 3, 5);
    auto const expected = write_some(folder / "long", 9, 6);
    std::string const before = file_text(folder / "long");
    folder.put("noise", "no checkpoint\n");
    std::vector<fs::path> const earlier{folder / "short", folder / "long", folder / "noise",
                                        folder / "gone"};
    checkpoint_writer to(folder / "own", "recipe", earlier);
    CHECK(to.frames() == 9);
    to.add({100, {}, 0});
    to.save();
    CHECK(read_all(folder / "own").size() == 10);
    CHECK(file_text(folder / "long") == before);
    checkpoint_writer const behind(folder / "own", "recipe", earlier); // its own is the longest
    CHECK(behind.frames() == 10);
}

TEST_CASE("frames that could not be decoded are known by their absence") {
    temp_folder const folder;
    auto const expected = write_some(folder / "c", 5, 7, 3); // 0, 3, 6, 9, 12
    vision::known_frames known(folder / "c", "recipe", 4);
    CHECK(known.reach(0));
    CHECK(!known.reach(10));
    CHECK(bits_of(known.take(0).value()) == expected[0]);
    CHECK(!known.take(1));
    CHECK(bits_of(known.take(6).value()) == expected[2]); // 3 was not asked for
    CHECK(bits_of(known.take(9).value()) == expected[3]);
    CHECK(!known.take(12)); // written after it was begun with
    CHECK(!known.reach(0));
}

TEST_CASE("a checkpoint that cannot be written says so") {
    temp_folder const folder;
    auto const file = folder.put("file", "");
    CHECK_THROWS_AS(checkpoint_writer(file / "c", "recipe", {}), vision::output_error);
    if (fs::exists("/dev/full")) {
        checkpoint_writer full("/dev/full", "recipe", {});
        full.add({0, {}, 0});
        CHECK_THROWS_AS(full.save(), vision::output_error);
    }
}
