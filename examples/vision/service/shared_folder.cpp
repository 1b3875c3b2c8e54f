// SPDX-License-Identifier: BSL-1.0
#include "shared_folder.hpp"

namespace vision::service {

namespace asio = boost::asio;
namespace fs = std::filesystem;

namespace {

// Asked for in parts, since Redis does nothing else meanwhile.
constexpr std::size_t asked_at_once = 500;

std::size_t remove_all(const std::vector<fs::path>& files) {
    std::size_t removed = 0;
    for (const fs::path& each : files) {
        std::error_code ec; // somebody else may be quicker
        if (fs::remove_all(each, ec) > 0 && !ec) ++removed;
    }
    return removed;
}

} // namespace

asio::awaitable<std::size_t> sweep_shared_folder(const data_folder& data, redis_job_queue& jobs,
                                                 tidegate::worker_pool& disk,
                                                 std::chrono::seconds youngest) {
    auto list = [&data, youngest] { return data.files_older_than(youngest); };
    auto const old = co_await disk.submit(list);
    std::size_t removed = 0;
    for (std::size_t first = 0; first < old.size(); first += asked_at_once) {
        std::vector<fs::path> part(
            old.begin() + static_cast<std::ptrdiff_t>(first),
            old.begin() + static_cast<std::ptrdiff_t>(std::min(old.size(), first + asked_at_once)));
        std::vector<std::string> names;
        names.reserve(part.size());
        for (const fs::path& each : part) names.push_back(each.filename().string());
        auto asking = jobs.are_needed(std::move(names));
        auto const needed = co_await std::move(asking);
        std::size_t i = 0;
        std::erase_if(part, [&](const fs::path&) { return needed.at(i++); });
        auto remove = [&part] { return remove_all(part); };
        removed += co_await disk.submit(remove);
    }
    co_return removed;
}

} // namespace vision::service
