// SPDX-License-Identifier: BSL-1.0
#include "naive.hpp"

#include "detections_writer.hpp"
#include "letterbox.hpp"
#include "video_source.hpp"

#include <chrono>

namespace vision {

naive_summary detect_naively(const engine_options& model_options, const video_options& video,
                             const std::function<bool(std::int64_t frames)>& go_on) {
    auto const start = std::chrono::steady_clock::now();
    auto const source = open_source(video.source);
    make_output_folder(video.out);
    detector const model(model_options.model);
    detections_writer detections(video.out / "detections.jsonl", model.layout().class_names);
    detector_scratch scratch = model.make_scratch(1);
    run_control control;
    std::vector<std::uint8_t> prepared(model.picture_bytes());
    cv::Mat picture;
    naive_summary summary;
    auto const n = static_cast<std::int64_t>(video.every_n);
    for (auto status = read_status::frame; status != read_status::end && go_on(summary.frames);) {
        bool const wanted = (source->index() + 1) % n == 0;
        status = wanted ? source->read(picture) : source->skip();
        if (!wanted || status != read_status::frame) continue;
        letterbox_plan const plan = model.plan({picture.cols, picture.rows});
        apply_letterbox(picture, plan, prepared);
        prepared_picture const one{prepared, plan};
        auto const found = model.run({&one, 1}, scratch, control).front();
        detections.write(source->index(), source->seconds(source->index()), found,
                         source->image_name());
        ++summary.frames;
        summary.detections += static_cast<std::int64_t>(found.size());
    }
    detections.commit();
    std::chrono::duration<double> const took = std::chrono::steady_clock::now() - start;
    summary.seconds = took.count();
    return summary;
}

} // namespace vision
