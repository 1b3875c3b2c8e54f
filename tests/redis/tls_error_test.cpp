// SPDX-License-Identifier: BSL-1.0
// A TLS connection that broke, to what retries a call; here, where OpenSSL is linked.
#include <tidegate/call.hpp>

#include <boost/asio/ssl/error.hpp>
#include <catch2/catch_test_macros.hpp>

TEST_CASE("a TLS stream cut short leaves open whether the work was done") {
    namespace ssl = boost::asio::ssl;
    tidegate::error_code const cut = ssl::error::stream_truncated;
    CHECK(tidegate::failure(cut).is_ambiguous());
    tidegate::error_code const unexpected = ssl::error::unexpected_result;
    CHECK(tidegate::failure(unexpected).is_ambiguous());
}
