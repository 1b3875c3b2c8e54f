// SPDX-License-Identifier: BSL-1.0
// One Ort::Session for everybody: its Run is thread-safe, and a second session would double the
// memory.
#include "detector.hpp"

#include "decode.hpp"
#include "error.hpp"
#include "nms.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <fmt/format.h>
#include <onnxruntime_cxx_api.h>

namespace vision {
namespace {

// A run can be cut short between the nodes of the model only, and a node over 64 frames takes
// longer than a Ctrl-C may.
constexpr std::size_t largest_batch = 16;
constexpr int smallest_side = 32;
constexpr int largest_side = 4096; // 200 MB of floats; more is a broken or hostile model

Ort::Env& environment() {
    // Failures come as exceptions; ONNX Runtime's own lines on stderr would say them twice.
    static Ort::Env env(ORT_LOGGING_LEVEL_FATAL, "tidegate-vision");
    return env;
}

Ort::SessionOptions session_options(int intra_op_threads) {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(intra_op_threads);
    options.SetExecutionMode(ORT_SEQUENTIAL);
    options.SetGraphOptimizationLevel(ORT_ENABLE_ALL);
    // Spinning doubles the CPU cost as soon as anything else wants the cores.
    options.AddConfigEntry("session.intra_op.allow_spinning", "0");
    options.AddConfigEntry("session.inter_op.allow_spinning", "0");
    return options;
}

[[noreturn]] void fail(const std::filesystem::path& model, const std::string& why) {
    throw error(fmt::format("model '{}': {}", model.string(), why));
}

void require_file(const detector_options& options) {
    std::error_code problem;
    const auto status = std::filesystem::status(options.model, problem);
    if (!std::filesystem::exists(status)) {
        fail(options.model, "no such file; allowed: an ONNX file");
    }
    if (!std::filesystem::is_regular_file(status)) {
        fail(options.model, "not a regular file; allowed: an ONNX file");
    }
}

struct opened_session {
    Ort::Session session;
    std::string execution_provider;
};

// Throws Ort::Exception, also where there is no such provider.
opened_session open_session_on(const std::string& provider, const detector_options& options) {
    Ort::SessionOptions settings = session_options(options.intra_op_threads);
    if (provider == "cuda") {
        settings.AppendExecutionProvider_CUDA(OrtCUDAProviderOptions());
        const auto& allowed = options.execution_providers;
        if (std::ranges::find(allowed, "cpu") == allowed.end()) {
            settings.AddConfigEntry("session.disable_cpu_ep_fallback", "1"); // for single nodes
        }
    }
    return {Ort::Session(environment(), options.model.c_str(), settings), provider};
}

// By the first execution provider that works.
opened_session open_session(const detector_options& options) {
    require_file(options);
    std::string complaints;
    for (const std::string& provider : options.execution_providers) {
        try {
            return open_session_on(provider, options);
        } catch (const Ort::Exception& e) {
            const auto code = e.GetOrtErrorCode();
            if (code == ORT_INVALID_PROTOBUF || code == ORT_NO_MODEL) {
                fail(options.model, "not an ONNX model");
            }
            complaints +=
                fmt::format("{}{}: {}", complaints.empty() ? "" : "; ", provider, e.what());
        }
    }
    std::ranges::replace(complaints, '\n', ' ');
    fail(options.model, "cannot be loaded on " + complaints);
}

struct tensor_description {
    std::string name;
    std::vector<std::int64_t> shape; // -1: open
    bool is_float = false;
};

tensor_description describe(const char* name, const Ort::TypeInfo& type) {
    tensor_description result{name, {}, false};
    if (type.GetONNXType() == ONNX_TYPE_TENSOR) {
        const auto tensor = type.GetTensorTypeAndShapeInfo();
        result.shape = tensor.GetShape();
        result.is_float = tensor.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    }
    return result;
}

std::vector<tensor_description> inputs_of(const Ort::Session& session) {
    Ort::AllocatorWithDefaultOptions allocator;
    std::vector<tensor_description> result;
    for (std::size_t i = 0; i < session.GetInputCount(); ++i) {
        result.push_back(describe(session.GetInputNameAllocated(i, allocator).get(),
                                  session.GetInputTypeInfo(i)));
    }
    return result;
}

std::vector<tensor_description> outputs_of(const Ort::Session& session) {
    Ort::AllocatorWithDefaultOptions allocator;
    std::vector<tensor_description> result;
    for (std::size_t i = 0; i < session.GetOutputCount(); ++i) {
        result.push_back(describe(session.GetOutputNameAllocated(i, allocator).get(),
                                  session.GetOutputTypeInfo(i)));
    }
    return result;
}

model_metadata metadata_of(const Ort::Session& session) {
    Ort::AllocatorWithDefaultOptions allocator;
    const Ort::ModelMetadata metadata = session.GetModelMetadata();
    std::map<std::string, std::string, std::less<>> entries;
    for (const auto& key : metadata.GetCustomMetadataMapKeysAllocated(allocator)) {
        if (const auto value = metadata.LookupCustomMetadataMapAllocated(key.get(), allocator)) {
            entries.emplace(key.get(), value.get());
        }
    }
    return parse_model_metadata(entries);
}

std::string list_text(const std::vector<tensor_description>& tensors) {
    std::string text;
    for (const auto& tensor : tensors) {
        text += fmt::format("{}{} {}{}", text.empty() ? "" : ", ", printable_name(tensor.name),
                            shape_text(tensor.shape), tensor.is_float ? "" : " (not float32)");
    }
    return text;
}

void require_usable_tensors(const detector_options& options,
                            const std::vector<tensor_description>& inputs,
                            const std::vector<tensor_description>& outputs) {
    if (inputs.size() != 1 || !inputs[0].is_float || inputs[0].shape.size() != 4) {
        fail(options.model,
             fmt::format("input {}; allowed: one float32 input Nx3xHxW", list_text(inputs)));
    }
    const auto& shape = inputs[0].shape;
    if (shape[1] != 3 && shape[1] != -1) {
        fail(options.model,
             fmt::format("input {} has {} channels; allowed: 3", list_text(inputs), shape[1]));
    }
    if (outputs.size() != 1 || !outputs[0].is_float) {
        fail(options.model,
             fmt::format(
                 "{} outputs ({}); allowed: one float32 output, yolov5 Nx3Ax(5+classes), yolov8 "
                 "Nx(4+classes)xA, yolox NxAx(5+classes) or end-to-end Nx(boxes)x6, with A grid "
                 "cells",
                 outputs.size(), list_text(outputs)));
    }
}

int input_side(const detector_options& options, std::int64_t declared,
               std::optional<int> in_metadata) {
    if (declared > 0 && options.input_side && declared != *options.input_side) {
        fail(options.model,
             fmt::format("input side {} was asked for; allowed: {}, which the model fixes",
                         *options.input_side, declared));
    }
    const std::int64_t side =
        declared > 0 ? declared : options.input_side.value_or(in_metadata.value_or(640));
    if (side < smallest_side || side > largest_side) {
        fail(options.model,
             fmt::format("input side {}; allowed: {}..{}", side, smallest_side, largest_side));
    }
    return static_cast<int>(side);
}

image_size input_size(const detector_options& options, const std::vector<std::int64_t>& shape,
                      const model_metadata& metadata) {
    const auto& written = metadata.input;
    return {input_side(options, shape[3], written ? std::optional(written->width) : std::nullopt),
            input_side(options, shape[2], written ? std::optional(written->height) : std::nullopt)};
}

void require_sane(const detector_options& options) {
    const auto fraction = [](std::string_view name, float value) {
        if (!(value >= 0 && value <= 1)) {
            throw error(fmt::format("{} is {}; allowed: 0..1", name, value));
        }
    };
    fraction("confidence", options.confidence);
    fraction("iou", options.iou);
    if (options.most_detections < 1 || options.most_detections > nms_limits{}.most_candidates) {
        throw error(fmt::format("most detections is {}; allowed: 1..{}", options.most_detections,
                                nms_limits{}.most_candidates));
    }
    if (options.execution_providers.empty()) {
        throw error("no execution provider; allowed: cuda, cpu");
    }
    for (const std::string& provider : options.execution_providers) {
        if (provider != "cuda" && provider != "cpu") {
            throw error(fmt::format("execution provider is '{}'; allowed: cuda, cpu", provider));
        }
    }
    if (options.intra_op_threads < 1 || options.intra_op_threads > 1024) {
        throw error(
            fmt::format("intra-op threads is {}; allowed: 1..1024", options.intra_op_threads));
    }
}

} // namespace

struct run_control::state {
    Ort::RunOptions options;
    std::atomic<bool> stopped = false;
};

run_control::run_control() : state_(std::make_unique<state>()) {}
run_control::~run_control() = default;

void run_control::request_stop() noexcept {
    state_->stopped.store(true);
    state_->options.SetTerminate();
}

bool run_control::stop_requested() const noexcept { return state_->stopped.load(); }

void run_control::reset() {
    state_->options.UnsetTerminate();
    state_->stopped.store(false);
}

struct detector::loaded_model {
    explicit loaded_model(const detector_options& opts) : options(opts) {
        opened_session opened = open_session(opts);
        session = std::move(opened.session);
        execution_provider = std::move(opened.execution_provider);
        const auto inputs = inputs_of(session);
        const auto outputs = outputs_of(session);
        require_usable_tensors(options, inputs, outputs);
        input_name = inputs[0].name;
        output_name = outputs[0].name;
        const model_metadata metadata = metadata_of(session);
        input = input_size(options, inputs[0].shape, metadata);
        if (inputs[0].shape[0] > static_cast<std::int64_t>(largest_batch)) {
            fail(options.model,
                 fmt::format("batch fixed at {}; allowed: 1..16 or open", inputs[0].shape[0]));
        }
        fixed_batch = inputs[0].shape[0] > 0 ? static_cast<std::size_t>(inputs[0].shape[0]) : 0;
        probe(metadata);
    }

    // The shapes that a model declares may be open or wrong; one run with grey pictures shows the
    // truth.
    void probe(const model_metadata& metadata) {
        const std::size_t count = std::max<std::size_t>(fixed_batch, 1);
        // YOLOX wants 0..255, the others 0..1: both see some even grey.
        std::vector<float> grey(count * 3 * input.pixels(), 0.5F);
        Ort::RunOptions run;
        Ort::Value output{nullptr};
        run_session(grey, count, run, output);
        std::vector<std::int64_t> shape = output.GetTensorTypeAndShapeInfo().GetShape();
        if (shape.empty() || shape[0] != static_cast<std::int64_t>(count)) {
            fail(options.model,
                 fmt::format("a batch of {} gives output {}; allowed: one entry a picture", count,
                             shape_text(shape)));
        }
        output_floats = output.GetTensorTypeAndShapeInfo().GetElementCount() / count;
        shape[0] = 1;
        item_shape = shape;
        deduce(metadata, {output.GetTensorData<float>(), output_floats});
        if (fixed_batch == 0) {
            try_batch_of_two();
        }
    }

    void deduce(const model_metadata& metadata, std::span<const float> grey_output) {
        try {
            layout = deduce_layout({input, item_shape, grey_output, metadata, options.layout});
        } catch (const error& e) {
            fail(options.model, e.what());
        }
    }

    // Some exports leave the batch open and then insist on 1 inside: found out here, not in
    // mid-video.
    void try_batch_of_two() {
        try {
            std::vector<float> grey(2 * 3 * input.pixels(), 0.5F);
            std::vector<float> results(2 * output_floats);
            Ort::RunOptions run;
            run.AddConfigEntry("memory.enable_memory_arena_shrinkage",
                               "cpu:0"); // give the memory back
            Ort::Value output = output_view(results, 2);
            run_session(grey, 2, run, output);
        } catch (const error&) {
            fixed_batch = 1;
            layout.warnings.emplace_back(
                "the model says it takes any batch but fails with 2: pictures go one by one");
        }
    }

    static Ort::Value view(std::span<float> data, const std::vector<std::int64_t>& shape) {
        static const Ort::MemoryInfo memory =
            Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeCPU);
        return Ort::Value::CreateTensor<float>(memory, data.data(), data.size(), shape.data(),
                                               shape.size());
    }

    Ort::Value output_view(std::span<float> data, std::size_t count) const {
        std::vector<std::int64_t> shape = item_shape;
        shape[0] = static_cast<std::int64_t>(count);
        return view(data, shape);
    }

    void run_session(std::span<float> pictures, std::size_t count, const Ort::RunOptions& run,
                     Ort::Value& output) {
        const Ort::Value in =
            view(pictures, {static_cast<std::int64_t>(count), 3, input.height, input.width});
        const std::array names_in = {input_name.c_str()};
        const std::array names_out = {output_name.c_str()};
        try {
            session.Run(run, names_in.data(), &in, 1, names_out.data(), &output, 1);
        } catch (const Ort::Exception& e) {
            std::string why = e.what();
            std::ranges::replace(why, '\n', ' ');
            fail(options.model, fmt::format("inference with a batch of {} failed: {}", count, why));
        }
    }

    detector_options options;
    Ort::Session session{nullptr};
    std::string execution_provider;
    std::string input_name;
    std::string output_name;
    image_size input;
    std::size_t fixed_batch = 0;
    std::vector<std::int64_t> item_shape; // of the output for one picture
    std::size_t output_floats = 0;        // the same as a count
    model_layout layout;
};

detector::detector(const detector_options& options) {
    require_sane(options);
    model_ = std::make_unique<loaded_model>(options);
}

detector::~detector() = default;
detector::detector(detector&&) noexcept = default;
detector& detector::operator=(detector&&) noexcept = default;

const std::string& detector::execution_provider() const noexcept {
    return model_->execution_provider;
}
const model_layout& detector::layout() const noexcept { return model_->layout; }
detection_limits detector::limits() const noexcept {
    return {model_->options.confidence, model_->options.iou};
}
std::size_t detector::fixed_batch() const noexcept { return model_->fixed_batch; }
std::size_t detector::picture_bytes() const noexcept { return letterbox_bytes(model_->input); }

letterbox_plan detector::plan(image_size source) const {
    return plan_letterbox(source, model_->input, model_->layout.prepare);
}

detector_scratch detector::make_scratch(std::size_t max_batch) const {
    if (max_batch < 1 || max_batch > largest_batch) {
        throw error(fmt::format("batch size is {}; allowed: 1..{}", max_batch, largest_batch));
    }
    const std::size_t step = std::max<std::size_t>(model_->fixed_batch, 1);
    const std::size_t slots =
        (max_batch + step - 1) / step * step; // the last fixed batch may be part empty
    detector_scratch scratch;
    scratch.max_batch_ = max_batch;
    scratch.input_.resize(slots * picture_bytes());
    scratch.output_.resize(slots * model_->output_floats);
    return scratch;
}

std::vector<std::vector<detection>> detector::run(std::span<const prepared_picture> batch,
                                                  detector_scratch& scratch,
                                                  run_control& control) const {
    for (std::size_t slot = 0; slot < batch.size(); ++slot) {
        load(batch[slot], slot, scratch);
    }
    infer(batch.size(), scratch, control);
    std::vector<std::vector<detection>> results;
    results.reserve(batch.size());
    for (std::size_t slot = 0; slot < batch.size(); ++slot) {
        results.push_back(detections(slot, batch[slot].plan, scratch));
    }
    return results;
}

void detector::load(const prepared_picture& picture, std::size_t slot,
                    detector_scratch& scratch) const {
    if (slot >= scratch.max_batch_ || picture.pixels.size() != picture_bytes()) {
        throw error(fmt::format("slot {} with {} bytes; allowed: slots below {}, {} bytes", slot,
                                picture.pixels.size(), scratch.max_batch_, picture_bytes()));
    }
    const std::size_t floats = picture_bytes(); // one float for each byte
    to_planes(picture.pixels, model_->layout.prepare,
              std::span(scratch.input_).subspan(slot * floats, floats));
}

void detector::infer(std::size_t count, detector_scratch& scratch, run_control& control) const {
    if (count > scratch.max_batch_) {
        throw error(fmt::format("a batch of {}; allowed: up to {}", count, scratch.max_batch_));
    }
    const std::size_t step = model_->fixed_batch != 0 ? model_->fixed_batch : count;
    for (std::size_t first = 0; first < count; first += step) {
        if (control.stop_requested()) {
            throw run_stopped();
        }
        const std::span inputs(scratch.input_);
        const std::span outputs(scratch.output_);
        Ort::Value output = model_->output_view(
            outputs.subspan(first * model_->output_floats, step * model_->output_floats), step);
        try {
            model_->run_session(inputs.subspan(first * picture_bytes(), step * picture_bytes()),
                                step, control.state_->options, output);
        } catch (const error&) {
            // ONNX Runtime has no error code for it, so it counts that we asked.
            if (control.stop_requested()) {
                throw run_stopped();
            }
            throw;
        }
    }
}

std::vector<detection> detector::detections(std::size_t slot, const letterbox_plan& plan,
                                            detector_scratch& scratch,
                                            detection_limits limits) const {
    if (slot >= scratch.max_batch_) {
        throw error(fmt::format("slot {}; allowed: below {}", slot, scratch.max_batch_));
    }
    const std::span<const float> output =
        std::span(scratch.output_).subspan(slot * model_->output_floats, model_->output_floats);
    std::vector<detection> boxes;
    scratch.dropped_boxes_ += decode(model_->layout, output, limits.confidence, boxes);
    if (model_->layout.family == layout_family::end_to_end) {
        keep_best(boxes, model_->options.most_detections);
    } else {
        suppress_overlaps(boxes,
                          {.iou = limits.iou, .most_detections = model_->options.most_detections});
    }
    for (detection& box : boxes) {
        box = to_source(box, plan);
    }
    std::erase_if(boxes, [](const detection& box) { return box.x2 <= box.x1 || box.y2 <= box.y1; });
    return boxes;
}

} // namespace vision
