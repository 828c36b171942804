#!lua flags=allow-oom
-- Change a job: compare its token, then set a new token together with everything else. Only this script writes j.
-- allow-oom: it frees memory (trims, deletes) before it takes any, and a job must be able to end when Redis is full.
-- KEYS  1 j   HASH    the job
--       2 r   STREAM  its replies
--       3 q   LIST    waiting tasks
--       4 J   ZSET    job ids by time of creation
--       5 v   STREAM  the replies of a job that has ended, where they are its value
--       6 b   HASH    large bodies of its tasks: these stand there once, and not in q and in every hand
--       7 p   HASH    pieces of its shuffle, which workers have laid there (lay.lua)
-- ARGV  1 expect      token that must be there; '' = the job must not exist
--       2 token       the new token
--       3 what        '' = go on | 'create' | 'keep' = change only the token: its sender does not learn of a new stream
--                     | 'ahead' | 'create, ahead': as '' and 'create', and the tasks are the next to be taken
--                     | 'over' | 'over, kept' = as over, and the replies, which are the value, live as long as the record
--                     | a stream id: replies below it are in the checkpoint
--       4 number      when over: seconds to keep the record; else the unix time to list the job under, 0 = is listed
--       5 job         its id
--       6 n           number of fields
--       7 m           number of bodies
--       8 items       1 = the job's items come from its master: no other can go on with it
--       9 ...         n pairs field value, m pairs name body ('' = delete it), then the sealed tasks to push
-- What a killed master leaves goes away by itself: the bodies, which a master that goes on lays anew, and the replies
-- if none can.
-- If an argument is out of range or a key has another type, the script refuses and changes nothing.
-- Returns {'ok', waiting tasks, 1 if the stream is new} or {'lost', token found, state found}
local found = redis.call('HGET', KEYS[1], 'tok') or ''
if found ~= ARGV[1] then
  return {'lost', found, redis.call('HGET', KEYS[1], 'state') or ''}
end
local what = ARGV[3]
local over = what == 'over' or what == 'over, kept'
local create, ahead = what == 'create' or what == 'create, ahead', what == 'ahead' or what == 'create, ahead'
-- A script is never rolled back, so it must not stop half way: everything that could stop it is checked here first.
local number, fields = tonumber(ARGV[4]), 8 + 2 * (tonumber(ARGV[6]) or -1)
local last = fields + 2 * (tonumber(ARGV[7]) or -1)
local most = over and 315360000 or 253402300799
if not number or number % 1 ~= 0 or number < (over and 1 or 0) or number > most or fields % 2 ~= 0 or fields < 8
  or fields > 2000 or last % 2 ~= 0 or last < fields or last > #ARGV then
  return {err = 'ERR commit.lua: an argument is out of range'}
end
-- HGET has looked at KEYS[1]. Few jobs have any of the last three keys, so these are asked for together.
local kinds = {'hash', 'stream', 'list', 'zset', 'stream', 'hash', 'hash'}
local rare, there = redis.call('EXISTS', KEYS[5], KEYS[6], KEYS[7]) > 0, false
for i = 2, rare and 7 or 4 do
  local found = redis.call('TYPE', KEYS[i]).ok
  if found ~= 'none' and found ~= kinds[i] then
    return {err = 'WRONGTYPE ' .. KEYS[i] .. ' holds a ' .. found .. ' and not a ' .. kinds[i]}
  end
  there = there or (i == 2 and found ~= 'none')
end
if what == 'over, kept' and there then
  redis.call('RENAME', KEYS[2], KEYS[5])
  redis.call('EXPIRE', KEYS[5], ARGV[4])
elseif over then
  redis.call('DEL', KEYS[2])
elseif what ~= '' and not create and what ~= 'keep' and what ~= 'ahead' then
  redis.call('XTRIM', KEYS[2], 'MINID', '=', what)
end
if create or (not over and ARGV[4] ~= '0') then
  redis.call('ZADD', KEYS[4], ARGV[4], ARGV[5])
end
local opened = 0
if not over and what ~= 'keep' and not there then
  -- The stream is new, or was lost: without it workers think that the job is over. This makes it, with no entry in it.
  redis.call('XADD', KEYS[2], 'MAXLEN', '=', 0, '*', 'open', '')
  opened = 1
end
redis.call('HSET', KEYS[1], 'tok', ARGV[2], unpack(ARGV, 9, fields))
if over then
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  if rare then
    redis.call('DEL', KEYS[6], KEYS[7])
  end
else
  for i = fields + 1, last, 2 do
    if ARGV[i + 1] == '' then
      redis.call('HDEL', KEYS[6], ARGV[i])
    else
      redis.call('HSET', KEYS[6], ARGV[i], ARGV[i + 1])
    end
  end
  if rare or last > fields then
    redis.call('EXPIRE', KEYS[6], 600)
  end
  if ARGV[8] == '1' then
    redis.call('EXPIRE', KEYS[2], 600)
  end
end
if ahead then
  for i = #ARGV, last + 1, -1 do
    redis.call('RPUSH', KEYS[3], ARGV[i])
  end
else
  for i = last + 1, #ARGV, 4000 do
    redis.call('LPUSH', KEYS[3], unpack(ARGV, i, math.min(i + 3999, #ARGV)))
  end
end
return {'ok', redis.call('LLEN', KEYS[3]), opened}
