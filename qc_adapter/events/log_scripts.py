"""The poll step, and what is read of logs in Redis, each in one step."""

from __future__ import annotations

from qc_adapter.events.inlet import LONGEST_MARK, MOST_REMEMBERED, ONCE
from qc_adapter.events.lua import script

# The poll step. ARGV: id, holder, store, step, lease ms, mark of the GUID used, epoch and position known, fresh epoch,
# capacity, retention ms, talking, state, detail, standing or '' for a heartbeat, number of fields to change, names and
# values, items.
# Returns what became of it, then epoch, position before the items, the record, 1 if a gap was added before them, and
# talking, standing and the last inspection, and how all of it is named or ''.
STEP = script("""
local id, holder, step, lease, used = ARGV[1], ARGV[2], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local capacity, retention, changes = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[16])
if call('GET', STORE) ~= ARGV[3] then return {'forgotten'} end
local found = record(id)
local flags = ''
-- The GUID guards itself: this one is newer than the stored one if that is the one that was used.
if found and changes > 0 and mark(found) == used then
  change(SESSION .. id, 17, 16 + changes)
  found = record(id)
  flags = 'g'
end
if not holds(id, holder) then
  if flags ~= '' then tell(id, flags) end
  -- A failover forgot that the lease was ever given: what is in hand now is lost, and the next claim has to say so.
  local forgotten = tonumber(string.match(holder, '%d+$')) > tonumber(call('GET', FENCE) or '0')
  if forgotten and #ARGV > 16 + changes and call('ZSCORE', LEASES, id) == '0' then call('ZADD', LEASES, REVOKED, id) end
  return {'fenced'}
end
local log = LOG .. id
local last = call('HMGET', log, 'step', 'base', 'lost', 'state', 'detail', 'standing', 'talking', 'receipt',
  'epoch', 'n')
local epoch, n = last[9], tonumber(last[10])
if not epoch then epoch, n = head(id, ARGV[9]) end
local items = arguments(17 + changes)
local lost, news = 0, {'state', ARGV[13], 'detail', ARGV[14]}
local function note(name, value) news[#news + 1], news[#news + 2] = name, value end
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
  note('step', step)
  note('base', whole(n))
  note('lost', lost)
  if #items > 0 then flags = flags .. 'e' end
end
trim(id, retention)
local sums = {last[7], last[6], last[8]}
-- What comes in through others, they add up.
if ARGV[15] ~= '' and (not last[6] or not found or read_by(found) == 'poll') then
  sums[1], sums[2] = ARGV[12], ARGV[15]
  note('talking', sums[1])
  note('standing', sums[2])
end
if last[4] ~= ARGV[13] or (last[5] or '') ~= ARGV[14] then flags = flags .. 's' end
if ARGV[13] == 'active' then note('polled_at', whole(now)) end
call('HSET', log, unpack(news))
call('PERSIST', log)
if found and #found == 0 then
  if #items > 0 then tell(id, flags, epoch, whole(n), items) end
  call('HDEL', HOLDERS, id)
  retire(id, retention)
  return {'gone', epoch, n, {}, lost, {'', '', ''}, ''}
end
call('ZADD', LEASES, whole(now + lease), id)
if flags ~= '' then tell(id, flags, epoch, whole(n), items) end
-- Named behind a poll that brought nothing: the next one may bring nothing either.
local named = found and #items == 0 and likeness(id, found) or ''
return {found and 'kept' or 'unreadable', epoch, n, found or {}, lost, sums, named}
""")

# Polls that brought nothing to inspectors of whom all is as it was. ARGV: store, lease ms, then of each id, holder and
# how all was named. Returns 1 for each whose lease was renewed, 0 where a whole step has to find out what is different.
QUIET = script("""
local reply, leases, until_ms = {}, {}, whole(now + tonumber(ARGV[2]))
local known = call('GET', STORE) == ARGV[1]
for i = 3, #ARGV, 3 do
  local id = ARGV[i]
  local found = known and holds(id, ARGV[i + 1]) and record(id)
  local same = found and likeness(id, found) == ARGV[i + 2]
  if same then
    call('HSET', LOG .. id, 'polled_at', whole(now))
    leases[#leases + 1], leases[#leases + 2] = until_ms, id
  end
  reply[#reply + 1] = same and 1 or 0
end
if #leases > 0 then call('ZADD', LEASES, unpack(leases)) end
return reply
""")

# Events that no poll of ours brought. ARGV: id, their source, fresh epoch, capacity, retention ms, ms after which and
# within which the batch before may be repeated, names of this arrival and of those before it whose reply got lost,
# epoch and position known, how many items had come before as known, talking, standing, marks, epoch and position that
# this replica logged last, items.
# Returns what became of them, epoch, position before them, how many of them had come before; or 'again' with the same,
# talking and standing, when others added something meanwhile: what it adds up to is to be found out anew.
APPEND = script(
    f"local ONCE, RECENT_BYTES = '{ONCE}', {MOST_REMEMBERED * (LONGEST_MARK + 1) + 1}"
    """
local id, retention = ARGV[1], tonumber(ARGV[5])
local found = record(id)
-- Events may come before the reply to the sign-in.
local signing = call('EXISTS', BUSY .. id) == 1
if not signing then
  if not found then return {'unreadable'} end
  if #found == 0 then return {'gone'} end
  if source_of(found) ~= ARGV[2] then return {'elsewhere', source_of(found)} end
end
local epoch, n = head(id, ARGV[3])
n = close_hole(id, epoch, n, ARGV[9], ARGV[10], tonumber(ARGV[4]), retention)
n = close_hole(id, epoch, n, ARGV[15], ARGV[16], tonumber(ARGV[4]), retention)
local log = LOG .. id
local last = call('HMGET', log, 'talking', 'batch', 'batch_at', 'batch_nonce', 'standing', 'recent')
local before, marks = {}, {}
local ago = last[2] and now - tonumber(last[3])
-- The reply of this script got lost, and it or what the gateway sent then is run again, however late the first was run.
local again = last[4] and string.find(ARGV[8], last[4], 1, true)
if ago and (again or ago >= tonumber(ARGV[6]) and ago < tonumber(ARGV[7])) then
  for mark in string.gmatch(last[2], '%S+') do before[#before + 1] = mark end
end
for mark in string.gmatch(ARGV[14], '%S+') do marks[#marks + 1] = mark end
local same = 0
while same < #before and same < #marks and before[same + 1] == marks[same + 1] do same = same + 1 end
-- All of the batch before comes again, or nothing: a part of it happened anew.
if same < #before then same = 0 end
-- What happens once is known by itself; a copy that comes late may lie behind newer batches.
local repeats, recent = same, last[6] or ' '
local function once(mark) return string.sub(mark, -1) == ONCE end
local function seen(mark) return once(mark) and string.find(recent, ' ' .. mark .. ' ', 1, true) end
local alone = 0
while alone < #marks and seen(marks[alone + 1]) do alone = alone + 1 end
same = math.max(same, alone)
if same < #marks and (epoch ~= ARGV[9] or whole(n) ~= ARGV[10] or same ~= tonumber(ARGV[11])) then
  return {'again', epoch, n, last[1] or '', last[5] or '', same}
end
local items = arguments(17 + same)
local last_words = not signing and recovering(found)
if #items > 0 and not last_words and torn(id) then
  n = add_takeover(id, ARGV[3], ARGV[4], retention)
end
append(id, n, items, tonumber(ARGV[4]), retention)
trim(id, retention)
if same < #marks then
  for i = same + 1, #marks do
    if once(marks[i]) then recent = recent .. marks[i] .. ' ' end
  end
  recent = string.sub(recent, -RECENT_BYTES)
  call('HSET', log, 'batch', ARGV[14], 'talking', ARGV[12], 'standing', ARGV[13], 'recent', recent)
  tell(id, 'e', epoch, whole(n), items)
end
if same < #marks or repeats == same then
  call('HSET', log, 'batch_at', whole(now), 'batch_nonce', string.match(ARGV[8], '%S+'))
end
if found and #found > 0 then call('PERSIST', log) else call('PEXPIRE', log, 2 * retention) end
return {'kept', epoch, n, same}
"""
)

# ARGV: id, epoch known or '', position known, fresh epoch, retention ms, most entries.
# Returns epoch, position of the newest, how it ended, talking, standing, inspection, state and detail, each '' if there
# is none, and the entries behind the known position, or all.
READ = script("""
local id, retention = ARGV[1], tonumber(ARGV[5])
local epoch, n = head(id, ARGV[4])
local found = record(id)
if not found or #found == 0 then
  call('PEXPIRE', LOG .. id, 2 * retention)
elseif not call('ZSCORE', LEASES, id) then
  enlist(id, 0)
end
n = close_hole(id, epoch, n, ARGV[2], ARGV[3], ARGV[6], retention)
local reply = {epoch, n, unpack(call('HMGET', LOG .. id, 'ended', 'talking', 'standing', 'receipt', 'state', 'detail'))}
for i = 3, 8 do reply[i] = reply[i] or '' end
reply[7], reply[8] = as_told(id, reply[7], reply[8])
local after = epoch == ARGV[2] and '(' .. ARGV[3] .. '-0' or '-'
reply[9] = call('XRANGE', EVENTS .. id, after, '+', 'COUNT', ARGV[6])
return reply
""")

# ARGV: id, epoch, position, ended, receipt, state, detail of each inspector that is followed. Returns those whose log
# looks different now.
CHECK = script("""
local changed = {}
for i = 1, #ARGV, 7 do
  local found = call('HMGET', LOG .. ARGV[i], 'epoch', 'n', 'ended', 'receipt', 'state', 'detail')
  found[5], found[6] = as_told(ARGV[i], found[5], found[6])
  for j = 1, 6 do
    if (found[j] or '') ~= ARGV[i + j] then
      changed[#changed + 1] = ARGV[i]
      break
    end
  end
end
return changed
""")

# ARGV: ids. Returns state, detail and time in ms of the last answered poll of each, and its standing and inspection.
STATUS = script("""
local reply = {}
for i = 1, #ARGV do
  local found = call('HMGET', LOG .. ARGV[i], 'state', 'detail', 'polled_at', 'standing', 'receipt')
  found[1], found[2] = as_told(ARGV[i], found[1], found[2])
  reply[i] = found
end
return reply
""")

# ARGV: of each receipt the id, the inspection as it was known, the inspection after it. Returns for each what stands
# there if it is neither. A session that has ended is in no inspection any more.
RECEIPT = script("""
local reply = {}
for i = 1, #ARGV, 3 do
  local id, before, after = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local head = call('HMGET', LOG .. id, 'receipt', 'epoch', 'ended')
  local found = head[1] or ''
  local settled = not head[2] or head[3] or found == after
  if not settled and found == before then
    call('HSET', LOG .. id, 'receipt', after)
    tell(id, RECEIPTS, '', '', {after})
    settled = true
  end
  reply[#reply + 1] = not settled and found
end
return reply
""")
