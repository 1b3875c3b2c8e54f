// SPDX-License-Identifier: BSL-1.0
#include "checkpoint.hpp"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <utility>

namespace vision {

namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

constexpr std::size_t digits = 16; // of a hash

std::string sum_of(boost::hash2::xxhash_64 hash) { return fmt::format("{:016x}", hash.result()); }

std::string header_of(std::string_view recipe) {
    return serialize(json::object{{"checkpoint", 1}, {"recipe", recipe}});
}

std::string text_of(const known_frame& one) {
    json::array boxes;
    for (const detection& d : one.found) {
        boxes.push_back({d.class_id, d.score, d.x1, d.y1, d.x2, d.y2});
    }
    return serialize(
        json::object{{"frame", one.index}, {"dropped", one.dropped}, {"boxes", boxes}});
}

detection detection_of(const json::array& box) {
    auto const number = [&](std::size_t i) { return box.at(i).to_number<float>(); };
    return {box.at(0).to_number<int>(), number(1), number(2), number(3), number(4), number(5)};
}

known_frame frame_of(const std::string& text) {
    auto const all = json::parse(text);
    known_frame one;
    one.index = all.at("frame").to_number<std::int64_t>();
    one.dropped = all.at("dropped").to_number<std::size_t>();
    for (const json::value& box : all.at("boxes").as_array()) {
        one.found.push_back(detection_of(box.as_array()));
    }
    return one;
}

std::int64_t frames_in(const fs::path& file, const std::string& recipe) {
    checkpoint_reader from(file, recipe);
    std::int64_t n = 0;
    while (from.next()) ++n;
    return n;
}

// What cannot be copied is found anew.
void copy_longest(std::span<const fs::path> earlier, const std::string& recipe,
                  const fs::path& to) {
    std::int64_t most = frames_in(to, recipe);
    for (const fs::path& each : earlier) {
        std::int64_t const frames = frames_in(each, recipe);
        std::error_code ec;
        if (frames <= most) continue;
        fs::copy_file(each, to, fs::copy_options::overwrite_existing, ec);
        most = frames_in(to, recipe);
    }
}

} // namespace

checkpoint_reader::checkpoint_reader(const fs::path& file, std::string_view recipe) {
    std::error_code ec; // a device might have no end
    if (fs::is_regular_file(file, ec)) in_.open(file, std::ios::binary);
    auto const first = next_line();
    if (first && *first == header_of(recipe)) return;
    in_.close();
    bytes_ = 0;
    hash_ = {};
}

std::optional<std::string> checkpoint_reader::next_line() {
    std::string line;
    if (!in_.is_open() || !std::getline(in_, line) || in_.eof() || line.size() <= digits) {
        return std::nullopt;
    }
    std::string text = line.substr(digits + 1);
    auto hash = hash_;
    hash.update(text.data(), text.size());
    if (line.compare(0, digits, sum_of(hash)) != 0 || line[digits] != ' ') return std::nullopt;
    hash_ = hash;
    bytes_ += line.size() + 1;
    return text;
}

std::optional<known_frame> checkpoint_reader::next() {
    auto const hash = hash_;
    auto const bytes = bytes_;
    auto const text = next_line();
    if (text) {
        known_frame one = frame_of(*text); // its hash says that we wrote it
        if (one.index > std::exchange(last_, one.index)) return one;
        hash_ = hash; // nobody is to go on behind it
        bytes_ = bytes;
    }
    in_.close();
    return std::nullopt;
}

checkpoint_writer::checkpoint_writer(const fs::path& file, const std::string& recipe,
                                     std::span<const fs::path> earlier)
    : durable_(steady::now()) {
    copy_longest(earlier, recipe, file);
    checkpoint_reader there(file, recipe);
    while (there.next()) ++frames_;
    if (frames_ == 0) {
        begin(file, recipe);
        return;
    }
    std::error_code ec;
    fs::resize_file(file, there.bytes(), ec); // what cannot be shortened is not gone on with
    if (ec) {
        frames_ = 0;
        begin(file, recipe);
        return;
    }
    hash_ = there.hash();
    out_.emplace(file, output_stream::mode::append);
}

void checkpoint_writer::begin(const fs::path& file, const std::string& recipe) {
    out_.emplace(file, output_stream::mode::replace);
    add_line(header_of(recipe));
}

void checkpoint_writer::add(const known_frame& one) { add_line(text_of(one)); }

void checkpoint_writer::add_line(std::string_view text) {
    hash_.update(text.data(), text.size());
    out_->write(sum_of(hash_));
    out_->write(" ");
    out_->write(text);
    out_->write("\n");
    saved_ = false;
}

void checkpoint_writer::save() {
    if (saved_) return;
    if (steady::now() - durable_ >= std::chrono::seconds(1)) return make_durable();
    out_->flush();
    saved_ = true;
}

void checkpoint_writer::make_durable() {
    out_->make_durable();
    saved_ = true;
    durable_ = steady::now();
}

} // namespace vision
