"""Recoveries in Redis, each change in one step. What no longer has its claim changes nothing."""

from __future__ import annotations

from qc_adapter.events.lua import script

# ARGV: most, ms of a claim, name of the claim, ms for which a sign-in of unknown outcome may be there, ms of waiting
# for a key until it is told, ms until it is given up, what is told, then the names of the keys that the replica has.
# Returns of each case id, stage, sealed, retcode, attempts, 1 if doubtful, ms since it was taken over or -1, monitored;
# then of whom it is told now that he waits for a key. Without a limit to what is looked at: others may be behind them.
DUE = script("""
local most, hold, name, doubt = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local patience, abandoned, word = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local keys, cases, waiting, away = {}, {}, {}, {}
for i = 8, #ARGV do keys[ARGV[i]] = true end
-- For how long nobody has come who has the key, or nothing where this replica can try: one that has it and more to do
-- than it can has come. Costs next to nothing, for there may be thousands.
local function waited_for_key(id, sealed, since)
  local sealed_with = string.match(sealed, '^(%x+):')
  if not sealed_with or keys[sealed_with] then return nil end
  if not since then call('HSET', ORDERS .. id, 'waits_since', whole(now)) end
  away[sealed_with] = away[sealed_with] or abandoned - math.max(0, call('PTTL', SEAL .. sealed_with))
  return math.min(now - (since or now), away[sealed_with])
end
local due = call('ZRANGEBYSCORE', RECOVERING, '-inf', whole(now))
if #due > 0 then
  for sealed_with in pairs(keys) do call('SET', SEAL .. sealed_with, '', 'PX', abandoned) end
end
for _, id in ipairs(due) do
  if #cases >= most then break end
  local key = ORDERS .. id
  local found = call('HMGET', key, 'stage', 'sealed', 'retcode', 'attempts', 'doubt', 'taken_at', 'signed_in_at',
    'waits_since', 'detail')
  local waited = waited_for_key(id, found[2] or '', found[8])
  local left = waited and waited < abandoned
  if not left or waited >= patience and found[9] ~= word then
    local session, stage = record(id), found[1] or ''
    local signing = stage == 'signing_in' or stage == 'taking_over'
    local ours = session and field(session, 'signed_in_at') == found[7]
    if stage == '' or not ours or signing and not recovering(session) then
      -- Another system wrote the session anew, or took it away.
      forget_orders(id)
    elseif left then
      call('HSET', key, 'detail', word)
      waiting[#waiting + 1] = id
    else
      local doubtful = tonumber(found[5] or '0') > now
      call('HSET', key, 'claim', name)
      call('HDEL', key, 'waits_since')
      if signing then
        call('HSET', key, 'tried_at', whole(now))
        -- Until we know better: this replica may die in the midst of it.
        if not doubtful then call('HSET', key, 'doubt', whole(now + doubt)) end
      end
      call('ZADD', RECOVERING, whole(now + hold), id)
      cases[#cases + 1] = {id, stage, found[2] or '', found[3] or '', found[4] or '0', doubtful and 1 or 0,
        found[6] and whole(now - found[6]) or '-1', call('SMEMBERS', MONITORED .. id)}
    end
  end
end
return {cases, waiting}
""")

# All of these begin with id, claim, which they use up; they return 0 when it is another one's by now.
_CLAIMED = """
local id, key = ARGV[1], ORDERS .. ARGV[1]
local claims = call('HMGET', key, 'claim', 'used_claim')
if claims[2] == ARGV[2] then return 1 end  -- a reply got lost
if claims[1] ~= ARGV[2] then return 0 end
local function use_up() call('HSET', key, 'claim', '', 'used_claim', ARGV[2]) end
"""

# ARGV: ..., stage, detail, ms until the next attempt, 1 if in doubt.
PUT_OFF = script(
    _CLAIMED
    + """
use_up()
call('HSET', key, 'stage', ARGV[3], 'detail', ARGV[4])
call('HINCRBY', key, 'attempts', 1)
if ARGV[6] == '0' then call('HDEL', key, 'doubt') end
call('ZADD', RECOVERING, whole(now + tonumber(ARGV[5])), id)
return 1
"""
)

# ARGV: ..., signed_in_at, 1 if taken over by force, the record.
SIGNED_IN = script(
    _CLAIMED
    + """
local found = record(id)
if not found or not recovering(found) then return 0 end
use_up()
call('DEL', SESSION .. id)
call('HSET', SESSION .. id, unpack(ARGV, 5))
call('HSET', key, 'signed_in_at', ARGV[3], 'recovered_at', whole(now), 'stage', 'restoring', 'detail', '',
  'attempts', 0)
call('HDEL', key, 'doubt')
if ARGV[4] == '1' then call('HSET', key, 'taken_at', whole(now)) end
call('ZADD', RECOVERING, whole(now), id)
enlist(id, 0)
tell(id, 'gs')
return 1
"""
)

# ARGV: ..., detail.
SETTLE = script(
    _CLAIMED
    + """
use_up()
call('HSET', key, 'stage', ARGV[3] == '' and '' or 'wanting', 'detail', ARGV[3])
call('ZREM', RECOVERING, id)
tell(id, 's')
return 1
"""
)

# Nobody signs the inspector in again.
_LOSE = """
local function lose(id, ended, detail)
  forget_orders(id)
  local found = record(id)
  if found and recovering(found) then
    call('HDEL', SESSION .. id, 'recovering')
    call('HDEL', LOG .. id, 'torn')  -- the streams end
    park(id)
    call('HSET', LOG .. id, 'ended', ended, 'state', 'lost', 'detail', detail)
    tell(id, 'gs')
  end
end
"""

# ARGV: ..., how the log ends, detail.
GIVE_UP = script(_CLAIMED + _LOSE + "lose(id, ARGV[3], ARGV[4]) return 1")

# ARGV: id, how the log ends if a recovery has begun already, detail.
DISMISS = script(_LOSE + "lose(ARGV[1], ARGV[2], ARGV[3]) return 1")

# ARGV: ids. Returns of each whether there are orders, and how many agents are monitored.
KEPT = script("""
local reply = {}
for i = 1, #ARGV do
  reply[i] = {call('HEXISTS', ORDERS .. ARGV[i], 'sealed'), call('SCARD', MONITORED .. ARGV[i])}
end
return reply
""")
