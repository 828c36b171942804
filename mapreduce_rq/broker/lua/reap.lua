#!lua
-- Move tasks of a dead worker back to the queue, to be taken next, and write or delete the worker's entry. A worker
-- that lives moves those behind a long task.
-- KEYS  1 f  LIST  tasks in its hands
--       2 q  LIST  waiting tasks
--       3 w  HASH  workers
-- ARGV  1 wid
--       2 obituary   '' = leave its entry | 'X' = delete its entry if it holds nothing | else the text to write there
--       3 ...        pairs: a task as it is in f, and as it goes back to the queue
-- Returns how many tasks were moved: each at most once, even if several processes reap at the same time
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
