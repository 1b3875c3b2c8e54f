// SPDX-License-Identifier: BSL-1.0
// What Redis does for the job queue, in Lua: each script happens as a whole or not at all.
//
// All keys begin with the queue's name in braces, KEYS[1], which keeps them in one slot:
//   {q}:jobs, {q}:urgent  streams of ids, with the consumer group "workers": who waits, and, as the
//                         group's pending entries, who is under way. Their idle time is the lease.
//   {q}:job:ID            a hash: the job. `fence` counts its leases; `stream` and `entry` say
//                         where it stands in line, and are empty where it does not.
//   {q}:delayed           a sorted set: ids that are to be tried again, by that time
//   {q}:dead              a stream: ids that were given up, and why
//   {q}:ages              a sorted set: all ids, by their making
//   {q}:same:KEY          the id that an idempotency key stands for
//   {q}:result:KEY        while it is there, the result's files are kept
//
// All times are Redis' own, in ms.
#pragma once

#include <string>

namespace vision::service::redis_scripts {

// What the others are made of.
inline const std::string common = R"lua(
local q, group = KEYS[1], 'workers'
local urgent, others = q .. ':urgent', q .. ':jobs'
local function key(id) return q .. ':job:' .. id end
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function is_final(state)
  return state == 'succeeded' or state == 'failed' or state == 'cancelled'
end
local function answer(word, id)
  local all = redis.call('HGETALL', key(id))
  table.insert(all, 1, word)
  return all
end
local function changed(id) redis.call('HINCRBY', key(id), 'version', 1) end
local function make(stream)
  if redis.call('EXISTS', stream) == 0 then
    redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
  end
end
-- How many wait, and how many are under way.
local function count()
  local all, pending = redis.call('ZCARD', q .. ':delayed'), 0
  for _, stream in ipairs({urgent, others}) do
    make(stream)
    all = all + redis.call('XLEN', stream)
    pending = pending + redis.call('XPENDING', stream, group)[1]
  end
  return math.max(0, all - pending), pending
end
-- To the end of the line.
local function line_up(id)
  local stream = redis.call('HGET', key(id), 'urgent') == '1' and urgent or others
  make(stream)
  local entry = redis.call('XADD', stream, '*', 'id', id)
  redis.call('HSET', key(id), 'state', 'queued', 'stream', stream, 'entry', entry)
end
local function remove(stream, entry)
  redis.call('XACK', stream, group, entry)
  redis.call('XDEL', stream, entry)
end
local function leave_line(id)
  local at = redis.call('HMGET', key(id), 'stream', 'entry')
  if at[1] and at[1] ~= '' then remove(at[1], at[2]) end
  redis.call('HSET', key(id), 'stream', '', 'entry', '')
  redis.call('ZREM', q .. ':delayed', id)
end
local function finish(id, state, keep)
  leave_line(id)
  redis.call('HSET', key(id), 'state', state, 'ended', now())
  changed(id)
  redis.call('PEXPIRE', key(id), keep)
  local same = redis.call('HGET', key(id), 'same')
  if same and same ~= '' then redis.call('PEXPIRE', q .. ':same:' .. same, keep) end
end
local function give_up(id, reason, detail, keep)
  redis.call('XADD', q .. ':dead', 'MAXLEN', '~', 10000, '*', 'id', id, 'reason', reason)
  redis.call('HSET', key(id), 'problem', reason, 'detail', detail)
  finish(id, 'failed', keep)
end
-- Empty while the lease holds; otherwise what became of the job.
local function lost(id, fence)
  local is = redis.call('HMGET', key(id), 'state', 'fence')
  if is[2] ~= fence then return 'lost' end
  if is[1] == 'running' then return '' end
  return is_final(is[1]) and 'ended' or 'lost'
end
)lua";

// The job of an entry becomes a worker's: with a new fence. False where the entry is for nothing.
inline const std::string beginning = R"lua(
local function begin(stream, entry, id, consumer, most_crashes, keep)
  local is = redis.call('HMGET', key(id), 'state', 'entry')
  if is[2] ~= entry or not is[1] or is_final(is[1]) then
    remove(stream, entry)
    return false
  end
  if is[1] == 'running' then -- and whoever ran it is dead, or hangs
    if redis.call('HINCRBY', key(id), 'crashes', 1) > most_crashes then
      give_up(id, 'crash', 'the processes that ran it died', keep)
      return false
    end
  end
  redis.call('HINCRBY', key(id), 'fence', 1)
  redis.call('HINCRBY', key(id), 'attempt', 1)
  redis.call('HSET', key(id), 'state', 'running', 'owner', consumer, 'started', now())
  changed(id)
  return true
end
)lua";

// ARGV: id, idempotency key, most that may wait, then the hash's fields and values.
inline const std::string submit = common + R"lua(
local id, same = ARGV[1], ARGV[2]
if redis.call('EXISTS', key(id)) == 1 then return answer('accepted', id) end -- asked again
if same ~= '' then
  local earlier = redis.call('GET', q .. ':same:' .. same)
  if earlier and redis.call('EXISTS', key(earlier)) == 1 then
    local wanted = {}
    for i = 4, #ARGV, 2 do wanted[ARGV[i]] = ARGV[i + 1] end
    local was = redis.call('HMGET', key(earlier), 'content', 'wants')
    local equal = was[1] == wanted['content'] and was[2] == wanted['wants']
    return answer(equal and 'known' or 'conflict', earlier)
  end
end
if count() >= tonumber(ARGV[3]) then return {'full'} end
redis.call('HSET', key(id), 'version', 1, 'created', now(), 'same', same, unpack(ARGV, 4))
redis.call('ZADD', q .. ':ages', now(), id)
if same ~= '' then redis.call('SET', q .. ':same:' .. same, id) end
line_up(id)
return answer('accepted', id)
)lua";

// ARGV: consumer, "1" for those that are not urgent first, lease in ms (0: leave others' jobs
// alone), most crashes, ms to keep what has ended.
inline const std::string take = common + beginning + R"lua(
local consumer, lease, most_crashes, keep = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local lines = ARGV[2] == '1' and {others, urgent} or {urgent, others}
for _, stream in ipairs(lines) do make(stream) end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', q .. ':delayed', '-inf', now(), 'LIMIT', 0, 100)) do
  redis.call('ZREM', q .. ':delayed', id)
  line_up(id)
end
for _, stream in ipairs(lines) do
  local from = '0-0'
  while lease > 0 do
    local found = redis.call('XAUTOCLAIM', stream, group, consumer, lease, from, 'COUNT', 1)
    from = found[1]
    for _, one in ipairs(found[2]) do
      if begin(stream, one[1], one[2][2], consumer, most_crashes, keep) then
        return answer('taken', one[2][2])
      end
    end
    if from == '0-0' then break end
  end
end
for _, stream in ipairs(lines) do
  while true do
    local found =
      redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
    if not found then break end
    local one = found[1][2][1]
    if begin(stream, one[1], one[2][2], consumer, most_crashes, keep) then
      return answer('taken', one[2][2])
    end
  end
end
return {'none'}
)lua";

// For an entry that XREADGROUP delivered. ARGV: consumer, stream, entry, id, most crashes, ms to
// keep, "1" to put it back in line.
inline const std::string begin = common + beginning + R"lua(
local consumer, stream, entry, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local pending = redis.call('XPENDING', stream, group, entry, entry, 1)[1]
local is = redis.call('HMGET', key(id), 'state', 'entry')
if not pending or pending[2] ~= consumer or is[1] ~= 'queued' or is[2] ~= entry then
  if pending and pending[2] == consumer and is[2] ~= entry then remove(stream, entry) end
  return {'none'} -- cancelled, or claimed by another before we came to it
end
if ARGV[7] == '1' then
  remove(stream, entry)
  line_up(id)
  return {'none'}
end
if not begin(stream, entry, id, consumer, tonumber(ARGV[5]), ARGV[6]) then return {'none'} end
return answer('taken', id)
)lua";

// Renews leases. ARGV: consumer, "1" to renew, then ids and fences. Answers with the two counts and
// a word for each lease.
inline const std::string beat = common + R"lua(
local waiting, pending = count()
local said = {waiting, pending}
for i = 3, #ARGV, 2 do
  local id, why = ARGV[i], lost(ARGV[i], ARGV[i + 1])
  if why == '' and ARGV[2] == '1' then
    local at = redis.call('HMGET', key(id), 'stream', 'entry')
    redis.call('XCLAIM', at[1], group, ARGV[1], 0, at[2], 'JUSTID')
  end
  said[#said + 1] = why
end
return said
)lua";

// ARGV: id, fence, then fields and values: the checkpoint.
inline const std::string report = common + R"lua(
local why = lost(ARGV[1], ARGV[2])
if why ~= '' then return {why} end
redis.call('HSET', key(ARGV[1]), unpack(ARGV, 3))
changed(ARGV[1])
return {''}
)lua";

// ARGV: id, fence, state, ms to keep, result, then fields and values.
inline const std::string finish = common + R"lua(
local id, keep = ARGV[1], ARGV[4]
local why = lost(id, ARGV[2])
if why ~= '' then return {why} end
redis.call('HSET', key(id), 'result', ARGV[5], unpack(ARGV, 6))
if ARGV[5] ~= '' then redis.call('SET', q .. ':result:' .. ARGV[5], id, 'PX', keep) end
finish(id, ARGV[3], keep)
return {'ended'}
)lua";

// After a failure that may pass. ARGV: id, fence, most errors, ms to keep, first pause, longest
// pause, a random part of it (0..1), reason, detail, then fields and values.
inline const std::string retry = common + R"lua(
local id, keep = ARGV[1], ARGV[4]
local why = lost(id, ARGV[2])
if why ~= '' then return {why} end
redis.call('HSET', key(id), unpack(ARGV, 10))
local errors = redis.call('HINCRBY', key(id), 'errors', 1)
if errors > tonumber(ARGV[3]) then
  give_up(id, ARGV[8], ARGV[9], keep)
  return {'ended'}
end
local pause = math.min(tonumber(ARGV[6]), tonumber(ARGV[5]) * 2 ^ (errors - 1)) * tonumber(ARGV[7])
leave_line(id)
redis.call('HINCRBY', key(id), 'fence', 1)
redis.call('HSET', key(id), 'state', 'queued')
redis.call('ZADD', q .. ':delayed', now() + math.ceil(pause), id)
changed(id)
return {'again'}
)lua";

// ARGV: id, fence.
inline const std::string give_back = common + R"lua(
local id = ARGV[1]
local why = lost(id, ARGV[2])
if why ~= '' then return {why} end
leave_line(id)
redis.call('HINCRBY', key(id), 'fence', 1)
redis.call('HINCRBY', key(id), 'attempt', -1)
line_up(id)
changed(id)
return {'again'}
)lua";

// ARGV: id, ms to keep.
inline const std::string cancel = common + R"lua(
local state = redis.call('HGET', key(ARGV[1]), 'state')
if not state then return {'none'} end
if not is_final(state) then finish(ARGV[1], 'cancelled', ARGV[2]) end
return answer('found', ARGV[1])
)lua";

// Appends an id, the number of strings that follow, and the hash.
inline const std::string telling = R"lua(
local said = {}
local function tell(id)
  local all = redis.call('HGETALL', key(id))
  said[#said + 1] = id
  said[#said + 1] = #all
  for _, text in ipairs(all) do said[#said + 1] = text end
  return #all > 0
end
)lua";

// ARGV: ids, each with a version that is known (0: none). Those that are of another version or gone
// by now.
inline const std::string look = common + telling + R"lua(
for i = 1, #ARGV, 2 do
  if redis.call('HGET', key(ARGV[i]), 'version') ~= ARGV[i + 1] then tell(ARGV[i]) end
end
return said
)lua";

// ARGV: how many. Those that were made last.
inline const std::string list = common + telling + R"lua(
for _, id in ipairs(redis.call('ZREVRANGE', q .. ':ages', 0, ARGV[1] - 1)) do
  if not tell(id) then redis.call('ZREM', q .. ':ages', id) end
end
return said
)lua";

// ARGV: names of uploads or results. A "1" for each that is needed.
inline const std::string needed = common + R"lua(
local said = {}
for _, name in ipairs(ARGV) do
  local state = redis.call('HGET', key(name), 'state')
  local open = state and not is_final(state)
  said[#said + 1] = (open or redis.call('EXISTS', q .. ':result:' .. name) == 1) and '1' or '0'
end
return said
)lua";

// Forgets ids whose jobs are forgotten, and workers that have been away for an hour and have
// nothing pending: with a pending entry its job would be lost.
inline const std::string tidy = common + R"lua(
for _, id in ipairs(redis.call('ZRANGE', q .. ':ages', 0, 999)) do
  if redis.call('EXISTS', key(id)) == 0 then redis.call('ZREM', q .. ':ages', id) end
end
for _, stream in ipairs({urgent, others}) do
  make(stream)
  for _, one in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local is = {}
    for i = 1, #one, 2 do is[one[i]] = one[i + 1] end
    if is.pending == 0 and is.idle > 3600000 then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, is.name)
    end
  end
end
return {''}
)lua";

} // namespace vision::service::redis_scripts
