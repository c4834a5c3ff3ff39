"""The scripts that change session records in Redis, each in one step."""

from __future__ import annotations

from qc_adapter.store import keys
from qc_adapter.store.script import Script

#: What a notice says when only the session changed; see `qc_adapter.events.notices`.
SESSION_CHANGED = "g"

# The GUID without the prefix of the gateway's header, which other systems may have copied along.
BARE = """
local function bare(guid)
  if string.lower(string.sub(guid, 1, 11)) == 'jsessionid=' then return string.sub(guid, 12) end
  return guid
end
"""

# ARGV of all three: the agent id first.
_SESSION = f"""
local session = '{keys.SESSION}' .. ARGV[1]
local function tell() redis.call('PUBLISH', '{keys.NOTICE}' .. ARGV[1], '{SESSION_CHANGED}') end
"""

# A field that an older writer left must not outlive its session, so the record is made anew.
# ARGV: the GUID, then names and values. Returns whether another sign-in was there.
PUT = Script.of(
    _SESSION
    + BARE
    + """
local before = redis.pcall('HGET', session, 'guid')
redis.call('DEL', session)
redis.call('HSET', session, unpack(ARGV, 3))
tell()
return type(before) == 'string' and bare(before) ~= ARGV[2] and 1 or 0
"""
)

# ARGV: the GUID that was used, then names and values. Returns the record as it is afterwards, empty if there is none.
RENEW = Script.of(
    _SESSION
    + BARE
    + """
local guid = redis.call('HGET', session, 'guid')
if not guid then return {} end
if #ARGV > 2 and bare(guid) == ARGV[2] then
  redis.call('HSET', session, unpack(ARGV, 3))
  tell()
end
return redis.call('HGETALL', session)
"""
)

# ARGV: nothing, or the GUID that must still be there.
REMOVE = Script.of(
    _SESSION
    + BARE
    + """
if #ARGV == 2 then
  local guid = redis.call('HGET', session, 'guid')
  if not guid or bare(guid) ~= ARGV[2] then return 0 end
end
local removed = redis.call('DEL', session)
tell()
return removed
"""
)
