"""From messages of the contract to lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.json_format import MessageToJson
from google.protobuf.timestamp_pb2 import Timestamp

from qc_adapter.cli.output import BAD, DIM, DOUBT, GOOD, Part, printable
from qc_adapter.v1 import events_pb2 as events
from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import sessions_pb2 as sessions

if TYPE_CHECKING:
    from google.protobuf.message import Message

_STATES: Final = {
    qc.CommandOutcome.CONFIRMED: ("CONFIRMED", GOOD),
    qc.CommandOutcome.UNCONFIRMED: ("UNCONFIRMED", DOUBT),
}
SESSION_STATES: Final[dict[int, tuple[str, str]]] = {
    sessions.SESSION_STATE_UNSPECIFIED: ("not polled yet", DIM),
    sessions.SESSION_STATE_ACTIVE: ("active", GOOD),
    sessions.SESSION_STATE_DEGRADED: ("degraded", DOUBT),
    sessions.SESSION_STATE_LOST: ("lost", BAD),
    sessions.SESSION_STATE_RECOVERING: ("recovering", DOUBT),
}
_NEW_STATE: Final = ("in a state that this version does not know", DIM)
_KIND_WIDTH: Final = 10
_NAME_WIDTH: Final = 26
_LONGEST_CONTENT: Final = 120


def update_parts(update: qc.CommandUpdate) -> list[Part]:
    """Return one update of a command as a line."""
    match update.WhichOneof("update"):
        case "accepted":
            return _line("accepted", GOOD, update.accepted.method, printable(update.accepted.gateway_message))
        case "event":
            return event_parts(update.event)
        case "outcome":
            return _outcome_parts(update.outcome)
        case "gap":
            return _gap_parts(update.gap)
        case _:
            return _line("other", DIM, "an update that this version does not know", "")


def watch_parts(message: events.WatchResponse) -> list[Part]:
    """Return one message of a watch as a line."""
    match message.WhichOneof("update"):
        case "subscribed":
            return _line("subscribed", GOOD, "", f"cursor={message.cursor}")
        case "event":
            return event_parts(message.event)
        case "bookmark":
            name, style = SESSION_STATES.get(message.bookmark.session_state, _NEW_STATE)
            return _line("session", style, name, printable(message.bookmark.detail))
        case "gap":
            return _gap_parts(message.gap)
        case _:
            return _line("other", DIM, "a message that this version does not know", "")


def _gap_parts(gap: events.Gap) -> list[Part]:
    where = f"after {getattr(gap, 'from') or 'the begin'}, certain again at {gap.to}"
    return [(f"GAP: EVENTS MAY BE MISSING HERE ({printable(gap.reason)})", BAD), f" {where}"]


def event_parts(event: events.AgentEvent) -> list[Part]:
    """Return an event as a line."""
    return _line("event", DIM, printable(event.event_type), _event_text(event))


def _event_text(event: events.AgentEvent) -> str:
    kind = event.WhichOneof("details")
    if kind is not None:
        return fields_text(getattr(event, kind))
    if event.content.WhichOneof("kind") in (None, "null_value"):
        return ""
    text = printable(MessageToJson(event.content, indent=None))
    return text if len(text) <= _LONGEST_CONTENT else text[:_LONGEST_CONTENT] + "..."


def fields_text(message: Message) -> str:
    """Return the fields that are set, as name=value."""
    shown = []
    for field, value in message.ListFields():
        if field.enum_type is not None:
            text = field.enum_type.values_by_number[value].name
        elif isinstance(value, Timestamp):
            text = value.ToJsonString()
        else:
            text = printable(str(value))
        shown.append(f"{field.name}={text}")
    return " ".join(shown)


def activity_text(session: sessions.Session) -> str:
    """Return what the inspector does, of whom, and since when."""
    if session.inspector_state not in sessions.InspectorState.values():
        return str(session.inspector_state)
    name = sessions.InspectorState.Name(session.inspector_state).removeprefix("INSPECTOR_STATE_")
    if session.inspector_state == sessions.INSPECTOR_STATE_UNSPECIFIED:
        return "unknown"
    of = f" {session.inspected_work_no}" if session.inspected_work_no else ""
    since = f" since {session.inspector_state_since.ToDatetime():%H:%M:%S}"
    return name.lower().replace("_", " ") + of + (since if session.HasField("inspector_state_since") else "")


def _outcome_parts(outcome: qc.CommandOutcome) -> list[Part]:
    name, style = _STATES.get(outcome.state, ("accepted, no event can confirm it here", DIM))
    texts = [f"call_id={printable(outcome.call_id)}"] if outcome.call_id else []
    if outcome.HasField("proof"):
        texts.append(f"by {printable(outcome.proof.event_type)} of agent {printable(outcome.proof.work_no)}")
    if outcome.missing_event_types:
        texts.append("missing: " + ", ".join(map(printable, outcome.missing_event_types)))
    return _line("outcome", style, name, "  ".join(texts))


def _line(kind: str, style: str, name: str, text: str) -> list[Part]:
    rest = f"{name:<{_NAME_WIDTH}}  {text}" if name and text else name or text
    return [(f"{kind:<{_KIND_WIDTH}}", style), f" {rest}".rstrip()]
