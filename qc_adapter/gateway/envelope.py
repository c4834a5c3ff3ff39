"""Reads the body of a reply, tolerant of everything that gateways in the field are known to send."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qc_adapter.gateway.wire import ReplyHeaders
    from qc_adapter.model.session import Secret

JSON = dict[str, Any] | list[Any] | str | int | float | bool | None
Kind = Literal["html", "empty", "cut", "foreign"]

MAX_REPLY_BYTES = 1 << 20
_MAX_DEPTH = 64
_MAX_TEXT = 200
_MAX_RETCODE = 32

# Only these: some of Python's codecs are slow or do more than reading text.
_CODECS = {
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "gb18030": "gb18030",
    "cp936": "gb18030",
    "iso-8859-1": "latin-1",
    "latin-1": "latin-1",
    "utf-16": "utf-16",
}
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE | re.ASCII)
# An escaped backslash is kept, so that the text "\\u0000" is not mistaken for the character.
_NUL_ESCAPE = re.compile(r"\\(?:(\\)|u0000)")
_NUL_ESCAPE_BYTES = re.compile(rb"\\(?:(\\)|u0000)")
_TOKEN = re.compile(r"[0-9a-fA-F-]{32,}(?:\.\w+)?")
_HIDDEN = "<hidden>"


@dataclass(frozen=True, slots=True)
class RawEvent:
    """An event as the gateway tells it; `work_no` is empty when neither the event nor its envelope names one."""

    event_type: str
    work_no: str
    content: JSON
    gateway_time_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """
    A reply's body.

    `retcode` is empty only for a batch of events that came without one. `unread_events` counts entries in
    the place of events that are none: something was taken from the queue and cannot be handed on.
    """

    retcode: str
    message: str
    result: JSON = field(default=None, repr=False)
    events: tuple[RawEvent, ...] = ()
    unread_events: int = 0


class UnreadableReply(Exception):
    """The body is not an envelope. `why` never quotes the body."""

    def __init__(self, why: str, kind: Kind) -> None:
        super().__init__(why)
        self.why = why
        self.kind: Kind = kind


def read_envelope(
    status: int,
    headers: ReplyHeaders,
    body: bytes,
    *,
    secrets: Iterable[Secret] = (),
    max_bytes: int = MAX_REPLY_BYTES,
) -> Envelope:
    """Return the envelope in a body; `secrets` are cut out of its message. Raises `UnreadableReply`."""
    if len(body) > max_bytes:
        raise UnreadableReply(f"HTTP {status} with a body of more than {max_bytes} bytes", "foreign")
    if not body or not body.strip():
        raise UnreadableReply(f"HTTP {status} with an empty body", "empty")
    fields = _parse(status, headers, body)
    if not isinstance(fields, dict):
        raise UnreadableReply(f"HTTP {status} with JSON that is not an object", "foreign")
    events, unread = _events(fields)
    retcode = _retcode(fields.get("retcode"))
    if not retcode and not events:
        raise UnreadableReply(f"HTTP {status} with JSON that has no retcode", "foreign")
    message = fields.get("message", fields.get("msg"))
    text = plain_text(message, secrets) if isinstance(message, str) and message else ""
    return Envelope(retcode, text, fields.get("result"), events, unread)


def plain_text(text: str, secrets: Iterable[Secret] = ()) -> str:
    """Return a foreign text as one printable line without secrets, at most 200 characters long."""
    for secret in secrets:
        if secret:
            text = text.replace(secret.reveal(), _HIDDEN)
    text = "".join(char if char.isprintable() else " " for char in text)
    text = _TOKEN.sub(_HIDDEN, " ".join(text.split()))
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def _parse(status: int, headers: ReplyHeaders, body: bytes) -> Any:
    body = body.removeprefix(b"\xef\xbb\xbf")
    codec = _declared_codec(headers)
    try:
        if codec is None:
            parsed = orjson.loads(_NUL_ESCAPE_BYTES.sub(_keep_backslash, body) if rb"\u0000" in body else body)
        else:
            parsed = _loads_leniently(body.decode(codec, "replace"))
    except ValueError:
        parsed = _parse_again(status, body)
    if body.count(b"[") + body.count(b"{") > _MAX_DEPTH and _too_deep(parsed):
        raise UnreadableReply(f"HTTP {status} with JSON nested deeper than {_MAX_DEPTH}", "foreign")
    return parsed


def _parse_again(status: int, body: bytes) -> Any:
    """Read what strict reading refused: bytes of another charset, bare control characters in texts."""
    try:
        return _loads_leniently(body.decode("utf-8", "replace"))
    except ValueError:
        start = body.lstrip()[:1]
    if start == b"<":
        raise UnreadableReply(f"HTTP {status} with a page instead of a reply", "html")
    if start in {b"{", b"["}:
        raise UnreadableReply(f"HTTP {status} with JSON that breaks off or is garbled", "cut")
    raise UnreadableReply(f"HTTP {status} with a body that is not JSON", "foreign")


def _loads_leniently(text: str) -> Any:
    """
    Read JSON as the gateway's older clients would; the slow way.

    The second pass takes out what no one after us can write: half characters, numbers that are none.
    """
    text = text.replace("\x00", "").removeprefix("\ufeff")
    if r"\u0000" in text:
        text = _NUL_ESCAPE.sub(_keep_backslash, text)
    try:
        parsed = json.loads(text, strict=False)
        return orjson.loads(json.dumps(parsed, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _keep_backslash(match: re.Match[Any]) -> Any:
    """Return an escaped backslash as it was, and nothing for an escaped NUL."""
    return match[0] if match[1] else match[0][:0]


def _declared_codec(headers: ReplyHeaders) -> str | None:
    """Return the codec of the declared charset, or `None` for UTF-8, unknown ones and none at all."""
    match = _CHARSET.search(headers.first("content-type"))
    return _CODECS.get(match[1].lower()) if match else None


def _too_deep(parsed: Any) -> bool:
    """Whether JSON is nested too deeply for those who read it recursively after us."""
    level = [parsed]
    for _ in range(_MAX_DEPTH + 1):
        nests = [item for item in level if isinstance(item, dict | list)]
        if not nests:
            return False
        level = [child for item in nests for child in (item.values() if isinstance(item, dict) else item)]
    return True


def _retcode(value: Any) -> str:
    """Return the code as text; an empty text when there is none."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return plain_text(value)[:_MAX_RETCODE]
    return ""


def _events(fields: dict[str, Any]) -> tuple[tuple[RawEvent, ...], int]:
    """Return the events of either shape, in order, and how many entries are not readable as events."""
    event = fields.get("event")
    batch = fields.get("eventList")
    if not event and not batch:
        return (), 0
    inherited = _work_no(fields.get("workNo"))
    entries = [
        *(event if isinstance(event, list) else [event]),
        *(batch if isinstance(batch, list) else [batch]),
    ]
    told = [entry for entry in entries if entry]
    events = tuple(found for entry in told if (found := _event(entry, inherited)) is not None)
    return events, len(told) - len(events)


def _event(entry: Any, inherited_work_no: str) -> RawEvent | None:
    if not isinstance(entry, dict):
        return None
    event_type = entry.get("eventType")
    if not isinstance(event_type, str) or not event_type:
        return None
    return RawEvent(
        event_type,
        _work_no(entry.get("workNo")) or inherited_work_no,
        entry.get("content"),
        _milliseconds(entry.get("eventGenTime")),
    )


def _work_no(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _milliseconds(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
