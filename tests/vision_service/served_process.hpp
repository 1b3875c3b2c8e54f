// SPDX-License-Identifier: BSL-1.0
// "tidegate-vision serve" as a process of its own, on a folder.
#pragma once

#include "running_site.hpp"
#include "support/child_process.hpp"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace test {

class served_process : public child_process {
public:
    // `log` has to be this process' alone.
    served_process(const std::filesystem::path& data, std::filesystem::path log,
                   std::vector<std::string> more = {})
        : child_process(words(data, std::move(more)), std::move(log)) {
        std::string const hello = line("tidegate-vision on http://127.0.0.1:");
        port_ = static_cast<std::uint16_t>(std::stoul(hello.substr(hello.rfind(':') + 1)));
    }

    std::uint16_t port() const { return port_; }
    reply ask(const std::string& method, const std::string& target, const std::string& body = {}) {
        return test::ask(port_, method, target, body);
    }
    std::string submit(const std::string& video, const std::string& options) {
        reply const r = ask("POST", "/v1/jobs" + options, video);
        if (r.status != 202) throw std::runtime_error(std::to_string(r.status) + ": " + r.body);
        return std::string(r.json().at("id").as_string());
    }

private:
    static std::vector<std::string> words(const std::filesystem::path& data,
                                          std::vector<std::string> more) {
        std::vector<std::string> all{TIDEGATE_VISION_PROGRAM,
                                     "serve",
                                     "--model",
                                     (assets / "shapes.onnx").string(),
                                     "--data",
                                     data.string(),
                                     "--port",
                                     "0",
                                     "--log-level",
                                     "off",
                                     "--workers",
                                     "1",
                                     "--batch",
                                     "1"};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }

    std::uint16_t port_ = 0;
};

} // namespace test
