// SPDX-License-Identifier: BSL-1.0
#include "frame_supply.hpp"

#include <memory>
#include <utility>

namespace vision {

namespace {

tidegate::object_pool_options<frame_slot> settings(std::size_t size) {
    auto give_up_place = [](frame_slot& frame) {
        frame.place.release();
        return true;
    };
    return tidegate::object_pool_options<frame_slot>().max_size(size).min_size(size).recycle(
        give_up_place);
}

std::unique_ptr<frame_slot> make_frame(std::size_t bytes) {
    auto frame = std::make_unique<frame_slot>();
    frame->prepared.resize(bytes);
    return frame;
}

} // namespace

frame_supply::frame_supply(boost::asio::any_io_executor executor, std::size_t size,
                           std::size_t bytes)
    : size_(size),
      frames_(executor, settings(size), [bytes] { return make_frame(bytes); }),
      places_(executor, size) {}

boost::asio::awaitable<frame_pool::lease> frame_supply::share::acquire(bool urgent) {
    be_urgent(urgent);
    tidegate::semaphore::permit place;
    if (!urgent) {
        auto waiting = of_.places_.acquire();
        place = co_await std::move(waiting);
    }
    auto acquiring = of_.frames_.acquire();
    frame_pool::lease frame = co_await std::move(acquiring);
    frame->place = std::move(place);
    frame->urgent = urgent;
    co_return frame;
}

void frame_supply::share::be_urgent(bool yes) {
    if (std::exchange(urgent_, yes) == yes) return;
    if (yes) ++of_.urgent_;
    else --of_.urgent_;
    of_.places_.resize(of_.urgent_ > 0 ? of_.size_ / 2 : of_.size_);
}

} // namespace vision
