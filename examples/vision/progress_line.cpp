// SPDX-License-Identifier: BSL-1.0
#include "progress_line.hpp"

#include <cstdio>
#include <fmt/format.h>
#include <string>
#include <unistd.h>

namespace vision {

namespace {

// Progress that cannot be shown is no reason to end the run.
void put(const std::string& text) {
    std::fputs(text.c_str(), stderr);
    std::fflush(stderr);
}

} // namespace

progress_line::progress_line() : terminal_(isatty(STDERR_FILENO) != 0) {}

progress_line::~progress_line() { finish(); }

void progress_line::show(const partial_result& part) {
    if (terminal_) {
        draw_bar(part);
        return;
    }
    auto const now = std::chrono::steady_clock::now();
    if (now < next_line_) return;
    next_line_ = now + std::chrono::seconds(2);
    auto const total = part.announced_frames ? fmt::format(" of {}", *part.announced_frames) : "";
    put(fmt::format("{}{} frames, {:.1f} frames/s\n", part.frames_done, total,
                    part.frames_per_second));
}

void progress_line::draw_bar(const partial_result& part) {
    constexpr std::size_t width = 30;
    auto const fraction = part.progress();
    auto const filled = static_cast<std::size_t>(fraction.value_or(0) * width);
    std::string const bar = fmt::format("{:#<{}}{:.<{}}", "", filled, "", width - filled);
    put(fmt::format("\r[{}] {:>4} {:>6} frames {:>7.1f} frames/s ", bar,
                    fraction ? fmt::format("{:.0f}%", 100 * *fraction) : "?", part.frames_done,
                    part.frames_per_second));
    drawn_ = true;
}

void progress_line::finish() {
    if (drawn_) put("\n");
    drawn_ = false;
}

} // namespace vision
