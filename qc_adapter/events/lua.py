"""
What all scripts on leases and logs have in common.

Time is Redis's own, in milliseconds: replicas need not agree on theirs. A script that was run and whose reply was lost
may be run again: each has a way to see that it is done. Redis Cluster is not supported: the keys of one script lie
where they like.
"""

from __future__ import annotations

import re
from typing import Final

from qc_adapter.sessions.script import SEALING, VALUES
from qc_adapter.store import keys
from qc_adapter.store.script import Script

#: Flags in the first line of a notice.
ENTRIES: Final = "e"
STATE_CHANGED: Final = "s"
RECEIPTS: Final = "r"

_PRELUDE: Final = (
    f"""
local SESSION, LOG, EVENTS, NOTICE = '{keys.SESSION}', '{keys.LOG}', '{keys.EVENTS}', '{keys.NOTICE}'
local LEASES, HOLDERS, PARKED, FENCE = '{keys.LEASES}', '{keys.HOLDERS}', '{keys.PARKED}', '{keys.FENCE}'
local REPLICAS, REPLICA, WAKE, STORE = '{keys.REPLICAS}', '{keys.REPLICA}', '{keys.WAKE}', '{keys.STORE}'
local BEAT, RESPITE, CLAIMS, SCANNER = '{keys.BEAT}', '{keys.RESPITE}', '{keys.CLAIMS}', '{keys.SCANNER}'
local DEPARTING, RELEARNING, BUSY = '{keys.DEPARTING}', '{keys.RELEARNING}', '{keys.BUSY}'
local RECEIPTS = '{RECEIPTS}'
local ORDERS, MONITORED, RECOVERING, SEAL = '{keys.ORDERS}', '{keys.MONITORED}', '{keys.RECOVERING}', '{keys.SEAL}'
local SPLIT, RING, SEALING = '{keys.SPLIT}', '{keys.RING}', '{keys.SEALING}'
"""
    + VALUES
    + SEALING
    + """
-- Ends of leases that are no times: a poll of the holder may be held on, or it belongs to an older sign-in.
local REVOKED, REPLACED = 1, 2
-- What stands in the place of a parked record's digest when no replica has the key that it is sealed with.
local KEY = 'key:'
local call = redis.call
local function whole(number) return string.format('%.0f', number) end
local function ms() local t = call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end
local now = ms()

-- A record as names and values in turn; nil when the key holds no hash.
local function record(id)
  local found = redis.pcall('HGETALL', SESSION .. id)
  if found.err then return nil end
  return found
end

local function field(found, name)
  for i = 1, #found, 2 do if found[i] == name then return found[i + 1] end end
end

-- Names the GUID of a record; nil if it has none.
local function mark(found) return mark_of(field(found, 'guid'), field(found, 'mark')) end

-- The names of the keys that a record cannot be read without. What stands there plain counts before what is sealed.
local function sealed_with(found)
  local names = {}
  for _, value in ipairs({'guid', 'cookies'}) do
    local sealed = not field(found, value) and field(found, 'sealed_' .. value)
    names[#names + 1] = sealed and string.match(sealed, '^(%x%x%x%x%x%x%x%x):') or nil
  end
  return names
end

-- Names a record; the order of a hash's fields means nothing, and differs from server to server.
local function digest(id)
  local found, fields = record(id), {}
  if not found then return 'no hash' end
  for i = 1, #found, 2 do fields[#fields + 1] = found[i] .. '\\0' .. found[i + 1] end
  table.sort(fields)
  return redis.sha1hex(table.concat(fields, '\\0'))
end

-- Whether it is the stored GUID that the gateway has forgotten, and not one that another system wrote since.
local function recovering(found)
  local named = field(found, 'recovering')
  return named and named == mark(found)
end

-- How the events of a sign-in come.
local function source_of(found)
  local source = string.lower(string.gsub(field(found, 'event_source') or '', '%s', ''))
  return source == '' and 'poll' or source
end

-- How they are read now: a sign-in that the gateway has forgotten has none.
local function read_by(found) return recovering(found) and 'none' or source_of(found) end

local function tell(id, flags, epoch, n, items)
  local lines = {flags .. ' ' .. (epoch or '') .. ' ' .. (n or '')}
  for i, item in ipairs(items or {}) do lines[i + 1] = item end
  call('PUBLISH', NOTICE .. id, table.concat(lines, '\\n'))
end

-- The head of a log: its epoch, and the position of its newest entry. A new one for a log that is not there.
local function head(id, fresh)
  local found = call('HMGET', LOG .. id, 'epoch', 'n')
  if found[1] then return found[1], tonumber(found[2]) end
  local epoch = string.sub(redis.sha1hex(fresh .. id), 1, 12)  -- one caller begins many logs at once
  call('DEL', EVENTS .. id)
  call('HSET', LOG .. id, 'epoch', epoch, 'n', 0)
  return epoch, 0
end

-- Adds items behind position n, and drops what is too old or too much.
local function append(id, n, items, capacity, retention)
  if #items == 0 then return end
  local events = EVENTS .. id
  for i, item in ipairs(items) do
    call('XADD', events, 'MAXLEN', capacity, whole(n + i) .. '-0', 't', whole(now), 'e', item)
  end
  call('HSET', LOG .. id, 'n', whole(n + #items))
  call('PEXPIRE', events, 2 * retention)
end

-- Says that events may have been lost between two readers, or two sign-ins. Returns the position of the gap: it lies
-- beyond all that the reader before could have logged, and a failover lost. Who has seen that would take it for known.
local function add_takeover(id, fresh, capacity, retention)
  local epoch, n = head(id, fresh)
  local gap = {'{"gap":"TAKEOVER"}'}
  n = n + tonumber(capacity)
  append(id, n, gap, capacity, retention)
  tell(id, 'e', epoch, whole(n), gap)
  return n + 1
end

-- A failover may lose the end of a log: positions that somebody knows are not used again. Returns the newest one.
local function close_hole(id, epoch, n, known_epoch, known, capacity, retention)
  if epoch ~= known_epoch or n >= tonumber(known) then return n end
  local gap = {'{"gap":"LOG_LOST"}'}
  append(id, tonumber(known), gap, capacity, retention)
  tell(id, 'e', epoch, known, gap)
  return known + 1
end

-- Names all that a poll which brings nothing wants to find as it was: the record, and what stands in the log's head.
local function likeness(id, found)
  local kept = call('HMGET', LOG .. id, 'epoch', 'n', 'state', 'detail', 'talking', 'standing', 'receipt')
  for i = 1, 7 do kept[i] = kept[i] or '' end
  return redis.sha1hex(table.concat(found, '\\0') .. '\\0' .. table.concat(kept, '\\0'))
end

-- The arguments from that one on; `unpack` gives up at 8000.
local function arguments(first)
  local found = {}
  for i = first, #ARGV do found[#found + 1] = ARGV[i] end
  return found
end

-- Whether a sign-in was lost, and nothing came since of the one after it, whoever made that. Said once: what comes
-- first has a gap before it.
local function torn(id) return call('HDEL', LOG .. id, 'torn') == 1 end

local function trim(id, retention)
  local events, limit = EVENTS .. id, now - retention
  local count, last = 1, nil
  repeat
    local oldest, passed = call('XRANGE', events, last and '(' .. last or '-', '+', 'COUNT', count), 0
    for _, entry in ipairs(oldest) do
      if tonumber(entry[2][2]) >= limit then break end
      last, passed = entry[1], passed + 1
    end
    local more = passed > 0 and passed == count
    count = 50
  until not more
  if last then call('XTRIM', events, 'MINID', whole(tonumber(string.match(last, '%d+')) + 1) .. '-0') end
end

local function holds(id, holder) return call('HGET', HOLDERS, id) == holder end

-- Makes the lease free, and lets its holder know if it was not asked.
local function free(id, score)
  call('HDEL', HOLDERS, id)
  call('ZADD', LEASES, score, id)
  call('PUBLISH', WAKE, id)
end

local function dismiss(id)
  local holder = call('HGET', HOLDERS, id)
  if holder then
    call('HDEL', HOLDERS, id)
    call('PUBLISH', REPLICA .. string.match(holder, '^[^:]+'), id .. ' ' .. holder)
  end
  return holder
end

-- The lease is not to be had until the record has changed, or until that which it waits for has come.
local function park(id, waits_for)
  call('HDEL', HOLDERS, id)
  call('HSET', PARKED, id, waits_for or digest(id))
  call('ZADD', LEASES, 'inf', id)
end

-- What was found out about a sign-in that is over. A batch of the next one may look like its last one and is another.
local function begin_anew(id)
  call('HDEL', LOG .. id, 'talking', 'standing', 'receipt', 'batch', 'batch_at', 'batch_nonce')
end

-- How a session is, as callers are told: until skills and monitoring are set anew it goes on recovering, and if they
-- were refused it is not what it was.
local function as_told(id, state, detail)
  local kept = call('HMGET', ORDERS .. id, 'stage', 'detail')
  local stage = kept[1] or ''
  if stage == 'wanting' then
    if state == 'active' then return 'degraded', kept[2] or '' end
  elseif stage ~= '' and state ~= 'lost' then
    return 'recovering', kept[2] or ''
  end
  return state or '', detail or ''
end

-- Nobody is to sign the inspector in again.
local function forget_orders(id)
  call('DEL', ORDERS .. id, MONITORED .. id)
  call('ZREM', RECOVERING, id)
end

-- Takes an inspector without a session off the books, and ends the streams that follow it.
local function retire(id, retention)
  dismiss(id)
  call('ZREM', LEASES, id)
  call('HDEL', PARKED, id)
  forget_orders(id)
  if call('EXISTS', LOG .. id) == 1 then
    call('HDEL', LOG .. id, 'leaving', 'state', 'detail', 'polled_at', 'torn')
    call('HSET', LOG .. id, 'ended', 'gone')
    begin_anew(id)
    call('PEXPIRE', LOG .. id, 2 * retention)
    tell(id, 's')
  end
end

-- Puts an inspector with a session on the books. One who is being recovered stays where he is, with all that is told.
local function enlist(id, score)
  local found = record(id)
  if found and recovering(found) then
    call('HDEL', LOG .. id, 'leaving')
    return park(id)
  end
  call('HDEL', PARKED, id)
  if call('HDEL', LOG .. id, 'ended', 'leaving', 'state', 'detail') > 0 then tell(id, 's') end
  call('PERSIST', LOG .. id)
  free(id, score)
end
"""
)


_NAMES: Final = re.compile(r"^local (?:function )?([\w, ]+)", re.MULTILINE)


def script(text: str) -> Script:
    """
    Return the script with what it uses of the above before it.

    Redis makes every function anew each time a script runs: all of them cost more than two commands.
    """
    for part in reversed(_PRELUDE.split("\n\n")):
        names = [name.strip() for line in _NAMES.findall(part) for name in line.split(",")]
        if not names or any(re.search(rf"\b{name}\b", text) for name in names):
            text = f"{part}\n\n{text}"
    return Script.of(text)
