// SPDX-License-Identifier: BSL-1.0
#include "shared_folder.hpp"

#include "shared_results.hpp"

#include <algorithm>

namespace vision::service {

namespace asio = boost::asio;
namespace fs = std::filesystem;

namespace {

// Asked for in parts, since Redis does nothing else meanwhile.
constexpr std::size_t asked_at_once = 500;

// False where somebody else was quicker.
bool remove_file(const fs::path& file) {
    std::error_code ec;
    return fs::remove_all(file, ec) > 0 && !ec;
}

// By way of another name: who looks for it meanwhile, or after this process died, finds all of it
// or nothing. Who found it just before has touched it, and gets it back.
bool remove_result(const fs::path& result, std::chrono::seconds youngest) {
    fs::path const aside = new_run_of(result);
    std::error_code ec;
    fs::rename(result, aside, ec);
    if (ec) return false;
    if (fs::file_time_type::clock::now() - last_written(aside) < youngest) {
        fs::rename(aside, result, ec);
        if (!ec) return false; // otherwise there is another one: they say the same
    }
    return remove_file(aside);
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
        auto remove_part = [&] {
            return std::ranges::count_if(part, [&](const fs::path& each) {
                bool const is_result =
                    each.parent_path() == data.results() && !each.has_extension();
                return is_result ? remove_result(each, youngest) : remove_file(each);
            });
        };
        removed += static_cast<std::size_t>(co_await disk.submit(remove_part));
    }
    co_return removed;
}

} // namespace vision::service
