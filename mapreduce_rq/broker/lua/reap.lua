#!lua
-- Give tasks of a dead worker back to the queue, to be taken next, and write down or strike off the worker.
-- KEYS  1 f  LIST  tasks in its hands
--       2 q  LIST  waiting tasks
--       3 w  HASH  workers
-- ARGV  1 wid
--       2 obituary   '' = leave its entry | 'X' = strike it off if it holds nothing | else what to write there
--       3 ...        pairs: a task as it stands in f, and as it goes back to the queue
-- Gives how many tasks were given back: each at most once, whoever else reaps at the same time
local given = 0
for i = 3, #ARGV, 2 do
  if redis.call('LREM', KEYS[1], -1, ARGV[i]) == 1 then
    redis.call('RPUSH', KEYS[2], ARGV[i + 1])
    given = given + 1
  end
end
if ARGV[2] == 'X' then
  if redis.call('LLEN', KEYS[1]) == 0 then
    redis.call('HDEL', KEYS[3], ARGV[1])
  end
elseif ARGV[2] ~= '' then
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
end
return given
