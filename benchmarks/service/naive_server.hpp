// SPDX-License-Identifier: BSL-1.0
// Serving as it is often found: the model is loaded in the request, and the frames are looked at
// one by one on the event loop, so that one client's video is everybody's wait.
#pragma once

#include "detector.hpp"
#include "letterbox.hpp"
#include "video_source.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

namespace bench {

class naive_server {
public:
    naive_server(boost::asio::io_context& io, vision::detector_options model,
                 std::filesystem::path folder)
        : acceptor_(io, {boost::asio::ip::address_v4::loopback(), 0}),
          model_(std::move(model)),
          folder_(std::move(folder)) {
        boost::asio::co_spawn(io, accept(), boost::asio::detached);
    }

    std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
    std::int64_t frames() const noexcept { return frames_; }

private:
    using socket = boost::asio::ip::tcp::socket;

    boost::asio::awaitable<void> accept() {
        for (;;) {
            socket client = co_await acceptor_.async_accept(boost::asio::deferred);
            boost::asio::co_spawn(acceptor_.get_executor(), serve(std::move(client)),
                                  boost::asio::detached);
        }
    }

    boost::asio::awaitable<void> serve(socket client) {
        namespace http = boost::beast::http;
        boost::beast::flat_buffer buffer;
        http::request_parser<http::string_body> parser;
        parser.body_limit(std::numeric_limits<std::uint64_t>::max());
        co_await http::async_read(client, buffer, parser, boost::asio::deferred);
        http::response<http::string_body> response(http::status::ok, 11);
        response.body() = std::to_string(look_at(parser.get().body()));
        response.prepare_payload();
        co_await http::async_write(client, response, boost::asio::deferred);
    }

    std::size_t look_at(std::string const& video) {
        auto const file = folder_ / (std::to_string(++requests_) + ".video");
        std::ofstream(file, std::ios::binary) << video;
        vision::detector const model(model_); // loaded for every request
        auto scratch = model.make_scratch(1);
        vision::run_control control;
        auto const source = vision::open_source(file);
        std::vector<std::uint8_t> pixels(model.picture_bytes());
        std::size_t found = 0;
        for (cv::Mat picture; source->read(picture) == vision::read_status::frame; ++frames_) {
            auto const plan = model.plan({picture.cols, picture.rows});
            vision::apply_letterbox(picture, plan, pixels);
            vision::prepared_picture const one{pixels, plan};
            found += model.run({&one, 1}, scratch, control).front().size();
        }
        return found;
    }

    boost::asio::ip::tcp::acceptor acceptor_;
    vision::detector_options model_;
    std::filesystem::path folder_;
    int requests_ = 0;
    std::int64_t frames_ = 0;
};

} // namespace bench
