// SPDX-License-Identifier: BSL-1.0
#include "job_history.hpp"

#include "error.hpp"
#include "redis_job_record.hpp"

#include <tidegate/file.hpp>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace vision::service {

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

constexpr std::uintmax_t largest_record = 1 << 20;

std::string ms(job::clock::time_point time) {
    auto const since = time.time_since_epoch();
    return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(since).count());
}

// The fields of a job in Redis, with those that Redis' scripts set.
std::string text_of(const remembered_job& one) {
    const job& what = one.what;
    json::object all{{"record", "1"},
                     {"same", one.idempotency_key},
                     {"state", to_string(what.state)},
                     {"attempt", std::to_string(what.attempt)},
                     {"result", what.result},
                     {"created", ms(what.created)},
                     {"started", ms(what.started)},
                     {"ended", ms(what.ended)},
                     {"version", std::to_string(what.version)}};
    job_progress const done{what.frames_done, what.frames_total, what.detections,
                            what.frames_per_second};
    job_end const end{what.state, what.problem, what.warnings, {}};
    for (const auto& fields : {fields_of(what), fields_of(done), fields_of(end)}) {
        for (std::size_t i = 0; i + 1 < fields.size(); i += 2) all[fields[i]] = fields[i + 1];
    }
    return serialize(all) + "\n";
}

remembered_job read_text(const std::string& text, const std::string& id) {
    json::object const all = json::parse(text).as_object();
    std::vector<std::string> fields;
    for (const auto& [name, value] : all) {
        fields.emplace_back(name);
        fields.emplace_back(value.as_string());
    }
    if (all.at("record").as_string() != "1") throw std::runtime_error("an unknown format");
    if (all.at("id").as_string() != id) throw std::runtime_error("another job's record");
    if (all.at("content").as_string().size() != 64) throw std::runtime_error("no content's name");
    remembered_job one{read_record(fields).what, std::string(all.at("same").as_string())};
    if (all.at("state").as_string() != to_string(one.what.state)) {
        throw std::runtime_error("an unknown state");
    }
    return one;
}

remembered_job read_file(const fs::path& path) {
    if (fs::file_size(path) > largest_record) throw std::runtime_error("too large for a record");
    std::ifstream in(path, std::ios::binary);
    if (!in) throw std::runtime_error("cannot be read");
    std::string const text{std::istreambuf_iterator<char>(in), {}};
    return read_text(text, path.stem().string());
}

} // namespace

job_history::job_history(asio::any_io_executor executor, tidegate::worker_pool& disk,
                         fs::path folder)
    : disk_(disk), folder_(std::move(folder)), one_writes_(executor, 1) {}

std::vector<remembered_job>
job_history::load(const std::function<void(const fs::path&, const std::string&)>& damaged) {
    std::vector<remembered_job> all;
    std::error_code problem;
    for (fs::directory_iterator entry(folder_, problem), last; !problem && entry != last;
         entry.increment(problem)) {
        const fs::path& path = entry->path();
        if (path.extension() != ".json" || !is_job_id(path.stem().string())) continue;
        try {
            all.push_back(read_file(path));
        } catch (const std::exception& e) {
            damaged(path, e.what());
        }
    }
    if (problem) {
        throw output_error(
            fmt::format("cannot list '{}': {}", folder_.string(), problem.message()));
    }
    std::ranges::sort(all, {}, [](const remembered_job& one) { return one.what.created; });
    return all;
}

asio::awaitable<void> job_history::save(std::string id, state_of_job now, bool durable) {
    auto const turn = co_await one_writes_.acquire();
    fs::path const path = folder_ / (id + ".json");
    auto const one = now();
    if (!one) {
        auto remove = [path] {
            std::error_code ignored; // it is found again at the next start
            fs::remove(path, ignored);
        };
        co_return co_await disk_.submit(remove);
    }
    auto const how = tidegate::write_file_options().durable(durable);
    std::string why;
    try {
        auto writing = tidegate::write_file(disk_, path, text_of(*one), how);
        co_await std::move(writing);
    } catch (const boost::system::system_error& e) {
        if (e.code() == asio::error::operation_aborted) throw;
        why = e.what();
    }
    if (!why.empty()) throw output_error("the job cannot be kept: " + why);
}

} // namespace vision::service
