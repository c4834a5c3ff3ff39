"""
From the gateway's raw event to a typed one.

Every type that inspection needs gets typed details, as `events.shapes` says; any other passes through with its content
whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qc_adapter.events.model import AgentEvent, Details
from qc_adapter.events.shapes import CALL_ID_KEYS, MONITORED, SHAPES, TIMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.gateway.envelope import RawEvent


def translate(raw: RawEvent, received_at: float, *, work_no: str = "", queued_since: float | None = None) -> AgentEvent:
    """
    Return the typed event; never fails, whatever the content looks like.

    It is about the agent with that number, whose poll brought it, or by default the one that `raw` names; news of a
    monitored agent is about that one.
    """
    details = _details(raw.event_type, raw.content)
    return AgentEvent(
        event_type=raw.event_type,
        work_no=_monitored(details) or work_no or raw.work_no,
        content=raw.content,
        gateway_time_ms=raw.gateway_time_ms,
        received_at=received_at,
        call_id=_call_id(raw.content, details),
        details=details,
        queued_since=queued_since,
    )


def _monitored(details: Details | None) -> str:
    """Return the agent that an inspector monitors, where the event is news of one and names it."""
    if details is None or details.kind != MONITORED:
        return ""
    return str(details.fields.get("work_no", "")).strip()


def _details(event_type: str, content: Any) -> Details | None:
    shape = SHAPES.get(event_type)
    if shape is None:
        return None
    fields: dict[str, str | bool | int] = dict(shape.constants)
    if isinstance(content, str):
        # The bare text of these events is the call id (cec_07_1363).
        if "call_id" in shape.keys:
            fields["call_id"] = content
    elif isinstance(content, dict):
        for name, keys in shape.keys.items():
            found = content.get(keys[0])
            # Nearly always a text stands under the first key; some hundred fields a second come by here.
            text = found if type(found) is str and found else _first(content, keys)
            if text and name in TIMES:
                _take_time(fields, name, text)
            elif text:
                fields[name] = text
        for name, (key, numbers) in shape.codes.items():
            fields[name] = numbers.get(_text(content.get(key)), 0)
    if shape.kind == "state" and fields.get("reason") == "3":
        fields["forced"] = True  # busy reason 3 = by an inspector (cec_07_1346)
    return Details(shape.kind, fields)


def _first(content: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """Return the first text that stands under one of the keys: where two spellings come, one may be empty."""
    for key in keys:
        value = _within(content, key) if "." in key else content.get(key)
        if value is not None and (text := _text(value)):
            return text
    return ""


def _within(content: Mapping[str, Any], path: str) -> Any:
    outer, inner = path.split(".")
    value = content.get(outer)
    return value.get(inner) if isinstance(value, dict) else None


def _take_time(fields: dict[str, str | bool | int], name: str, text: str) -> None:
    if text.isascii() and text.isdigit() and len(text) <= 14:  # milliseconds until the year 5138
        fields[name] = int(text)


def _text(value: Any) -> str:
    """Return a text or a number as text; anything else is none."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _call_id(content: Any, details: Details | None) -> str:
    if details is not None:
        return str(details.fields.get("call_id", ""))
    return _first(content, CALL_ID_KEYS) if isinstance(content, dict) else ""
