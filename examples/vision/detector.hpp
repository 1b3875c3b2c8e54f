// SPDX-License-Identifier: BSL-1.0
// A loaded model: letterboxed pictures in, detections in source pixels out.
#pragma once

#include "detection.hpp"
#include "layout.hpp"
#include "letterbox.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace vision {

struct detector_options {
    std::filesystem::path model;
    float confidence = 0.25F;          // in 0..1; boxes above it are reported
    float iou = 0.45F;                 // in 0..1; see nms_limits
    std::size_t most_detections = 300; // a picture
    // Only for models that leave their input size open; unset: the metadata's, else 640.
    std::optional<int> input_side;
    layout_options layout;
    // In the order of preference: the first that works here is used. "cpu" always does.
    std::vector<std::string> execution_providers{"cpu"}; // cuda, cpu
    int intra_op_threads = 1; // threads of one inference; many inferences at once use cores better
};

// Which boxes are reported.
struct detection_limits {
    float confidence; // above this score, in 0..1
    float iou;        // in 0..1; see nms_limits
};

// A picture ready for the network: the bytes that apply_letterbox wrote for the plan.
struct prepared_picture {
    std::span<const std::uint8_t> pixels;
    letterbox_plan plan;
};

// Stops every run that it is given to, from any thread, within about a millisecond (one step of the
// network). Runs that must stop apart from each other need a control each. Stays stopped until
// reset.
class run_control {
public:
    run_control();
    ~run_control();
    run_control(const run_control&) = delete;
    run_control& operator=(const run_control&) = delete;

    void request_stop() noexcept; // any thread
    [[nodiscard]] bool stop_requested() const noexcept;
    void reset(); // only while no run uses it

private:
    friend class detector;
    struct state;
    std::unique_ptr<state> state_;
};

// The tensors of one caller, made once for its largest batch. Not thread-safe: one for each thread.
class detector_scratch {
public:
    [[nodiscard]] std::size_t max_batch() const noexcept { return max_batch_; }
    [[nodiscard]] std::size_t bytes() const noexcept {
        return (input_.capacity() + output_.capacity()) * sizeof(float);
    }
    // Boxes that were no finite numbers, in all detections() with this scratch so far.
    [[nodiscard]] std::size_t dropped_boxes() const noexcept { return dropped_boxes_; }

private:
    friend class detector;
    std::size_t max_batch_ = 0;
    std::vector<float> input_;
    std::vector<float> output_;
    std::size_t dropped_boxes_ = 0;
};

// Const functions are safe from any number of threads at once, each with its own scratch and
// control. Must outlive every run. Failures throw vision::error.
class detector {
public:
    // Loads the model, finds out its layout, and runs it once or twice: call it off the event loop.
    explicit detector(const detector_options& options);
    ~detector();
    detector(detector&&) noexcept;
    detector& operator=(detector&&) noexcept;

    [[nodiscard]] const model_layout& layout() const noexcept;
    // Those of the options.
    [[nodiscard]] detection_limits limits() const noexcept;
    // Which of the execution providers runs it.
    [[nodiscard]] const std::string& execution_provider() const noexcept;
    // The batch size the model insists on, or 0 where it takes any.
    [[nodiscard]] std::size_t fixed_batch() const noexcept;

    // Bytes of one letterboxed picture, the size of a frame buffer.
    [[nodiscard]] std::size_t picture_bytes() const noexcept;
    [[nodiscard]] letterbox_plan plan(image_size source) const;
    [[nodiscard]] detector_scratch make_scratch(std::size_t max_batch) const; // 1..16

    // All three steps below for up to scratch.max_batch() pictures; one result for each, in their
    // order.
    [[nodiscard]] std::vector<std::vector<detection>> run(std::span<const prepared_picture> batch,
                                                          detector_scratch& scratch,
                                                          run_control& control) const;

    // Step 1: converts one picture into its slot, 0 .. max_batch-1, of the input tensor.
    void load(const prepared_picture& picture, std::size_t slot, detector_scratch& scratch) const;
    // Step 2: one inference over the slots [0, count); a fixed batch of 1 goes one by one.
    // Throws run_stopped where the control was told to stop.
    void infer(std::size_t count, detector_scratch& scratch, run_control& control) const;
    // Step 3: the boxes of one slot, best first.
    [[nodiscard]] std::vector<detection> detections(std::size_t slot, const letterbox_plan& plan,
                                                    detector_scratch& scratch) const {
        return detections(slot, plan, scratch, limits());
    }
    [[nodiscard]] std::vector<detection> detections(std::size_t slot, const letterbox_plan& plan,
                                                    detector_scratch& scratch,
                                                    detection_limits limits) const;

private:
    struct loaded_model;
    std::unique_ptr<loaded_model> model_;
};

} // namespace vision
