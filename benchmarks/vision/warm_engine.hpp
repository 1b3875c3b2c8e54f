// SPDX-License-Identifier: BSL-1.0
// The pipeline's engine with its model loaded and calibrated, for all rows: neither is measured.
#pragma once

#include "input.hpp"

#include "letterbox.hpp"
#include "opencv_setup.hpp"
#include "pipeline.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <cstdio>
#include <exception>
#include <memory>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace bench {

namespace asio = boost::asio;

class warm_engine {
public:
    static warm_engine& instance() {
        static warm_engine one;
        return one;
    }

    vision::detector const& model() { return loaded_->model; }
    std::size_t workers() const { return loaded_->tuned.chosen.workers; }
    std::size_t batch() const { return loaded_->tuned.chosen.batch; }

    // A whole video through the pipeline; gives its frames.
    std::int64_t detect(vision::video_options const& options) {
        std::int64_t frames = 0;
        run(detect(options, frames));
        return frames;
    }

    // What a thread has that infers without the pipeline.
    struct inferrer {
        vision::detector const& model;
        vision::detector_scratch scratch;
        vision::run_control control;
    };

    // Runs `work(inferrer&)` on as many threads as the calibration chose, until all return.
    template <class Work>
    void on_all_workers(Work work) {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < workers(); ++i) {
            threads.emplace_back([this, &work] {
                inferrer own{model(), model().make_scratch(batch()), {}};
                work(own);
            });
        }
    }

private:
    warm_engine() : engine_((vision::set_up_opencv(), io_.get_executor()), engine_options()) {
        run(load());
        auto const input = find_input();
        std::fprintf(stderr, "model: %s\nvideo: %s\n%s", input.model.c_str(), input.video.c_str(),
                     loaded_->tuned.table().c_str());
    }

    void run(asio::awaitable<void> body) {
        io_.restart();
        asio::co_spawn(io_, std::move(body), [](std::exception_ptr error) {
            if (error) std::rethrow_exception(error);
        });
        io_.run();
    }

    asio::awaitable<void> load() { loaded_ = co_await engine_.models.get(); }

    asio::awaitable<void> detect(vision::video_options options, std::int64_t& frames) {
        auto video = vision::detect_objects(io_.get_executor(), engine_, std::move(options));
        for (;;) {
            auto step = co_await video.async_resume(asio::use_awaitable);
            if (auto* const summary = std::get_if<vision::video_summary>(&step)) {
                frames = summary->frames;
                co_return;
            }
        }
    }

    asio::io_context io_{1};
    vision::engine engine_;
    std::shared_ptr<vision::loaded_model> loaded_;
};

} // namespace bench
