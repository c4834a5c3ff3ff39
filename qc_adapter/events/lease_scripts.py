"""Leases change hands in Redis, each change in one step."""

from __future__ import annotations

from qc_adapter.events.lua import script

# ARGV: replica, number of this beat, lease ms, ms until a silent replica counts as gone, most claims at once, leases
# held, whether to claim, fresh name of the store, fresh epoch, capacity, retention ms, ms of respite, name of the store
# as known or '', names of the keys that the replica has, of those that it was found to lack, ms until a key without
# replicas counts as gone, whether it seals.
# Returns the name of the store, the fair share, live replicas, the keys that it lacks now, the key to seal with or '',
# then of each claim id, token, 1 if it was taken or 2 if a poll may be held on, position, epoch, talking, record, ms
# since the last answered poll or -1, standing, inspection.
BEAT = script("""
local MOST_PASSED = 2000
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
call('SET', RING .. replica, ARGV[14], 'PX', 2 * ttl)
local live = math.max(1, call('ZCARD', REPLICAS))
local keys = {}
for key in string.gmatch(ARGV[14], '%x+') do
  keys[key] = true
  call('SET', SEAL .. key, '', 'PX', ARGV[16])
end
-- Whether another replica has a key that this one lacks. Who cannot read a session must not keep a share of it from
-- those who can: as long as that is so, whoever can reads.
local function others_have(key)
  if call('EXISTS', SEAL .. key) == 0 then return false end
  call('SET', SPLIT, '1', 'PX', ttl)
  return true
end
for key in string.gmatch(ARGV[15], '%x+') do others_have(key) end
local rings, strange = rings_of_all(whole(now))
local sealing = sealing_key(ARGV[14], ARGV[17], rings, strange)
if sealing ~= '' then
  call('SET', SEALING, '', 'PX', ttl)
  -- One that cannot read sealed sessions came back: it must not keep them from those who can.
  if strange then call('SET', SPLIT, '1', 'PX', ttl) end
end
local leases = call('ZCOUNT', LEASES, '-inf', '(inf')
local share = call('EXISTS', SPLIT) == 1 and leases or math.ceil(leases / live)
local lacked = {}
local reply = {call('GET', STORE), share, live, lacked, sealing}

local function hand_over(id, token, forced)
  local found = record(id) or {}
  local epoch, n = head(id, fresh)
  local more = call('HMGET', LOG .. id, 'talking', 'polled_at', 'standing', 'receipt')
  reply[#reply + 1] = {id, token, forced, n, epoch, more[1] or '', found,
    more[2] and whole(now - more[2]) or '-1', more[3] or '', more[4] or ''}
end

-- A beat whose reply was lost is answered again.
local before = call('GET', CLAIMS .. replica)
if before and string.match(before, '^%d+') == number then
  for id, token, forced in string.gmatch(before, ' ([^ :]+):(%d+):(%d)') do
    if holds(id, replica .. ':' .. token) then hand_over(id, tonumber(token), tonumber(forced)) end
  end
  return reply
end
local room = math.min(most, share - held)
if not claiming or room <= 0 then return reply end

local limit = call('EXISTS', RESPITE) == 1 and REPLACED or whole(now)
local claims = {number}

-- Leaves a session whose key the replica lacks to those that have it. If nobody has, it waits for one. Returns whether
-- it lacks the key, and then whether the lease goes on to be free.
local function pass_over(id, found)
  for _, key in ipairs(found and sealed_with(found) or {}) do
    if not keys[key] then
      lacked[#lacked + 1] = key
      if others_have(key) then return true, true end
      park(id, KEY .. key)
      call('HSET', LOG .. id, 'state', 'lost', 'detail', 'no replica has key ' .. key .. ' in QC_SEAL_KEYS')
      tell(id, 's')
      return true, false
    end
  end
end

-- Returns whether the lease is still there to be claimed.
local function claim(id, ends)
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
  elseif found and read_by(found) == 'none' then
    park(id)
  else
    local lacks, still_free = pass_over(id, found)
    if lacks then return still_free end
    local token = call('INCR', FENCE)
    call('HSET', HOLDERS, id, replica .. ':' .. token)
    call('ZADD', LEASES, whole(now + lease), id)
    call('HDEL', LOG .. id, 'ended')
    call('HSET', LOG .. id, 'state', 'starting', 'detail', '')
    -- What the gateway pushes does not come through whoever holds the lease.
    if found and source_of(found) == 'push' then forced = 0 end
    if torn(id) or forced > 0 then add_takeover(id, fresh, capacity, retention) end
    claims[#claims + 1] = id .. ':' .. token .. ':' .. forced
    hand_over(id, token, forced)
  end
  return false
end

-- One look, and further ones only past those that are left to others.
local passed, more = 0, true
while more and passed < MOST_PASSED do
  local ripe = call('ZRANGEBYSCORE', LEASES, '-inf', limit, 'WITHSCORES', 'LIMIT', passed, room)
  more = false
  for i = 1, #ripe, 2 do
    if claim(ripe[i], tonumber(ripe[i + 1])) then passed, more = passed + 1, true end
  end
  room = math.min(most, share - held) - (#claims - 1)
  more = more and room > 0
end
if #claims > 1 then call('SET', CLAIMS .. replica, table.concat(claims, ' '), 'PX', lease) end
return reply
""")

# ARGV: lease ms, then id and holder in turn. Returns the ids whose lease is somebody else's.
EXTEND = script("""
local until_ms, fenced = whole(now + tonumber(ARGV[1])), {}
for i = 2, #ARGV, 2 do
  if holds(ARGV[i], ARGV[i + 1]) then call('ZADD', LEASES, until_ms, ARGV[i]) else fenced[#fenced + 1] = ARGV[i] end
end
return fenced
""")

# ARGV: id, holder, 0 between two polls or 1 when a poll may have been cut off, epoch and position known, capacity,
# retention ms.
RELEASE = script("""
local id, retention = ARGV[1], tonumber(ARGV[7])
if not holds(id, ARGV[2]) then return 0 end
local epoch, n = unpack(call('HMGET', LOG .. id, 'epoch', 'n'))
if epoch then close_hole(id, epoch, tonumber(n), ARGV[4], ARGV[5], tonumber(ARGV[6]), retention) end
free(id, ARGV[3])
return 1
""")

# The gateway ended the session, or it is not to be polled. ARGV: id, holder, mark of the GUID used or '', how the log
# ends or '', detail, ms that a sign-in has to live to count as a good one, longest ms between two attempts to sign in
# again, ms to wait when the gateway has told of the sign-out, digest of the record that was judged or ''. A detail
# without an end: the record cannot be read.
# Returns what became of it and the record: 'newer' when another GUID is stored by now, 'recovering' when the inspector
# is to be signed in again, 'parked' when the end was wanted: a sign-out is under way, or is done.
PARK = script("""
local id, holder, used, ended = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local found = record(id)
local stored = found and mark(found)
local leaving = tonumber(call('HGET', LOG .. id, 'leaving') or '0')
if not holds(id, holder) then return {(leaving >= now or stored ~= used) and 'parked' or 'fenced', found or {}} end
if used ~= '' and stored and stored ~= used then return {'newer', found} end
local orders = call('HMGET', ORDERS .. id, 'signed_in_at', 'recovered_at', 'losses', 'tried_at')
if ended ~= '' and leaving < now and stored and orders[1] and orders[1] == field(found, 'signed_in_at') then
  local quick = orders[2] and now - tonumber(orders[2]) < tonumber(ARGV[6])
  local losses = quick and tonumber(orders[3] or '0') + 1 or 0
  local pause = losses > 0 and math.min(tonumber(ARGV[7]), 1000 * 2 ^ (losses - 1)) or 1000
  call('HSET', ORDERS .. id, 'stage', 'signing_in', 'detail', ARGV[5], 'retcode', string.match(ended, '%S*$'),
    'losses', losses, 'attempts', 0, 'claim', '')
  local told = string.find(call('HGET', LOG .. id, 'standing') or '', '"out"', 1, true)
  local soonest = told and now + tonumber(ARGV[8]) or now
  call('ZADD', RECOVERING, whole(math.max(soonest, tonumber(orders[4] or '0') + pause)), id)
  call('HSET', SESSION .. id, 'recovering', stored)
  park(id)
  begin_anew(id)
  call('HSET', LOG .. id, 'state', 'recovering', 'detail', ARGV[5], 'torn', 1)
  tell(id, 'gs')
  call('PUBLISH', WAKE, id)
  return {'recovering', record(id)}
end
-- What was judged may have been mended since: then it is another record, and is looked at anew.
park(id, ARGV[9] ~= '' and ARGV[9])
if ended ~= '' and leaving < now then
  begin_anew(id)
  call('HSET', LOG .. id, 'ended', ended, 'state', 'lost', 'detail', ARGV[5])
  tell(id, 's')
  return {'lost', found or {}}
end
if ended == '' and ARGV[5] ~= '' then
  call('HSET', LOG .. id, 'state', 'lost', 'detail', ARGV[5])
  tell(id, 's')
end
return {'parked', found or {}}
""")

# Redis lost everything, and this replica knows a session. ARGV: id, replica, lease ms, fresh name of the store, record.
# Returns the name of the store and the token, 0 if somebody else has the session.
RESTORE = script("""
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
call('PERSIST', LOG .. id)
tell(id, 'gs')
return {store, token}
""")

# ARGV: id, '' or how it ends for the holder: 'revoked', or 'replaced' by a new sign-in.
ENLIST = script("""
local id = ARGV[1]
local found = record(id)
if found and #found == 0 then return 0 end
-- What a holder's poll may have taken away is a gap, also if the lease was given up before and nobody has it yet.
local before = tonumber(call('ZSCORE', LEASES, id) or '0')
local given_up = (before == REVOKED or before == REPLACED) and before or 0
-- What is pushed may have come before the reply to the sign-in, and begins anew by itself.
if ARGV[2] == 'replaced' and not (found and source_of(found) == 'push') then begin_anew(id) end
if ARGV[2] ~= '' then
  enlist(id, dismiss(id) and (ARGV[2] == 'replaced' and REPLACED or REVOKED) or given_up)
elseif not call('HGET', HOLDERS, id) then
  enlist(id, given_up)
else
  call('HDEL', LOG .. id, 'leaving')
end
return 1
""")

# ARGV: id, ms. A sign-out is under way, or a sign-in in its place: the end of the session will not be a loss.
LEAVING = script("""
call('HSET', LOG .. ARGV[1], 'leaving', whole(now + tonumber(ARGV[2])))
-- The first batch of the next sign-in may look like that of this one.
call('HDEL', LOG .. ARGV[1], 'batch', 'batch_at', 'batch_nonce')
return 1
""")

# ARGV: retention ms, ids.
RETIRE = script("""
for i = 2, #ARGV do
  if call('EXISTS', SESSION .. ARGV[i]) == 0 then retire(ARGV[i], tonumber(ARGV[1])) end
end
return 1
""")

# ARGV: ids that are not on the books.
FOUND = script("""
for i = 1, #ARGV do
  if not call('ZSCORE', LEASES, ARGV[i]) and call('EXISTS', SESSION .. ARGV[i]) == 1 then enlist(ARGV[i], 0) end
end
return 1
""")

# Puts a record into another form. ARGV: id, number of values that must be there as they were read, names and SHA-1 of
# these or '' for one that must be missing, then names and values. Returns the record as it is afterwards.
RECAST = script("""
local id, guarded = ARGV[1], tonumber(ARGV[2])
local as_it_was = true
for i = 3, 2 + 2 * guarded, 2 do
  local value = call('HGET', SESSION .. id, ARGV[i])
  as_it_was = as_it_was and (value and redis.sha1hex(value) or '') == ARGV[i + 1]
end
if as_it_was then
  local parked = call('HGET', PARKED, id) == digest(id)
  change(SESSION .. id, 3 + 2 * guarded, #ARGV)
  if parked then call('HSET', PARKED, id, digest(id)) end
end
return call('HGETALL', SESSION .. id)
""")

# ARGV: how many to skip, how many to look at, name of the key that records are sealed with or '' where they are plain.
# Puts parked inspectors on the books again whose record has changed, or whose key a replica has by now.
# Returns how many it looked at and put back, then the ids whose lease is free or over, those of parked ones whose
# record has another form, and those that somebody could not read although they are sealed: an older release.
RECHECK = script("""
local function in_form(id)
  local found = record(id) or {}
  for _, name in ipairs({'guid', 'cookies'}) do
    local plain, sealed = field(found, name), field(found, 'sealed_' .. name)
    if ARGV[3] == '' then
      if sealed and not plain then return false end
    elseif plain and plain ~= '' or sealed and string.sub(sealed, 1, #ARGV[3]) ~= ARGV[3] then
      return false
    end
  end
  return true
end
-- A record that was parked for want of a key waits for the key, or for another record.
local function may_go_on(id)
  local why = call('HGET', PARKED, id)
  local key = why and string.match(why, '^' .. KEY .. '(%x+)$')
  if not key then return why ~= digest(id) end
  if call('EXISTS', SEAL .. key) == 1 then return true end
  for _, name in ipairs(sealed_with(record(id) or {})) do
    if name == key then return false end
  end
  return true
end
local others, doubtful = {}, {}
local unread = call('ZRANGEBYSCORE', LEASES, '-inf', '(' .. whole(now))
local ids = call('ZRANGEBYSCORE', LEASES, 'inf', 'inf', 'LIMIT', ARGV[1], ARGV[2])
local back = 0
for _, id in ipairs(ids) do
  -- A sign-out that nobody finished: a poll finds out what is left of the session.
  local abandoned = tonumber(call('HGET', LOG .. id, 'leaving') or whole(now)) < now
  if abandoned or may_go_on(id) then
    enlist(id, 0)
    back = back + 1
  else
    if not in_form(id) then others[#others + 1] = id end
    local told = call('HMGET', LOG .. id, 'state', 'ended')
    if told[1] == 'lost' and not told[2] and #sealed_with(record(id) or {}) > 0 then doubtful[#doubtful + 1] = id end
  end
end
return {#ids, back, unread, others, doubtful}
""")

# ARGV: replica, ms. Returns 1 for the one replica that looks for sessions of other systems. One of an older release
# could not see what that one did not see which parked them.
SCANNER = script("""
local scanner = call('GET', SCANNER)
local older = scanner and call('ZSCORE', REPLICAS, scanner) and call('EXISTS', RING .. scanner) == 0
if scanner and scanner ~= ARGV[1] and not older then return 0 end
call('SET', SCANNER, ARGV[1], 'PX', ARGV[2])
return 1
""")
