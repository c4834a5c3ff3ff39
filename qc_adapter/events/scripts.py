"""
What happens in Redis in one step: leases change hands, poll replies are stored, logs are read.

Time is Redis's own, in milliseconds: replicas need not agree on theirs. A script that was run and whose reply was lost
may be run again: each has a way to see that it is done. Redis Cluster is not supported: the keys of one script lie
where they like.
"""

from __future__ import annotations

from typing import Final

from qc_adapter.sessions.script import BARE
from qc_adapter.store import keys
from qc_adapter.store.script import Script

#: Flags in the first line of a notice.
ENTRIES: Final = "e"
STATE_CHANGED: Final = "s"

_PRELUDE: Final = (
    f"""
local SESSION, LOG, EVENTS, NOTICE = '{keys.SESSION}', '{keys.LOG}', '{keys.EVENTS}', '{keys.NOTICE}'
local LEASES, HOLDERS, PARKED, FENCE = '{keys.LEASES}', '{keys.HOLDERS}', '{keys.PARKED}', '{keys.FENCE}'
local REPLICAS, REPLICA, WAKE, STORE = '{keys.REPLICAS}', '{keys.REPLICA}', '{keys.WAKE}', '{keys.STORE}'
local BEAT, RESPITE, CLAIMS, SCANNER = '{keys.BEAT}', '{keys.RESPITE}', '{keys.CLAIMS}', '{keys.SCANNER}'
local DEPARTING, RELEARNING = '{keys.DEPARTING}', '{keys.RELEARNING}'
"""
    + BARE
    + """
-- Ends of leases that are no times: a poll of the holder may be held on, or it belongs to an older sign-in.
local REVOKED, REPLACED = 1, 2
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

local function digest(id)
  local found = record(id)
  return found and redis.sha1hex(table.concat(found, '\\0')) or 'no hash'
end

local function polled(found)
  local source = string.lower(string.gsub(field(found, 'event_source') or '', '%s', ''))
  return source == '' or source == 'poll'
end

local function tell(id, flags, epoch, n, items)
  local lines = {flags .. ' ' .. (epoch or '') .. ' ' .. (n or '')}
  for i, item in ipairs(items or {}) do lines[i + 1] = item end
  call('PUBLISH', NOTICE .. id, table.concat(lines, '\\n'))
end

-- The head of a log: its epoch, and the position of its newest entry. A new one for a log that is not there.
local function head(id, fresh)
  local found = call('HMGET', LOG .. id, 'epoch', 'n')
  if found[1] then return found[1], tonumber(found[2]) end
  call('DEL', EVENTS .. id)
  call('HSET', LOG .. id, 'epoch', fresh, 'n', 0)
  return fresh, 0
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

local function park(id)
  call('HDEL', HOLDERS, id)
  call('HSET', PARKED, id, digest(id))
  call('ZADD', LEASES, 'inf', id)
end

-- Takes an inspector without a session off the books, and ends the streams that follow it.
local function retire(id, retention)
  dismiss(id)
  call('ZREM', LEASES, id)
  call('HDEL', PARKED, id)
  if call('EXISTS', LOG .. id) == 1 then
    call('HDEL', LOG .. id, 'leaving', 'state', 'detail', 'polled_at')
    call('HSET', LOG .. id, 'ended', 'gone')
    call('PEXPIRE', LOG .. id, 2 * retention)
    tell(id, 's')
  end
end

-- Puts an inspector with a session on the books.
local function enlist(id, score)
  call('HDEL', PARKED, id)
  if call('HDEL', LOG .. id, 'ended', 'leaving', 'state', 'detail') > 0 then tell(id, 's') end
  call('PERSIST', LOG .. id)
  free(id, score)
end
"""
)


def _script(text: str) -> Script:
    return Script.of(_PRELUDE + text)


# ARGV: replica, number of this beat, lease ms, ms until a silent replica counts as gone, most claims at once, leases
# held, whether to claim, fresh name of the store, fresh epoch, capacity, retention ms, ms of respite, name of the store
# as known or ''.
# Returns the name of the store, the fair share, live replicas, then of each claim id, token, 1 if it was taken or 2 if
# a poll may be held on, position, epoch, talking, record.
BEAT = _script("""
local replica, number, lease, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local most, held, claiming = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
local fresh, capacity, retention, respite = ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
call('SET', STORE, ARGV[8], 'NX')
if ARGV[13] ~= '' and call('GET', STORE) ~= ARGV[13] then call('SET', RELEARNING, '1', 'PX', respite) end
-- When Redis was away for all, nobody could renew: leave expired leases to those who hold them for a moment.
local last = tonumber(call('GET', BEAT) or '0')
if now - last > ttl and last > 0 then call('SET', RESPITE, '1', 'PX', respite) end
call('SET', BEAT, whole(now))
for _, key in ipairs({REPLICAS, DEPARTING}) do call('ZREMRANGEBYSCORE', key, '-inf', whole(now)) end
call('ZREM', claiming and DEPARTING or REPLICAS, replica)
call('ZADD', claiming and REPLICAS or DEPARTING, whole(now + ttl), replica)
local live = math.max(1, call('ZCARD', REPLICAS))
local share = math.ceil(call('ZCOUNT', LEASES, '-inf', '(inf') / live)
local reply = {call('GET', STORE), share, live}

local function hand_over(id, token, forced)
  local found = record(id) or {}
  local epoch, n = head(id, fresh)
  local talking = call('HGET', LOG .. id, 'talking') or ''
  reply[#reply + 1] = {id, token, forced, n, epoch, talking, found}
end

-- A beat whose reply was lost is answered again.
local before = call('GET', CLAIMS .. replica)
if before and string.match(before, '^%d+') == number then
  for id, token, forced in string.gmatch(before, ' (%d+):(%d+):(%d)') do
    if holds(id, replica .. ':' .. token) then hand_over(id, tonumber(token), tonumber(forced)) end
  end
  return reply
end
local room = math.min(most, share - held)
if not claiming or room <= 0 then return reply end

local limit = call('EXISTS', RESPITE) == 1 and REPLACED or whole(now)
local ripe = call('ZRANGEBYSCORE', LEASES, '-inf', limit, 'WITHSCORES', 'LIMIT', 0, room)
local claims = {number}
for i = 1, #ripe, 2 do
  local id, ends = ripe[i], tonumber(ripe[i + 1])
  local forced = ends == 0 and 0 or ends == REVOKED and 2 or 1
  local found, holder = record(id), call('HGET', HOLDERS, id)
  if holder and string.match(holder, '^[^:]+') == replica then
    -- Ours all along, and nobody wanted it: Redis was away, or we never heard that we won it.
    call('ZADD', LEASES, whole(now + lease), id)
    local token = string.match(holder, '%d+$')
    claims[#claims + 1] = id .. ':' .. token .. ':0'
    hand_over(id, tonumber(token), 0)
  elseif found and #found == 0 then
    retire(id, retention)
  elseif found and not polled(found) then
    park(id)
  else
    local token = call('INCR', FENCE)
    call('HSET', HOLDERS, id, replica .. ':' .. token)
    call('ZADD', LEASES, whole(now + lease), id)
    call('HDEL', LOG .. id, 'ended')
    if forced > 0 then
      local epoch, n = head(id, fresh)
      local gap = {'{"gap":"TAKEOVER"}'}
      append(id, n, gap, capacity, retention)
      tell(id, 'e', epoch, whole(n), gap)
    end
    claims[#claims + 1] = id .. ':' .. token .. ':' .. forced
    hand_over(id, token, forced)
  end
end
if #claims > 1 then call('SET', CLAIMS .. replica, table.concat(claims, ' '), 'PX', lease) end
return reply
""")

# The poll step. ARGV: id, holder, store, step, lease ms, GUID used, epoch and position known, fresh epoch, capacity,
# retention ms, talking or '=', state, detail, number of fields to change, names and values, items.
# Returns what became of it, then epoch, position before the items, the record, and 1 if a gap was added before them.
STEP = _script("""
local id, holder, step, lease, used = ARGV[1], ARGV[2], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local capacity, retention, changes = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[15])
if call('GET', STORE) ~= ARGV[3] then return {'forgotten'} end
local found = record(id)
local flags = ''
-- The GUID guards itself: this one is newer than the stored one if that is the one that was used.
local guid = found and field(found, 'guid')
if guid and changes > 0 and bare(guid) == used then
  call('HSET', SESSION .. id, unpack(ARGV, 16, 15 + changes))
  found = record(id)
  flags = 'g'
end
if not holds(id, holder) then
  if flags ~= '' then tell(id, flags) end
  -- A failover forgot that the lease was ever given: what is in hand now is lost, and the next claim has to say so.
  local forgotten = tonumber(string.match(holder, '%d+$')) > tonumber(call('GET', FENCE) or '0')
  if forgotten and #ARGV > 15 + changes and call('ZSCORE', LEASES, id) == '0' then call('ZADD', LEASES, REVOKED, id) end
  return {'fenced'}
end
local log = LOG .. id
local epoch, n = head(id, ARGV[9])
local items = {unpack(ARGV, 16 + changes)}
local lost = 0
local last = call('HMGET', log, 'step', 'base', 'lost')
local name, number = string.match(step, '^(.*)/(%d+)$')
local last_name, last_number = string.match(last[1] or '', '^(.*)/(%d+)$')
if last_name == name and tonumber(number) < tonumber(last_number) then
  -- A copy that was given up lay on another connection: all of it was stored since.
  return {'late'}
elseif last[1] == step then
  n, lost = tonumber(last[2]), tonumber(last[3] or '0')
else
  if epoch == ARGV[7] and n < tonumber(ARGV[8]) then
    -- A failover lost the end of the log: its positions are not used again.
    n = tonumber(ARGV[8])
    table.insert(items, 1, '{"gap":"LOG_LOST"}')
    lost = 1
  end
  append(id, n, items, capacity, retention)
  call('HSET', log, 'step', step, 'base', whole(n), 'lost', lost)
  if #items > 0 then flags = flags .. 'e' end
end
trim(id, retention)
if ARGV[12] ~= '=' then call('HSET', log, 'talking', ARGV[12]) end
call('HSET', log, 'state', ARGV[13], 'detail', ARGV[14])
if ARGV[13] == 'active' then call('HSET', log, 'polled_at', whole(now)) end
if found and #found == 0 then
  if #items > 0 then tell(id, flags, epoch, whole(n), items) end
  call('HDEL', HOLDERS, id)
  retire(id, retention)
  return {'gone', epoch, n, {}, lost}
end
call('ZADD', LEASES, whole(now + lease), id)
if flags ~= '' then tell(id, flags, epoch, whole(n), items) end
return {found and 'kept' or 'unreadable', epoch, n, found or {}, lost}
""")

# ARGV: lease ms, then id and holder in turn. Returns the ids whose lease is somebody else's.
EXTEND = _script("""
local until_ms, fenced = whole(now + tonumber(ARGV[1])), {}
for i = 2, #ARGV, 2 do
  if holds(ARGV[i], ARGV[i + 1]) then call('ZADD', LEASES, until_ms, ARGV[i]) else fenced[#fenced + 1] = ARGV[i] end
end
return fenced
""")

# ARGV: id, holder, 0 between two polls or 1 when a poll may have been cut off.
RELEASE = _script("""
if not holds(ARGV[1], ARGV[2]) then return 0 end
free(ARGV[1], ARGV[3])
return 1
""")

# The gateway ended the session, or it is not to be polled. ARGV: id, holder, GUID used or '', how the log ends or '',
# detail. Returns what became of it and the record: 'newer' when another GUID is stored by now.
PARK = _script("""
local id, holder, used, ended = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local found = record(id)
if not holds(id, holder) then return {'fenced', found or {}} end
local guid = found and field(found, 'guid')
if used ~= '' and guid and bare(guid) ~= used then return {'newer', found} end
park(id)
local leaving = tonumber(call('HGET', LOG .. id, 'leaving') or '0')
if ended ~= '' and leaving < now then
  call('HSET', LOG .. id, 'ended', ended, 'state', 'lost', 'detail', ARGV[5])
  tell(id, 's')
  return {'lost', found or {}}
end
return {'parked', found or {}}
""")

# Redis lost everything, and this replica knows a session. ARGV: id, replica, lease ms, fresh name of the store, record.
# Returns the name of the store and the token, 0 if somebody else has the session.
RESTORE = _script("""
local id, replica = ARGV[1], ARGV[2]
call('SET', STORE, ARGV[4], 'NX')
local store = call('GET', STORE)
local holder = call('HGET', HOLDERS, id)
if holder then
  return {store, string.match(holder, '^[^:]+') == replica and tonumber(string.match(holder, '%d+$')) or 0}
end
if call('EXISTS', SESSION .. id) == 0 then call('HSET', SESSION .. id, unpack(ARGV, 5)) end
local token = call('INCR', FENCE)
call('HSET', HOLDERS, id, replica .. ':' .. token)
call('ZADD', LEASES, whole(now + tonumber(ARGV[3])), id)
tell(id, 'gs')
return {store, token}
""")

# ARGV: id, '' or how it ends for the holder: 'revoked', 'replaced' by a new sign-in.
ENLIST = _script("""
local id = ARGV[1]
local found = record(id)
if found and #found == 0 then return 0 end
-- What a holder's poll may have taken away is a gap, also if the lease was given up before and nobody has it yet.
local before = tonumber(call('ZSCORE', LEASES, id) or '0')
local given_up = (before == REVOKED or before == REPLACED) and before or 0
if ARGV[2] ~= '' then
  enlist(id, dismiss(id) and (ARGV[2] == 'replaced' and REPLACED or REVOKED) or given_up)
elseif not call('HGET', HOLDERS, id) then
  enlist(id, given_up)
else
  call('HDEL', LOG .. id, 'leaving')
end
return 1
""")

# ARGV: id, ms. A sign-out is under way: the end of the session will not be a loss.
LEAVING = _script("""
call('HSET', LOG .. ARGV[1], 'leaving', whole(now + tonumber(ARGV[2])))
return 1
""")

# ARGV: retention ms, ids.
RETIRE = _script("""
for i = 2, #ARGV do
  if call('EXISTS', SESSION .. ARGV[i]) == 0 then retire(ARGV[i], tonumber(ARGV[1])) end
end
return 1
""")

# ARGV: ids that are not on the books.
FOUND = _script("""
for i = 1, #ARGV do
  if not call('ZSCORE', LEASES, ARGV[i]) and call('EXISTS', SESSION .. ARGV[i]) == 1 then enlist(ARGV[i], 0) end
end
return 1
""")

# ARGV: how many to skip, how many to look at. Puts parked inspectors on the books again whose record has changed.
RECHECK = _script("""
local ids = call('ZRANGEBYSCORE', LEASES, 'inf', 'inf', 'LIMIT', ARGV[1], ARGV[2])
local back = 0
for _, id in ipairs(ids) do
  -- A sign-out that nobody finished: a poll finds out what is left of the session.
  local abandoned = tonumber(call('HGET', LOG .. id, 'leaving') or whole(now)) < now
  if abandoned or call('HGET', PARKED, id) ~= digest(id) then
    enlist(id, 0)
    back = back + 1
  end
end
return {#ids, back}
""")

# ARGV: replica, ms. Returns 1 for the one replica that looks for sessions of other systems.
SCANNER = _script("""
local scanner = call('GET', SCANNER)
if scanner and scanner ~= ARGV[1] then return 0 end
call('SET', SCANNER, ARGV[1], 'PX', ARGV[2])
return 1
""")

# ARGV: id, epoch known or '', position known, fresh epoch, retention ms, most entries.
# A position that Redis does not know was lost in a failover, and callers have it: it is not given to another event.
# Returns epoch, position of the newest, how it ended or '', talking, entries behind the known position, or all.
READ = _script("""
local id, retention = ARGV[1], tonumber(ARGV[5])
local epoch, n = head(id, ARGV[4])
local found = record(id)
if not found or #found == 0 then
  call('PEXPIRE', LOG .. id, 2 * retention)
elseif not call('ZSCORE', LEASES, id) then
  enlist(id, 0)
end
if epoch == ARGV[2] and n < tonumber(ARGV[3]) then
  local gap = {'{"gap":"LOG_LOST"}'}
  n = tonumber(ARGV[3])
  append(id, n, gap, ARGV[6], retention)
  tell(id, 'e', epoch, whole(n), gap)
  n = n + 1
end
local more = call('HMGET', LOG .. id, 'ended', 'talking')
local after = epoch == ARGV[2] and '(' .. ARGV[3] .. '-0' or '-'
return {epoch, n, more[1] or '', more[2] or '', call('XRANGE', EVENTS .. id, after, '+', 'COUNT', ARGV[6])}
""")

# ARGV: id, epoch, position, ended of each inspector that is followed. Returns those whose log looks different now.
CHECK = _script("""
local changed = {}
for i = 1, #ARGV, 4 do
  local found = call('HMGET', LOG .. ARGV[i], 'epoch', 'n', 'ended')
  if found[1] ~= ARGV[i + 1] or found[2] ~= ARGV[i + 2] or (found[3] or '') ~= ARGV[i + 3] then
    changed[#changed + 1] = ARGV[i]
  end
end
return changed
""")

# ARGV: ids. Returns state, detail and time in ms of the last answered poll of each, as its reader last said.
STATUS = _script("""
local reply = {}
for i = 1, #ARGV do reply[i] = call('HMGET', LOG .. ARGV[i], 'state', 'detail', 'polled_at') end
return reply
""")
