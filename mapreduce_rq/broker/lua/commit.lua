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
-- Gives {'ok', waiting tasks, 1 if the stream is new} or {'lost', token found, state found}
local found = redis.call('HGET', KEYS[1], 'tok') or ''
if found ~= ARGV[1] then
  return {'lost', found, redis.call('HGET', KEYS[1], 'state') or ''}
end
local what = ARGV[3]
local over = what == 'over' or what == 'over, kept'
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
local last = 6 + 2 * tonumber(ARGV[6])
redis.call('HSET', KEYS[1], 'tok', ARGV[2], unpack(ARGV, 7, last))
if over then
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
for i = last + 1, #ARGV, 4000 do
  redis.call('LPUSH', KEYS[3], unpack(ARGV, i, math.min(i + 3999, #ARGV)))
end
return {'ok', redis.call('LLEN', KEYS[3]), opened}
