// SPDX-License-Identifier: BSL-1.0
#include "upload_body.hpp"

#include "multipart.hpp"
#include "query.hpp"
#include "upload.hpp"

#include <fmt/format.h>

#include <array>
#include <memory>
#include <optional>

namespace vision::service {

namespace asio = boost::asio;
namespace fs = std::filesystem;

namespace {

constexpr std::size_t piece_size = std::size_t{64} * 1024;
constexpr std::size_t longest_options = std::size_t{16} * 1024;

using upload_ptr = std::shared_ptr<upload>;

asio::awaitable<void> receive_video(http_exchange& x, tidegate::worker_pool& disk,
                                    upload_ptr video) {
    std::array<char, piece_size> piece{};
    for (;;) {
        auto reading = x.read_body(piece);
        std::size_t const n = co_await std::move(reading);
        if (n == 0) co_return;
        auto append = [&] { video->append({piece.data(), n}); };
        co_await disk.submit(append);
    }
}

// The parts of a form, as they come: in any order, each once, none but these.
class form {
public:
    form(std::string_view boundary, job_wishes& wishes) : parts_(boundary), wishes_(wishes) {}

    // The next bytes of the video in `input`, which loses what was read; empty: all of it was.
    std::string_view next_of_video(std::string_view& input) {
        while (auto const event = parts_.next(input)) {
            if (event->what == multipart_reader::event::kind::part) begin_part(event->bytes);
            else if (now_ == part::video) return event->bytes;
            else add_to_options(event->bytes);
        }
        return {};
    }
    void finish() {
        parts_.finish();
        end_part();
    }

private:
    enum class part { none, options, video };

    void begin_part(std::string_view name) {
        end_part();
        now_ = name == "options" ? part::options : name == "video" ? part::video : part::none;
        if (now_ == part::none) {
            throw bad_request(
                fmt::format("there is no part '{}', but options and video", label(name)));
        }
        bool& seen = now_ == part::video ? video_seen_ : options_seen_;
        if (std::exchange(seen, true))
            throw bad_request(fmt::format("the part {} is there twice", name));
    }
    void add_to_options(std::string_view bytes) {
        if (options_.size() + bytes.size() > longest_options) {
            throw bad_request(
                fmt::format("the options are more than {} bytes long", longest_options));
        }
        options_ += bytes;
    }
    void end_part() {
        if (std::exchange(now_, part::none) == part::options) wishes_.read_json(options_);
    }

    multipart_reader parts_;
    job_wishes& wishes_;
    part now_ = part::none;
    bool options_seen_ = false;
    bool video_seen_ = false;
    std::string options_;
};

asio::awaitable<void> receive_form(http_exchange& x, tidegate::worker_pool& disk, upload_ptr video,
                                   std::string boundary, job_wishes& wishes) {
    form parts(boundary, wishes);
    std::array<char, piece_size> piece{};
    for (;;) {
        auto reading = x.read_body(piece);
        std::size_t const n = co_await std::move(reading);
        if (n == 0) break;
        std::string_view rest(piece.data(), n);
        auto append = [&] {
            for (;;) {
                auto const bytes = parts.next_of_video(rest);
                if (bytes.empty()) return;
                video->append(bytes);
            }
        };
        co_await disk.submit(append);
    }
    parts.finish();
}

} // namespace

asio::awaitable<std::string> receive_body(http_exchange& x, tidegate::worker_pool& disk,
                                          fs::path path, job_wishes& wishes) {
    auto const type = x.header(http::field::content_type);
    auto const boundary = boundary_of(type);
    if (type.substr(0, type.find_first_of("; \t")) == "application/json") {
        throw bad_request("the body is JSON, allowed is the video, or multipart/form-data with the "
                          "parts options and video");
    }
    auto open = [&path] { return std::make_shared<upload>(path); };
    upload_ptr const video = co_await disk.submit(open);
    auto receiving =
        boundary ? receive_form(x, disk, video, *boundary, wishes) : receive_video(x, disk, video);
    co_await std::move(receiving);
    if (video->size() == 0)
        throw bad_request("there is no video: send it as the body, or as the "
                          "part video of a form");
    auto finish = [&video] { return video->finish(); };
    co_return co_await disk.submit(finish);
}

} // namespace vision::service
