#!lua
-- Lay the pieces of one fold of a shuffle aside, all of them or none, unless the job is over.
-- The job's end deletes them all (commit.lua), and its stream of replies is there exactly as long as it runs. So no
-- piece is laid behind the end, however late its worker is. When Redis is full, the whole step is refused.
-- KEYS  1 r   STREAM  the job's replies
--       2 p   HASH    pieces of its shuffle
-- ARGV  1 name        of this fold; its pieces are name:0, name:1, ...
--       2 ...         the sealed pieces
-- Returns 1, or 0 if the job is over.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
for i = 2, #ARGV do
  redis.call('HSET', KEYS[2], ARGV[1] .. ':' .. (i - 2), ARGV[i])
end
return 1
