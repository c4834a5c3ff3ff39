"""Reads the body of a reply, tolerant of everything that gateways in the field are known to send."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qc_adapter.gateway.foreign_text import plain_text
from qc_adapter.gateway.json_text import JSON, UnreadableReply, read_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qc_adapter.gateway.wire import ReplyHeaders
    from qc_adapter.model.session import Secret

__all__ = [
    "JSON",
    "MAX_EVENTS",
    "MAX_REPLY_BYTES",
    "Envelope",
    "RawEvent",
    "UnreadableReply",
    "plain_text",
    "read_envelope",
]

MAX_REPLY_BYTES = 1 << 20
#: So many events are taken from the reply to a poll; a gateway sends one, or a handful.
MAX_EVENTS = 2000
_MAX_RETCODE = 32

#: The one code of success (CONTRACT of the gateway: every interface page).
_OK = "0"
#: The keys of an event that are no part of what it tells.
_EVENT_KEYS = frozenset({"eventType", "workNo", "content", "eventGenTime", "jsonKey"})


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

    `retcode` is empty only for events that came without one: nothing has been said of success. `unread_events` counts
    entries in the place of events that are none: something was taken from the queue and cannot be handed on.
    """

    retcode: str
    message: str
    result: JSON = field(default=None, repr=False)
    events: tuple[RawEvent, ...] = ()
    unread_events: int = 0


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
    fields = read_json(status, headers, body)
    if not isinstance(fields, dict):
        raise UnreadableReply(f"HTTP {status} with JSON that is not an object", "foreign")
    events, unread = _events(fields)
    retcode = _retcode(fields.get("retcode"), secrets)
    if not retcode and not events and not isinstance(fields.get("eventList"), list):
        raise UnreadableReply(f"HTTP {status} with JSON that has no retcode", "foreign")
    message = fields.get("message", fields.get("msg"))
    text = plain_text(message, secrets) if isinstance(message, str) and message else ""
    return Envelope(retcode, text, fields.get("result"), events, unread)


def _retcode(value: Any, secrets: Iterable[Secret]) -> str:
    """Return the code as text; an empty text when there is none, or what only looks like success once it is cleaned."""
    if value == _OK:  # of nearly every reply
        return _OK
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        text = plain_text(value, secrets)[:_MAX_RETCODE]
        return text if text != _OK or value == _OK else ""
    return ""


def _events(fields: dict[str, Any]) -> tuple[tuple[RawEvent, ...], int]:
    """Return the events of either shape, in order, and how many entries are not readable as events."""
    entries = [*_entries(fields.get("event")), *_entries(fields.get("eventList"))]
    if not entries:
        return (), 0
    inherited = _work_no(fields.get("workNo"))
    events = tuple(found for entry in entries if (found := _event(entry, inherited)) is not None)
    return events, len(entries) - len(events)


def _entries(value: Any) -> list[Any]:
    """Return what stands in the place of events; null and the empty text, object and list are "no event"."""
    if isinstance(value, list):
        return value
    return [] if value is None or value in ("", {}) else [value]


def _event(entry: Any, inherited_work_no: str) -> RawEvent | None:
    if not isinstance(entry, dict):
        return None
    event_type = entry.get("eventType")
    # One page's example has a blank before the name (cec_07_1406).
    if not isinstance(event_type, str) or not (event_type := event_type.strip()):
        return None
    return RawEvent(
        event_type,
        _work_no(entry.get("workNo")) or inherited_work_no,
        _content(entry),
        _milliseconds(entry.get("eventGenTime")),
    )


def _content(entry: dict[str, Any]) -> JSON:
    """Return what the event tells; an event without `content` tells it by keys of its own."""
    content: JSON = entry.get("content")
    if content is None:
        return {key: value for key, value in entry.items() if key not in _EVENT_KEYS} or None
    return content


def _work_no(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _milliseconds(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
