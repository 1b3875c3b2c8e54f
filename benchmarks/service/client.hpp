// SPDX-License-Identifier: BSL-1.0
// A client that measures: one connection for each request, as those of other people are.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace bench {

namespace http = boost::beast::http;

struct answer {
    unsigned status = 0;
    std::string body;
    double milliseconds = 0;
};

inline answer ask(std::uint16_t port, http::verb method, std::string const& target,
                  std::string const& body = {}) {
    auto const begun = std::chrono::steady_clock::now();
    boost::asio::io_context io;
    boost::asio::ip::tcp::socket socket(io);
    socket.connect({boost::asio::ip::address_v4::loopback(), port});
    http::request<http::string_body> request(method, target, 11, body);
    request.set(http::field::host, "localhost");
    request.keep_alive(false);
    request.prepare_payload();
    boost::system::error_code ec; // a refusal may come before all is written
    http::write(socket, request, ec);
    boost::beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.body_limit(std::numeric_limits<std::uint64_t>::max());
    http::read(socket, buffer, parser);
    std::chrono::duration<double, std::milli> const took = std::chrono::steady_clock::now() - begun;
    return {parser.get().result_int(), parser.get().body(), took.count()};
}

inline double percentile(std::vector<double> values, double p) {
    std::sort(values.begin(), values.end());
    auto const rank = static_cast<std::size_t>(std::ceil(p * static_cast<double>(values.size())));
    return values.at(std::max<std::size_t>(rank, 1) - 1);
}

} // namespace bench
