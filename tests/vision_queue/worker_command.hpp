// SPDX-License-Identifier: BSL-1.0
// How the tests start a worker process: few threads, one frame at a time, the bundled model.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace test {

inline const std::filesystem::path assets =
    std::filesystem::path(TIDEGATE_SOURCE_ROOT) / "examples" / "vision" / "assets";

inline std::vector<std::string> worker_command(int redis_port, const std::filesystem::path& data,
                                               const std::vector<std::string>& more) {
    std::vector<std::string> words{TIDEGATE_VISION_PROGRAM, "work", "--log-json"};
    const auto add = [&words](const char* option, std::string value) {
        words.emplace_back(option);
        words.push_back(std::move(value));
    };
    add("--model", (assets / "shapes.onnx").string());
    add("--data", data.string());
    add("--redis", "redis://127.0.0.1:" + std::to_string(redis_port));
    add("--workers", "1");
    add("--batch", "1");
    words.insert(words.end(), more.begin(), more.end());
    return words;
}

} // namespace test
