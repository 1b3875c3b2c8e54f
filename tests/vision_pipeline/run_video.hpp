// SPDX-License-Identifier: BSL-1.0
// Runs videos through an engine, as the program does.
#pragma once

#include "pipeline.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <functional>
#include <vector>

struct finished_video {
    vision::video_summary summary;
    std::vector<vision::partial_result> parts;
};

// `on_part` sees every partial result as it comes.
inline boost::asio::awaitable<void>
run_video(vision::engine& engine, vision::video_options options, finished_video& result,
          std::function<void(const vision::partial_result&)> on_part = {}) {
    vision::video_run run = vision::detect_objects(co_await boost::asio::this_coro::executor,
                                                   engine, std::move(options));
    for (;;) {
        auto step = co_await run.async_resume(boost::asio::use_awaitable);
        if (auto* const summary = std::get_if<vision::video_summary>(&step)) {
            result.summary = std::move(*summary);
            co_return;
        }
        result.parts.push_back(std::move(std::get<vision::partial_result>(step)));
        if (on_part) on_part(result.parts.back());
    }
}

// Runs one video to its end; throws what it throws.
inline finished_video
run_video(const vision::engine_options& engine_options, const vision::video_options& options,
          std::function<void(vision::engine&, const vision::partial_result&)> on_part = {}) {
    boost::asio::io_context io(1);
    vision::engine engine(io.get_executor(), engine_options);
    finished_video result;
    std::exception_ptr failure;
    auto const pass_on = [&](const vision::partial_result& part) {
        if (on_part) on_part(engine, part);
    };
    boost::asio::co_spawn(io, run_video(engine, options, result, pass_on),
                          [&](std::exception_ptr e) { failure = e; });
    io.run();
    if (failure) std::rethrow_exception(failure);
    return result;
}
