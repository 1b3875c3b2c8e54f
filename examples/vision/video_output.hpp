// SPDX-License-Identifier: BSL-1.0
// The files of one video: all of them whole in the end, or none.
#pragma once

#include "annotated_video.hpp"
#include "checkpoint.hpp"
#include "detections_writer.hpp"
#include "loaded_model.hpp"
#include "pipeline_options.hpp"
#include "video_source.hpp"

#include <tidegate/monitor.hpp>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace vision {

// For the write pool, one call at a time. Failures throw vision::output_error.
class video_output {
public:
    // `layout` has to outlive it. A `checkpoint` of null: none is wanted.
    video_output(const video_options& options, const model_layout& layout, double frame_rate,
                 std::unique_ptr<checkpoint_writer> checkpoint);

    void write(detected_frame& frame, const video_source& source, tidegate::monitor& monitor);
    // What was written need not be found again.
    void save();

    // What `frame`, which was written, looks like. Null where nobody has looked at it.
    [[nodiscard]] std::shared_ptr<const std::string> preview(detected_frame& frame) const;

    // Nothing gets its name before all is written.
    void commit();
    // Without that, the files go, and a checkpoint stays.
    [[nodiscard]] bool can_go_on_later() const noexcept { return checkpoint_ != nullptr; }
    void leave_for_later() { checkpoint_->make_durable(); }

    [[nodiscard]] const std::filesystem::path& video_path() const { return video_path_; }

private:
    const model_layout& layout_;
    detections_writer detections_;
    std::optional<annotated_video> video_;
    std::filesystem::path video_path_;
    std::unique_ptr<checkpoint_writer> checkpoint_;
    std::filesystem::path checkpoint_path_;
};

} // namespace vision
