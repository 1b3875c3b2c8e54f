// SPDX-License-Identifier: BSL-1.0
#include "video_output.hpp"

#include <system_error>
#include <utility>

namespace vision {

video_output::video_output(const video_options& options, const model_layout& layout,
                           double frame_rate, std::unique_ptr<checkpoint_writer> checkpoint)
    : layout_(layout),
      detections_(options.out / "detections.jsonl", layout.class_names),
      checkpoint_(std::move(checkpoint)),
      checkpoint_path_(options.checkpoint) {
    if (options.annotate) {
        video_path_ = options.out / "annotated.mp4";
        video_.emplace(video_path_, frame_rate);
    }
}

void video_output::write(detected_frame& frame, const video_source& source,
                         tidegate::monitor& monitor) {
    {
        auto const timer = monitor.measure("write detections");
        detections_.write(frame.slot->index, source.seconds(frame.slot->index), frame.found,
                          frame.slot->image_name);
    }
    if (video_) {
        auto const timer = monitor.measure("write video");
        video_->write(frame.slot->picture, frame.found, layout_); // draws into it, too
    }
    if (checkpoint_ && !frame.known) {
        checkpoint_->add({frame.slot->index, frame.found, frame.dropped});
    }
}

void video_output::save() {
    if (checkpoint_) checkpoint_->save();
}

std::shared_ptr<const std::string> video_output::preview(detected_frame& frame) const {
    if (frame.slot->picture.empty()) return nullptr;
    if (!video_) draw_detections(frame.slot->picture, frame.found, layout_);
    return std::make_shared<const std::string>(small_jpeg(frame.slot->picture));
}

void video_output::commit() {
    detections_.close();
    if (video_) video_->commit();
    detections_.commit();
    if (!checkpoint_) return;
    checkpoint_.reset();
    std::error_code ignored; // it takes room, and nothing else
    std::filesystem::remove(checkpoint_path_, ignored);
}

} // namespace vision
