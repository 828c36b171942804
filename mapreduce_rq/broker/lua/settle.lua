#!lua
-- Answer the tasks that are done, and take the next ones or give some back, in one step. When Redis is full, the whole
-- step is refused.
--
-- The fair share. A worker wants several tasks in hand, so that it need not wait for a round trip after each (see
-- core/fleet/prefetch.py). But tasks in one worker's hand cannot be done by another one, and at the end of a job that
-- would leave some workers idle. So a worker takes at most its share: the waiting tasks divided by the workers. The
-- share is rounded down for a worker that still has tasks, and up for one that has none, so the last few tasks go to
-- idle workers. Each step takes a share of what is left, so shares shrink towards the end by themselves. Only very
-- short tasks are an exception (`least`): together they last less than the round trip that a smaller hand would cost.
-- KEYS  1 f    LIST    tasks in this worker's hands, oldest right
--       2 q    LIST    waiting tasks, next right
--       3 w    HASH    workers
--       4 ...  STREAM  replies of each job answered
-- ARGV  1 length       of f as the worker knows it
--       2 settled      how many of the oldest are done
--       3 want         how many more to take at most; if negative, how many of the newest to give back
--       4 ...          one sealed reply for each stream; '@' for one that was appended just before, in the same
--                      transaction: a large one would be copied and hashed here, and copied once more
--       last           least: this many may be taken even if the fair share is smaller ('' = 0)
-- Returns {'ok', indices (from 1) of the jobs that are over, tasks taken}
--      or {'differs', the same, all of f}: f is not what the worker thought. The replies are appended; no task is
--                                          struck off or taken.
local over = {}
for i = 4, #KEYS do
  local there = ARGV[i] == '@' and redis.call('XLEN', KEYS[i]) > 0
  if ARGV[i] ~= '@' then
    there = redis.call('XADD', KEYS[i], 'NOMKSTREAM', '*', 'a', ARGV[i])
  end
  if not there then
    over[#over + 1] = i - 3
  end
end
local length = redis.call('LLEN', KEYS[1])
if length ~= tonumber(ARGV[1]) then
  return {'differs', over, redis.call('LRANGE', KEYS[1], 0, -1)}
end
local settled = tonumber(ARGV[2])
if settled > 0 then
  redis.call('LTRIM', KEYS[1], 0, -1 - settled)
end
local want = tonumber(ARGV[3])
if want > 0 then

  local waiting = redis.call('LLEN', KEYS[2])
  local share = waiting / math.max(1, redis.call('HLEN', KEYS[3]))
  share = length > settled and math.floor(share) or math.ceil(share)
  want = math.min(want, waiting, math.max(share, tonumber(ARGV[#KEYS + 1]) or 0))
end
if want < 0 then
  local back = redis.call('LPOP', KEYS[1], -want)
  if back then
    redis.call('RPUSH', KEYS[2], unpack(back))
  end
end
if want <= 0 then
  return {'ok', over, {}}
end
local taken = redis.call('RPOP', KEYS[2], want)
redis.call('LPUSH', KEYS[1], unpack(taken))
return {'ok', over, taken}
