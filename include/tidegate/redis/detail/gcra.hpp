// SPDX-License-Identifier: BSL-1.0
// The generic cell rate algorithm as a script for Redis.
#pragma once

#include <tidegate/core/token_bucket.hpp>
#include <tidegate/redis/detail/exec.hpp>

#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace redis::detail {

/// Microseconds and billionths of one. The two halves fit a double, which is all that Lua has.
struct fine_time {
    static constexpr std::uint64_t parts = 1'000'000'000;

    std::uint64_t micros = 0;
    std::uint64_t part = 0; // below `parts`

    /// What one permit takes of `per`, rounded up: by less than 2^-20 of a nanosecond.
    static fine_time of_permit(std::uint64_t permits, std::uint64_t per_ns) noexcept {
        std::uint64_t const rest = per_ns % permits;
        std::uint64_t const scaled = rest * 1'000'000; // what is lost above 2^64 cancels out
        std::uint64_t below_ns = core::wide_product::divided(rest, 1'000'000, permits);
        if (scaled != below_ns * permits) ++below_ns;
        std::uint64_t const ns = per_ns / permits;
        fine_time t{ns / 1000, ns % 1000 * 1'000'000 + below_ns};
        if (t.part >= parts) t = {t.micros + 1, t.part - parts};
        return t;
    }

    friend fine_time operator*(std::uint64_t n, fine_time t) noexcept {
        std::uint64_t const carry = core::wide_product::divided(n, t.part, parts);
        return {n * t.micros + carry, n * t.part - carry * parts};
    }
};

/// One limit in a call: what is asked of the bucket, and what it holds.
struct gcra_limit {
    std::string key;
    fine_time cost;
    fine_time burst;
};

enum class gcra_action { take, peek, refund };

/// A key holds when its bucket will be full: microseconds since 1970 with nine decimals. That is
/// the theoretical arrival time of GCRA (ITU-T I.371, the virtual scheduling algorithm) for a
/// bucket that is counted from its full side, and equivalent to a leaky bucket as a meter. Time is
/// Redis', so the clocks of its clients do not matter. If it steps back, or the limit was made
/// smaller, a bucket is empty at worst from then on. Either every limit takes, or none does.
///
/// Answers whether it was granted, the longest wait in microseconds, the number of the limit that
/// asks for it, and for the last limit how long its bucket takes to be full.
inline constexpr std::string_view gcra_script = R"(
local action = ARGV[1]
local function keep(key, now, full, part)
  redis.call('SET', key, string.format('%.0f.%09.0f', full, part),
             'PX', string.format('%.0f', math.ceil((full - now) / 1000) + 1))
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local whole, rest = {}, {}
local wait, slowest, until_full = 0, 0, 0
for i, key in ipairs(KEYS) do
  local at = 4 * i - 2
  local cost, cost_part = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local last, last_part = now + ARGV[at + 2], tonumber(ARGV[at + 3])
  local full, part = now, 0
  local stored = redis.call('GET', key)
  if stored then
    full, part = tonumber(string.sub(stored, 1, -11)), tonumber(string.sub(stored, -9))
    if full < now then full, part = now, 0 end
    if full > last or (full == last and part > last_part) then
      full, part = last, last_part
      if action ~= 'peek' then keep(key, now, full, part) end
    end
  end
  local used = full - now
  if part > 0 then used = used + 1 end
  until_full = used
  if action == 'refund' then
    full, part = full - cost, part - cost_part
    if part < 0 then full, part = full - 1, part + 1000000000 end
  else
    full, part = full + cost, part + cost_part
    if part >= 1000000000 then full, part = full + 1, part - 1000000000 end
    local late = full - last
    if part > last_part then late = late + 1 end
    if late > wait then wait, slowest = late, i end
  end
  whole[i], rest[i] = full, part
end
if action ~= 'peek' and wait == 0 then
  for i, key in ipairs(KEYS) do
    if whole[i] < now then redis.call('DEL', key) else keep(key, now, whole[i], rest[i]) end
  end
end
return {wait == 0 and 1 or 0, wait, slowest, until_full}
)";
/// What Redis calls it; a test compares.
inline constexpr std::string_view gcra_sha = "1538800b9454209a215e73f95fc4f3ecaf4caa48";

/// EVALSHA, or EVAL for a Redis that does not know the script yet.
inline void push_gcra(boost::redis::request& to, bool by_name, gcra_action action,
                      std::vector<gcra_limit> const& limits) {
    constexpr std::array<std::string_view, 3> actions{"take", "peek", "refund"};
    std::vector<std::string> arguments;
    arguments.reserve(2 + 5 * limits.size());
    arguments.push_back(std::to_string(limits.size()));
    for (auto const& one : limits) arguments.push_back(one.key);
    arguments.emplace_back(actions[static_cast<std::size_t>(action)]);
    for (auto const& one : limits) {
        for (std::uint64_t const number :
             {one.cost.micros, one.cost.part, one.burst.micros, one.burst.part}) {
            arguments.push_back(std::to_string(number));
        }
    }
    if (by_name) to.push_range("EVALSHA", gcra_sha, arguments);
    else to.push_range("EVAL", gcra_script, arguments);
}

struct gcra_answer {
    bool granted;
    std::uint64_t wait_micros;
    std::size_t slowest; // counted from 0
    std::uint64_t until_full_micros;
};

inline std::optional<gcra_answer> read_gcra(replies const& from) {
    if (from.nodes.size() != 5) return std::nullopt;
    std::array<std::uint64_t, 4> numbers{};
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        std::string const& text = from.nodes[i + 1].value;
        auto const read = std::from_chars(text.data(), text.data() + text.size(), numbers[i]);
        if (read.ec != std::errc() || text.empty()) return std::nullopt;
    }
    return gcra_answer{numbers[0] == 1, numbers[1], numbers[2] ? numbers[2] - 1 : 0, numbers[3]};
}

} // namespace redis::detail
TIDEGATE_END_NAMESPACE
