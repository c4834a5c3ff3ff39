"""The scripts that change session records in Redis, each in one step."""

from __future__ import annotations

from typing import Final

from qc_adapter.store import keys
from qc_adapter.store.script import Script

#: What a notice says when only the session changed; see `qc_adapter.events.notices`.
SESSION_CHANGED = "g"

# What scripts know of the values that a record holds sealed or plain; see `qc_adapter.sessions.records`.
VALUES = """
-- The GUID without the prefix of the gateway's header, which other systems may have copied along, however often.
local function bare(guid)
  while string.lower(string.sub(guid, 1, 11)) == 'jsessionid=' do guid = string.sub(guid, 12) end
  return guid
end

-- Names a GUID without telling it. A plain one in a sealed record was put there later, by another system.
local function mark_of(guid, mark) return guid and redis.sha1hex(bare(guid)) or mark end

-- What a new value takes the place of: it stands there sealed or plain, and not both.
local REPLACED_BY = {guid = {'sealed_guid', 'mark'}, sealed_guid = {'guid'}, cookies = {'sealed_cookies'},
  sealed_cookies = {'cookies'}}

-- Changes a record to these names and values of ARGV.
local function change(key, first, last)
  redis.call('HSET', key, unpack(ARGV, first, last))
  for i = first, last, 2 do
    local older = REPLACED_BY[ARGV[i]]
    if older then redis.call('HDEL', key, unpack(older)) end
  end
end
"""

#: So long after the last replica that reads plain records only nobody begins to seal: its release may come back.
WAY_BACK_SECONDS: Final = 3600
#: Whether a replica seals: beside an older release too, if it may, or not at all.
YES, ASKS, NO = "yes", "asks", "no"

# Whether and with which key records are sealed; asked by whoever has keys.
SEALING = f"""
-- The keys of each live replica that has any, and whether there is one of a release that reads plain records only.
local function rings_of_all(at)
  local rings, strange = {{}}, false
  for _, key in ipairs({{'{keys.REPLICAS}', '{keys.DEPARTING}'}}) do
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', key, at, '+inf')) do
      local ring = redis.call('GET', '{keys.RING}' .. name)
      strange = strange or not ring
      if ring and ring ~= '' then rings[#rings + 1] = ' ' .. ring .. ' ' end
    end
  end
  return rings, strange
end

local function may_seal(strange)
  if redis.call('EXISTS', '{keys.SEALING}') == 1 then return true end
  if strange then redis.call('SET', '{keys.UNSEALED}', '', 'EX', {WAY_BACK_SECONDS}) end
  -- A Redis that lost everything knows neither of them until all have come again.
  return redis.call('EXISTS', '{keys.UNSEALED}', '{keys.RELEARNING}') == 0
end

-- The key to seal with: the first that all have, or the first where there is none; '' if nothing may be sealed yet.
local function sealing_key(names, seals, rings, strange)
  if seals == '{NO}' or seals == '{ASKS}' and not may_seal(strange) then return '' end
  local first
  for name in string.gmatch(names, '%x+') do
    local missing = false
    for _, ring in ipairs(rings) do missing = missing or not string.find(ring, ' ' .. name .. ' ', 1, true) end
    if not missing then return name end
    first = first or name
  end
  return first or ''
end
"""

# For who has not heard it with a beat yet. ARGV: names of its keys, whether it seals. Returns the name of the key.
FORM = Script.of(
    SEALING
    + """
local t = redis.call('TIME')
local rings, strange = rings_of_all(string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)))
return sealing_key(ARGV[1], ARGV[2], rings, strange)
"""
)

# ARGV of all three: the agent id first.
_SESSION = f"""
local session = '{keys.SESSION}' .. ARGV[1]
local orders = '{keys.ORDERS}' .. ARGV[1]
local function forget_orders()
  redis.call('DEL', orders, '{keys.MONITORED}' .. ARGV[1])
  redis.call('ZREM', '{keys.RECOVERING}', ARGV[1])
end
local function tell() redis.call('PUBLISH', '{keys.NOTICE}' .. ARGV[1], '{SESSION_CHANGED}') end
"""

# A field that an older writer left must not outlive its session, so the record is made anew, and what stands beside it.
# A sign-in whose time is known is put once: a copy that comes late must not bring back a GUID that was renewed since.
# ARGV: the GUID's mark, sealed orders or '', signed_in_at, 1 if the session was taken over by force, then names and
# values. Returns whether another sign-in was there.
PUT = Script.of(
    _SESSION
    + VALUES
    + """
local before = redis.pcall('HMGET', session, 'guid', 'mark', 'signed_in_at')
if tonumber(ARGV[4]) > 0 and not before.err and before[3] == ARGV[4] then return 0 end
redis.call('DEL', session)
redis.call('HSET', session, unpack(ARGV, 6))
forget_orders()
if ARGV[3] ~= '' then
  local t = redis.call('TIME')
  local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
  redis.call('HSET', orders, 'sealed', ARGV[3], 'signed_in_at', ARGV[4], 'tried_at', now)
  if ARGV[5] == '1' then redis.call('HSET', orders, 'taken_at', now) end
end
tell()
local mark = not before.err and mark_of(before[1], before[2])
return mark and mark ~= ARGV[2] and 1 or 0
"""
)

# ARGV: the mark of the GUID that was used, then names and values. Returns the record as it is afterwards, empty if
# there is none.
RENEW = Script.of(
    _SESSION
    + VALUES
    + """
local before = redis.call('HMGET', session, 'guid', 'mark')
local mark = mark_of(before[1], before[2])
if not mark then return {} end
if #ARGV > 2 and mark == ARGV[2] then
  change(session, 3, #ARGV)
  tell()
end
return redis.call('HGETALL', session)
"""
)

# ARGV: nothing, or the mark of the GUID that must still be there.
REMOVE = Script.of(
    _SESSION
    + VALUES
    + """
if #ARGV == 2 then
  local before = redis.call('HMGET', session, 'guid', 'mark')
  if mark_of(before[1], before[2]) ~= ARGV[2] then return 0 end
end
local removed = redis.call('DEL', session)
forget_orders()
tell()
return removed
"""
)

# ARGV: agent id, mark, ms. Returns 1 if the mark is set, also when it was before: the reply may have got lost.
BEGIN = Script.of(f"""
local key = '{keys.BUSY}' .. ARGV[1]
if redis.call('SET', key, ARGV[2], 'NX', 'PX', ARGV[3]) then return 1 end
return redis.call('GET', key) == ARGV[2] and 1 or 0
""")

# ARGV: agent id, mark.
FINISH = Script.of(f"""
local key = '{keys.BUSY}' .. ARGV[1]
return redis.call('GET', key) == ARGV[2] and redis.call('DEL', key) or 0
""")
