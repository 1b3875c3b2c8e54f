// SPDX-License-Identifier: BSL-1.0
#include "http_exchange.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/write.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>

namespace vision::service {

namespace asio = boost::asio;
namespace beast = boost::beast;

namespace {

constexpr auto as_result = asio::as_tuple(asio::deferred);

std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

} // namespace

http_exchange::http_exchange(beast::tcp_stream& stream, beast::flat_buffer& buffer,
                             const http_limits& limits)
    : stream_(stream), buffer_(buffer), limits_(limits) {
    parser_.header_limit(limits.header_bytes);
    parser_.body_limit(limits.body_bytes);
}

// Reading -----------------------------------------------------------------------------------------

asio::awaitable<bool> http_exchange::read_header() {
    stream_.expires_after(limits_.header_time);
    auto reading = http::async_read_header(stream_, buffer_, parser_, as_result);
    auto const result = co_await std::move(reading);
    auto const& [ec, n] = result;
    if (ec) {
        auto refusing = refuse_header(ec);
        co_return co_await std::move(refusing);
    }
    stays_open_ = request().keep_alive();
    if (auto target = parse_target(std::string(request().target()))) {
        target_ = std::move(*target);
        co_return true;
    }
    auto refusing = refuse(http::status::bad_request, "the target is not a path of this server");
    co_await std::move(refusing);
    co_return false;
}

asio::awaitable<bool> http_exchange::refuse_header(boost::system::error_code why) {
    stays_open_ = false;
    auto status = http::status::bad_request;
    if (why == http::error::body_limit) status = http::status::payload_too_large;
    else if (why == http::error::header_limit || why == http::error::buffer_overflow)
        status = http::status::request_header_fields_too_large;
    else if (why.category() != make_error_code(http::error::bad_method).category() ||
             why == http::error::end_of_stream || why == http::error::partial_message)
        co_return false; // the client has gone, or never spoke
    auto refusing = refuse(status, why.message());
    co_await std::move(refusing);
    co_return false;
}

std::string_view http_exchange::header(http::field name) const { return view(request()[name]); }

bool http_exchange::is_cross_site() const {
    std::string_view const origin = header(http::field::origin);
    if (origin.empty()) return false; // not a browser, or nothing that could do harm
    auto const scheme = origin.find("://");
    return scheme == std::string_view::npos ||
           origin.substr(scheme + 3) != header(http::field::host);
}

asio::awaitable<std::size_t> http_exchange::read_body(std::span<char> into) {
    if (parser_.is_done()) co_return 0;
    if (!std::exchange(body_begun_, true) &&
        beast::iequals(request()[http::field::expect], "100-continue")) {
        http::response<http::empty_body> go_on{http::status::continue_, request().version()};
        stream_.expires_after(limits_.step_time);
        auto writing = http::async_write(stream_, go_on, asio::deferred);
        co_await std::move(writing);
    }
    // What is read at once follows from the room there is.
    buffer_.reserve(std::min(into.size(), buffer_.max_size()));
    auto& body = parser_.get().body();
    body.data = into.data();
    body.size = into.size();
    stream_.expires_after(limits_.step_time);
    auto reading = http::async_read(stream_, buffer_, parser_, as_result);
    auto const result = co_await std::move(reading);
    auto const& [ec, n] = result;
    if (ec && ec != http::error::need_buffer) throw boost::system::system_error(ec);
    co_return into.size() - body.size;
}

// Answering ---------------------------------------------------------------------------------------

template <class Body>
void http_exchange::add_fields(http::response<Body>& response, const http_fields& fields) {
    // What is left of a body that nobody wants would be taken for the next request.
    if (!parser_.is_done()) stays_open_ = false;
    response.keep_alive(stays_open_);
    response.set(http::field::server, "tidegate-vision");
    response.set("X-Content-Type-Options", "nosniff");
    for (auto const& [name, value] : fields) response.set({name.data(), name.size()}, value);
    answered_ = response.result_int();
}

asio::awaitable<void> http_exchange::respond(http::status status, std::string type,
                                             std::string body, http_fields fields) {
    http::response<http::string_body> response{status, 11};
    add_fields(response, fields);
    if (!type.empty()) response.set(http::field::content_type, type);
    response.body() = std::move(body);
    bool const has_body =
        status != http::status::no_content && status != http::status::not_modified;
    if (has_body) response.prepare_payload(); // else there is no length either
    if (!wants_body()) response.body().clear();
    stream_.expires_after(limits_.step_time);
    auto writing = http::async_write(stream_, response, asio::deferred);
    co_await std::move(writing);
}

asio::awaitable<void> http_exchange::respond(http::status status, const boost::json::value& body,
                                             http_fields fields) {
    std::string const type =
        static_cast<unsigned>(status) < 400 ? "application/json" : "application/problem+json";
    return respond(status, type, serialize(body) + '\n', std::move(fields));
}

asio::awaitable<void> http_exchange::refuse(http::status status, std::string detail,
                                            http_fields fields) {
    boost::json::object const problem{{"type", "about:blank"},
                                      {"title", view(http::obsolete_reason(status))},
                                      {"status", static_cast<unsigned>(status)},
                                      {"detail", std::move(detail)}};
    return respond(status, boost::json::value(problem), std::move(fields));
}

asio::awaitable<void> http_exchange::begin(http::status status, std::string type,
                                           std::optional<std::uint64_t> length,
                                           http_fields fields) {
    http::response<http::empty_body> response{status, 11};
    add_fields(response, fields);
    response.set(http::field::content_type, type);
    chunked_ = !length;
    if (length) response.content_length(*length);
    else response.chunked(true);
    http::response_serializer<http::empty_body> serializer(response);
    stream_.expires_after(limits_.step_time);
    auto writing = http::async_write_header(stream_, serializer, asio::deferred);
    co_await std::move(writing);
}

asio::awaitable<void> http_exchange::send(std::string_view bytes) {
    if (bytes.empty() || !wants_body()) co_return; // an empty chunk would be the last
    stream_.expires_after(limits_.step_time);
    auto const buffer = asio::buffer(bytes);
    if (chunked_) {
        auto writing = asio::async_write(stream_, http::make_chunk(buffer), asio::deferred);
        co_await std::move(writing);
    } else {
        auto writing = asio::async_write(stream_, buffer, asio::deferred);
        co_await std::move(writing);
    }
}

asio::awaitable<void> http_exchange::end() {
    if (!chunked_ || !wants_body()) co_return;
    stream_.expires_after(limits_.step_time);
    auto writing = asio::async_write(stream_, http::make_chunk_last(), asio::deferred);
    co_await std::move(writing);
}

} // namespace vision::service
