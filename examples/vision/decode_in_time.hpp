// SPDX-License-Identifier: BSL-1.0
// Calls into decoders, which may hang and cannot be interrupted.
#pragma once

#include "engine.hpp"
#include "error.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/system/system_error.hpp>
#include <fmt/format.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace vision {

// Runs `what` on the decode pool, and gives what it returns or throws. Nothing: it takes longer
// than the limit for decoding. Then it is left behind with its thread, and another thread takes
// that one's place; `what` must hold all that it uses. To wait for a thread is not to hang: when
// none has become free for so long, those that are there hang, and there is one more.
template <class Function>
boost::asio::awaitable<std::optional<std::invoke_result_t<Function&>>>
decode_in_time(engine& shared, Function what) {
    for (;;) {
        auto const taken = std::make_shared<std::atomic<bool>>(false); // by a thread, or given up
        auto run = [what, taken]() mutable {
            if (taken->exchange(true))
                throw boost::system::system_error(boost::asio::error::operation_aborted);
            return what();
        };
        auto attempt = [&shared, run] { return shared.decode.submit(run); };
        auto running = shared.in_time(attempt);
        try {
            co_return co_await std::move(running);
        } catch (const boost::system::system_error& e) {
            if (e.code() != tidegate::error::deadline_exceeded) throw;
        }
        // First this, so that the new thread does not take it for nobody.
        bool const hangs = taken->exchange(true);
        shared.give_up_decoder();
        if (hangs) co_return std::nullopt;
    }
}

inline source_error decoder_hangs(const std::filesystem::path& source) {
    return source_error(fmt::format("source '{}': the decoder hangs", source.string()));
}

} // namespace vision
