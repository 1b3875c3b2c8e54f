// SPDX-License-Identifier: BSL-1.0
// One HTTP request and its answer. The body is read only when somebody asks for it, so that a
// refusal costs the client no upload.
#pragma once

#include "request_target.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/json/value.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vision::service {

namespace http = boost::beast::http;

struct http_limits {
    std::uint32_t header_bytes = 8 * 1024;
    std::uint64_t body_bytes = std::uint64_t{1} << 30;
    std::chrono::seconds header_time{30}; // to send a header; also how long a connection may idle
    std::chrono::seconds step_time{30};   // for each piece of a body, in or out
};

using http_fields = std::vector<std::pair<std::string_view, std::string>>;

class http_exchange {
public:
    http_exchange(boost::beast::tcp_stream& stream, boost::beast::flat_buffer& buffer,
                  const http_limits& limits);

    // False: the client has gone, or was answered that this is no request.
    boost::asio::awaitable<bool> read_header();

    [[nodiscard]] const http::request<http::buffer_body>& request() const { return parser_.get(); }
    [[nodiscard]] const request_target& target() const noexcept { return target_; }
    [[nodiscard]] std::string_view header(http::field name) const;
    // From a page of another site, as browsers tell.
    [[nodiscard]] bool is_cross_site() const;

    // The next bytes of the body; 0 at its end. Throws boost::system::system_error.
    boost::asio::awaitable<std::size_t> read_body(std::span<char> into);

    // Answers, once for each exchange. Throw boost::system::system_error when the client has gone.
    boost::asio::awaitable<void> respond(http::status status, std::string type, std::string body,
                                         http_fields fields = {});
    boost::asio::awaitable<void> respond(http::status status, const boost::json::value& body,
                                         http_fields fields = {});
    // As RFC 9457 has it.
    boost::asio::awaitable<void> refuse(http::status status, std::string detail,
                                        http_fields fields = {});
    // The header of an answer whose body follows by `send`: of that length, or in chunks.
    boost::asio::awaitable<void> begin(http::status status, std::string type,
                                       std::optional<std::uint64_t> length,
                                       http_fields fields = {});
    boost::asio::awaitable<void> send(std::string_view bytes);
    boost::asio::awaitable<void> end();

    [[nodiscard]] bool wants_body() const { return request().method() != http::verb::head; }
    // The status that was answered; 0 before.
    [[nodiscard]] unsigned answered() const noexcept { return answered_; }
    // Whether another request may follow.
    [[nodiscard]] bool stays_open() const noexcept { return stays_open_ && parser_.is_done(); }
    void close_after_this() noexcept { stays_open_ = false; }

    // For a WebSocket, which takes the connection over.
    boost::beast::tcp_stream& stream() noexcept { return stream_; }
    void give_away() noexcept {
        stays_open_ = false;
        answered_ = static_cast<unsigned>(http::status::switching_protocols);
    }

private:
    template <class Body>
    void add_fields(http::response<Body>& response, const http_fields& fields);
    boost::asio::awaitable<bool> refuse_header(boost::system::error_code why);

    boost::beast::tcp_stream& stream_;
    boost::beast::flat_buffer& buffer_;
    const http_limits& limits_;
    http::request_parser<http::buffer_body> parser_;
    request_target target_;
    bool body_begun_ = false;
    bool chunked_ = false;
    bool stays_open_ = true;
    unsigned answered_ = 0;
};

} // namespace vision::service
