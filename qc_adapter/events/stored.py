"""How a log stands in Redis: an item as one line of JSON, and what its events and receipts add up to."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

from qc_adapter.events.inspection import Inspection, Mode
from qc_adapter.events.model import GapReason, Item
from qc_adapter.events.standing import Phase, Standing
from qc_adapter.events.translate import translate
from qc_adapter.gateway.envelope import RawEvent

_GAP: Final = "gap"
#: In the place of `content` when it holds what the fast encoder refuses, like numbers of more than 64 bits.
_ODD_CONTENT: Final = "content_json"


def to_line(item: Item) -> bytes:
    """Return the item as JSON without a line break."""
    if isinstance(item, GapReason):
        return orjson.dumps({_GAP: item.value})
    fields: dict[str, Any] = {
        "type": item.event_type,
        "work_no": item.work_no,
        "gateway_time_ms": item.gateway_time_ms,
        "received_at": item.received_at,
        "content": item.content,
    }
    if item.queued_since is not None:
        fields["queued_since"] = item.queued_since
    try:
        return orjson.dumps(fields)
    except (TypeError, ValueError):
        fields[_ODD_CONTENT] = json.dumps(fields.pop("content"))
        return json.dumps(fields).encode()


def from_line(line: bytes) -> Item:
    """Return the item; a reason for a gap that a newer release wrote is taken for the most general one."""
    fields = orjson.loads(line)
    if _GAP in fields:
        reason = fields[_GAP]
        return GapReason(reason) if reason in GapReason.__members__ else GapReason.LOG_LOST
    content = json.loads(fields[_ODD_CONTENT]) if _ODD_CONTENT in fields else fields["content"]
    raw = RawEvent(fields["type"], fields["work_no"], content, fields["gateway_time_ms"])
    return translate(raw, fields["received_at"], queued_since=fields.get("queued_since"))


def call_ids(text: str) -> frozenset[str]:
    """Return the calls that `to_call_ids` wrote."""
    return frozenset(orjson.loads(text)) if text else frozenset()


def to_call_ids(talking: frozenset[str]) -> str:
    """Return the calls an inspector talks on as text, empty for none."""
    return orjson.dumps(sorted(talking)).decode() if talking else ""


def to_standing(standing: Standing) -> str:
    """Return how an inspector stands as text; the calls have a text of their own, which older releases read too."""
    flags = [standing.doubtful, standing.off_hook, standing.busy]
    return orjson.dumps([standing.phase.value, standing.since, standing.turn, *flags]).decode()


def from_standing(text: str, talking: str) -> Standing:
    """Return what `to_standing` and `to_call_ids` wrote; what cannot be read is not known."""
    calls = call_ids(talking)
    try:
        phase, since, turn, doubtful, off_hook, busy = orjson.loads(text)
        return Standing(Phase(phase), since, turn, calls, doubtful, off_hook, busy)
    except (ValueError, TypeError):  # none yet, or that of another release
        return Standing(talking=calls)


def to_inspection(inspection: Inspection | None) -> str:
    """Return an inspection as text, empty for none."""
    if inspection is None:
        return ""
    mode = inspection.mode and inspection.mode.value
    times = [inspection.sent_at, inspection.mode_since]
    return orjson.dumps([inspection.work_no, inspection.first, inspection.last, mode, *times]).decode()


def from_inspection(text: str) -> Inspection | None:
    """Return what `to_inspection` wrote; what cannot be read is none."""
    try:
        work_no, first, last, mode, sent_at, mode_since = orjson.loads(text)
        return Inspection(work_no, first, last, sent_at, mode and Mode(mode), mode_since)
    except (ValueError, TypeError):
        return None
