// SPDX-License-Identifier: BSL-1.0
// The frames that a model's videos have under way: the bound on their memory, and who gets them.
#pragma once

#include "detector.hpp"

#include <tidegate/object_pool.hpp>
#include <tidegate/semaphore.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <string>
#include <vector>

namespace vision {

// The memory of one frame on its way; lent from a pool, so nothing is allocated a frame.
struct frame_slot {
    std::int64_t index = 0;             // in the source
    std::int64_t number = 0;            // among those inferred, without gaps
    std::string image_name;             // where the source is images
    cv::Mat picture;                    // as decoded
    std::vector<std::uint8_t> prepared; // letterboxed, as the model wants it
    letterbox_plan plan;
    std::uint64_t video = 0; // whose it is: the videos take turns in a batch
    bool urgent = false;     // before those that are not
    detection_limits limits{};
    tidegate::semaphore::permit place; // of one that is not urgent
};
using frame_pool = tidegate::object_pool<frame_slot>;

// Videos that are not urgent have half of the frames while an urgent one is read, and all of them
// otherwise: theirs wait for an inference behind the urgent ones, and would in the end be all that
// there are. Half is enough for every worker to find a full batch.
//
// Used on the videos' executor; frames come back on any thread.
class frame_supply {
public:
    // `size` is 2 or more; `bytes` those of a letterboxed picture.
    frame_supply(boost::asio::any_io_executor executor, std::size_t size, std::size_t bytes);

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    // A video's way to its frames.
    class share {
    public:
        explicit share(frame_supply& of) : of_(of) {}
        ~share() { be_urgent(false); }
        share(const share&) = delete;
        share& operator=(const share&) = delete;

        boost::asio::awaitable<frame_pool::lease> acquire(bool urgent);

    private:
        void be_urgent(bool yes);

        frame_supply& of_;
        bool urgent_ = false;
    };

private:
    std::size_t const size_;
    frame_pool frames_;
    tidegate::semaphore places_; // of those that are not urgent
    std::size_t urgent_ = 0;     // videos
};

} // namespace vision
