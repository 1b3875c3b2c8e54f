// SPDX-License-Identifier: BSL-1.0
#include "engine.hpp"

#include <algorithm>

namespace vision {

namespace {

std::size_t compute_threads(const engine_options& options) {
    check(options);
    return std::max(processor_cores(), options.workers.value_or(0));
}

tidegate::worker_pool_options threads(const char* name, std::size_t n) {
    return tidegate::worker_pool_options{}.name(name).threads(n);
}

} // namespace

engine::engine(boost::asio::any_io_executor executor, const engine_options& options)
    : before_read(options.before_read),
      compute(executor, threads("compute", compute_threads(options))),
      decode(executor, threads("decode", options.decoders)),
      write(executor, threads("write", 1)),
      models(compute, monitor, options, stop_),
      backend(backend_breaker_options()),
      guarded(make_backend_guard(backend, options.limits)),
      in_time(make_decoder_guard(options.limits)) {}

void engine::give_up_decoder() {
    ++lost_decoders_;
    decode.resize(decode.size() + 1);
}

void engine::stop() noexcept {
    stop_.request_stop();
    // Frames that wait for their batch to fill hear of it at once.
    models.flush();
}

} // namespace vision
