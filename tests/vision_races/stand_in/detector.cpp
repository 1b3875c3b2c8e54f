// SPDX-License-Identifier: BSL-1.0
// Stands in for the detector that ONNX Runtime runs: "inference" copies the input to the output,
// and the boxes are those of the video and frame that the picture names.
#include "detector.hpp"

#include "error.hpp"
#include "marked_picture.hpp"

#include <algorithm>
#include <atomic>

namespace vision {

struct run_control::state {
    std::atomic<bool> stopped = false;
};

run_control::run_control() : state_(std::make_unique<state>()) {}
run_control::~run_control() = default;
void run_control::request_stop() noexcept { state_->stopped = true; }
bool run_control::stop_requested() const noexcept { return state_->stopped; }

struct detector::loaded_model {
    model_layout layout;
    std::string execution_provider = "none";
};

detector::detector(const detector_options&) : model_(std::make_unique<loaded_model>()) {
    model_->layout.input = stand_in::size;
}
detector::~detector() = default;

const model_layout& detector::layout() const noexcept { return model_->layout; }
detection_limits detector::limits() const noexcept { return {0.25F, 0.45F}; }
const std::string& detector::execution_provider() const noexcept {
    return model_->execution_provider;
}
std::size_t detector::fixed_batch() const noexcept { return 0; }
std::size_t detector::picture_bytes() const noexcept {
    return letterbox_bytes(model_->layout.input);
}
letterbox_plan detector::plan(image_size source) const {
    return {source, model_->layout.input, source};
}

detector_scratch detector::make_scratch(std::size_t max_batch) const {
    detector_scratch scratch;
    scratch.max_batch_ = max_batch;
    scratch.input_.resize(max_batch * picture_bytes());
    scratch.output_.resize(max_batch * picture_bytes());
    return scratch;
}

std::vector<std::vector<detection>> detector::run(std::span<const prepared_picture> batch,
                                                  detector_scratch& scratch,
                                                  run_control& control) const {
    for (std::size_t slot = 0; slot < batch.size(); ++slot) load(batch[slot], slot, scratch);
    infer(batch.size(), scratch, control);
    std::vector<std::vector<detection>> results;
    for (std::size_t slot = 0; slot < batch.size(); ++slot) {
        results.push_back(detections(slot, batch[slot].plan, scratch));
    }
    return results;
}

void detector::load(const prepared_picture& picture, std::size_t slot,
                    detector_scratch& scratch) const {
    std::ranges::copy(picture.pixels, &scratch.input_.at(slot * picture_bytes()));
}

void detector::infer(std::size_t count, detector_scratch& scratch, run_control& control) const {
    if (control.stop_requested()) throw run_stopped();
    std::copy_n(scratch.input_.begin(), count * picture_bytes(), scratch.output_.begin());
}

std::vector<detection> detector::detections(std::size_t slot, const letterbox_plan&,
                                            detector_scratch& scratch, detection_limits) const {
    auto const output = std::span(scratch.output_).subspan(slot * picture_bytes(), picture_bytes());
    for (std::size_t i = 3; i < output.size(); ++i) {
        if (output[i] != output[i - 3]) throw error("a picture is not of one piece");
    }
    return stand_in::boxes_in(static_cast<int>(output[0]), static_cast<std::int64_t>(output[1]));
}

} // namespace vision
