"""One audit record as bytes: canonical JSON on one line, with a hash over all of it as the last field."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Of the format. A reader that does not know it must not judge the record.
VERSION: Final = 1
BEGAN: Final = "audit_began"
ENDED: Final = "audit_ended"
_HASH: Final = b',"hash":"'
_HASH_BYTES: Final = len(_HASH) + 64 + len(b'"}')
#: What no `prev` and no `follows` says.
NOTHING: Final = ""


def canonical(record: Mapping[str, Any]) -> bytes:
    """Return the one form that a record without its hash has: keys sorted, no blanks, UTF-8."""
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def joined(content: bytes, hashed: str) -> bytes:
    """Return the line of a record: its canonical form with the hash put in behind the last field."""
    return b"".join((content[:-1], _HASH, hashed.encode(), b'"}'))


def parted(line: bytes) -> bytes:
    """Return what the hash of a line is over; of a line in another form nothing that fits."""
    rest, end = line[:-_HASH_BYTES], line[-_HASH_BYTES:]
    return rest + b"}" if end.startswith(_HASH) else b""


def hash_of(content: bytes, key: bytes) -> str:
    """Return the hash of a record's canonical form without `hash`: SHA-256, with a key HMAC-SHA256."""
    if key:
        return hmac.digest(key, content, "sha256").hex()
    return hashlib.sha256(content).hexdigest()


def key_name(key: bytes) -> str:
    """Return what tells keys apart and says nothing about them; empty without one."""
    return hmac.digest(key, b"qc-adapter audit key", "sha256").hex()[:8] if key else ""


def utc(seconds: float) -> str:
    """Return a time as RFC 3339 has it, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def last_hash(tail: bytes) -> str:
    """Return the hash of the last whole record in the end of a file, nothing if there is none."""
    lines = tail.split(b"\n")
    for line in reversed(lines[:-1]):  # what stands behind the last line's end is torn
        record = read(line)
        if record is not None:
            return str(record["hash"])
    return NOTHING


def read(line: bytes) -> dict[str, Any] | None:
    """Return a line as a record, None if it is no record of any format."""
    if not line.startswith(b"{"):
        return None
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if type(record) is not dict:
        return None
    is_one = (
        type(record.get("audit")) is int
        and type(record.get("seq")) is int
        and all(type(record.get(name)) is str for name in ("chain", "prev", "hash"))
    )
    return record if is_one else None
