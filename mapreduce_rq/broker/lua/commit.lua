#!lua flags=allow-oom
-- Change a job: compare its token, then set it together with everything else. The only script that writes j.
-- allow-oom: it frees memory (trims, deletes) before it takes any, and a job must be able to end when Redis is full.
-- KEYS  1 j   HASH    the job
--       2 r   STREAM  its replies
--       3 q   LIST    waiting tasks
--       4 J   ZSET    job ids by time of creation
--       5 v   STREAM  the replies of a job that has ended, where they are its value
-- ARGV  1 expect      token that must be there; '' = the job must not exist
--       2 token       its successor
--       3 what        '' = go on | 'create' | 'keep' = the token alone: its sender does not hear of a new stream
--                     | 'over' | 'over, kept' = as over, with the replies kept as long as the record: they are the value
--                     | a stream id: replies below it are in the checkpoint
--       4 number      when over: seconds to keep the record; else unix seconds to list the job under, 0 = listed already
--       5 job         its id
--       6 n           number of fields
--       7 ...         n pairs field value, then the sealed tasks to push
-- An argument that is out of range, or a key of another type, is refused with nothing done
-- Gives {'ok', waiting tasks, 1 if the stream is new} or {'lost', token found, state found}
local found = redis.call('HGET', KEYS[1], 'tok') or ''
if found ~= ARGV[1] then
  return {'lost', found, redis.call('HGET', KEYS[1], 'state') or ''}
end
local what = ARGV[3]
local over = what == 'over' or what == 'over, kept'
-- What is done here is never taken back, so nothing may stop this half way: all that could is looked at before.
local number, last = tonumber(ARGV[4]), 6 + 2 * (tonumber(ARGV[6]) or -1)
local most = over and 315360000 or 253402300799
if not number or number % 1 ~= 0 or number < (over and 1 or 0) or number > most or last % 2 ~= 0 or last < 6
  or last > math.min(#ARGV, 2000) then
  return {err = 'ERR commit.lua: an argument is out of range'}
end
local kinds = {'hash', 'stream', 'list', 'zset', 'stream'}
for i, key in ipairs(KEYS) do
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kinds[i] then
    return {err = 'WRONGTYPE ' .. key .. ' holds a ' .. found .. ' and not a ' .. kinds[i]}
  end
end
if what == 'over, kept' and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('RENAME', KEYS[2], KEYS[5])
  redis.call('EXPIRE', KEYS[5], ARGV[4])
elseif over then
  redis.call('DEL', KEYS[2])
elseif what ~= '' and what ~= 'create' and what ~= 'keep' then
  redis.call('XTRIM', KEYS[2], 'MINID', '=', what)
end
if what == 'create' or (not over and ARGV[4] ~= '0') then
  redis.call('ZADD', KEYS[4], ARGV[4], ARGV[5])
end
local opened = 0
if not over and what ~= 'keep' and redis.call('EXISTS', KEYS[2]) == 0 then
  -- New, or lost: without it workers take the job for over. It exists then, and there is nothing to read.
  redis.call('XADD', KEYS[2], 'MAXLEN', '=', 0, '*', 'open', '')
  opened = 1
end
redis.call('HSET', KEYS[1], 'tok', ARGV[2], unpack(ARGV, 7, last))
if over then
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
for i = last + 1, #ARGV, 4000 do
  redis.call('LPUSH', KEYS[3], unpack(ARGV, i, math.min(i + 3999, #ARGV)))
end
return {'ok', redis.call('LLEN', KEYS[3]), opened}
