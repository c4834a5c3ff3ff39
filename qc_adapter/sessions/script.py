"""The scripts that change session records in Redis, each in one step. They need nothing newer than Redis 6.2."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua text and the name by which Redis remembers it."""

    text: str
    sha1: str

    @classmethod
    def of(cls, text: str) -> Script:
        """Return the script with its name."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# The GUID without the prefix of the gateway's header, which other systems may have copied along.
_BARE = """
local function bare(guid)
  if string.lower(string.sub(guid, 1, 11)) == 'jsessionid=' then return string.sub(guid, 12) end
  return guid
end
"""

# A field that an older writer left must not outlive its session, so the record is made anew.
PUT = Script.of("""
redis.call('DEL', KEYS[1])
return redis.call('HSET', KEYS[1], unpack(ARGV))
""")

# ARGV: the GUID that was used, then names and values. Returns the record as it is afterwards, empty if there is none.
RENEW = Script.of(
    _BARE
    + """
local guid = redis.call('HGET', KEYS[1], 'guid')
if not guid then return {} end
if #ARGV > 1 and bare(guid) == ARGV[1] then
  redis.call('HSET', KEYS[1], unpack(ARGV, 2))
end
return redis.call('HGETALL', KEYS[1])
"""
)

# ARGV: nothing, or the GUID that must still be there.
REMOVE = Script.of(
    _BARE
    + """
if #ARGV == 1 then
  local guid = redis.call('HGET', KEYS[1], 'guid')
  if not guid or bare(guid) ~= ARGV[1] then return 0 end
end
return redis.call('DEL', KEYS[1])
"""
)
