// SPDX-License-Identifier: BSL-1.0
// A socket that was told not to wait: whoever asks for the error is told would_block.
#include "prelude.hpp"

namespace ready {

struct reader {
    tcp::socket socket;
    void start() { socket.non_blocking(true); }
    task n01(asio::mutable_buffer b) { boost::system::error_code ec; socket.read_some(b, ec); co_return; }
    task n02(asio::const_buffer b) { boost::system::error_code ec; socket.write_some(b, ec); co_return; }
    task p01(asio::mutable_buffer b) { asio::read(socket, b); co_return; } // finds blocking-socket
    task p02(tcp::endpoint e) { socket.connect(e); co_return; } // finds blocking-socket
};

} // namespace ready
