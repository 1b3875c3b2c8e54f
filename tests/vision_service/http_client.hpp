// SPDX-License-Identifier: BSL-1.0
// A client of the service, as simple as can be: one thread, one request at a time.
#pragma once

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/json/parse.hpp>

#include <istream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace test {

namespace http = boost::beast::http;
using boost::asio::ip::tcp;

struct reply {
    unsigned status = 0;
    http::fields fields;
    std::string body;

    std::string field(const char* name) const { return std::string(fields[name]); }
    boost::json::object json() const { return boost::json::parse(body).as_object(); }
};

using headers = std::vector<std::pair<std::string, std::string>>;

class http_client {
public:
    explicit http_client(std::uint16_t port) : port_(port), socket_(io_) {
        socket_.connect({boost::asio::ip::address_v4::loopback(), port});
    }

    reply send(const std::string& method, const std::string& target, const std::string& body = {},
               const headers& more = {}) {
        http::request<http::string_body> request;
        request.method_string(method);
        request.target(target);
        request.version(11);
        request.set(http::field::host, "127.0.0.1:" + std::to_string(port_));
        for (const auto& [name, value] : more) request.set(name, value);
        request.body() = body;
        request.prepare_payload();
        boost::system::error_code ec; // a refusal may come before all is written
        http::write(socket_, request, ec);
        return receive(method == "HEAD");
    }

    void send_raw(const std::string& bytes) {
        boost::asio::write(socket_, boost::asio::buffer(bytes));
    }

    reply receive(bool header_only = false) {
        http::response_parser<http::string_body> parser;
        parser.body_limit(std::numeric_limits<std::uint64_t>::max());
        parser.skip(header_only);
        http::read(socket_, buffer_, parser);
        auto& message = parser.get();
        return {message.result_int(), message.base(), message.body()};
    }

    tcp::socket& socket() { return socket_; }

private:
    std::uint16_t port_;
    boost::asio::io_context io_;
    tcp::socket socket_;
    boost::beast::flat_buffer buffer_;
};

// A connection for this request alone.
inline reply ask(std::uint16_t port, const std::string& method, const std::string& target,
                 const std::string& body = {}, const headers& more = {}) {
    return http_client(port).send(method, target, body, more);
}

struct server_event {
    std::string id;
    std::string name;
    boost::json::object data;
};

// Takes "id: ..\nevent: ..\ndata: ..\n\n" apart.
inline std::vector<server_event> parse_events(const std::string& text) {
    std::vector<server_event> events;
    server_event now;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("id: ")) now.id = line.substr(4);
        else if (line.starts_with("event: ")) now.name = line.substr(7);
        else if (line.starts_with("data: "))
            now.data = boost::json::parse(line.substr(6)).as_object();
        else if (line.empty() && !now.name.empty()) events.push_back(std::exchange(now, {}));
    }
    return events;
}

} // namespace test
