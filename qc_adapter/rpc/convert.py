"""From values of the domain to messages of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from qc_adapter.commands.model import Accepted, Missed, Outcome, Told
from qc_adapter.events.activity import SIGNED_OUT, InspectorState
from qc_adapter.events.leases import PollState, PollStatus
from qc_adapter.events.model import AgentEvent, Gap
from qc_adapter.events.shapes import TIMES
from qc_adapter.model.inspector import number_of
from qc_adapter.model.session import EventSource
from qc_adapter.sessions.orders import NOTHING_KEPT
from qc_adapter.v1 import events_pb2 as events
from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import sessions_pb2 as sessions

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Value

    from qc_adapter.commands.model import Update, Verdict
    from qc_adapter.events.activity import Activity
    from qc_adapter.events.feed import Feed
    from qc_adapter.events.model import Details, Entry
    from qc_adapter.model.session import Session
    from qc_adapter.sessions.orders import Kept

#: Readers of protobuf refuse messages nested deeper than 100; each level of JSON takes up to three.
_DEEPEST: Final = 24
#: Doubles, which `Value` has for numbers, are exact up to here.
_EXACT: Final = 2**53
#: The last millisecond that a `Timestamp` may hold.
_LAST_MS: Final = 253_402_300_799_999

_SOURCES: Final = {
    EventSource.POLL: sessions.EVENT_SOURCE_POLL,
    EventSource.PUSH: sessions.EVENT_SOURCE_PUSH,
    EventSource.NONE: sessions.EVENT_SOURCE_NONE,
}
_STATES: Final = {
    PollState.STARTING: sessions.SESSION_STATE_UNSPECIFIED,
    PollState.ACTIVE: sessions.SESSION_STATE_ACTIVE,
    PollState.DEGRADED: sessions.SESSION_STATE_DEGRADED,
    PollState.LOST: sessions.SESSION_STATE_LOST,
    PollState.RECOVERING: sessions.SESSION_STATE_RECOVERING,
}
_INSPECTOR_STATES: Final = {
    InspectorState.UNKNOWN: sessions.INSPECTOR_STATE_UNSPECIFIED,
    InspectorState.IDLE: sessions.INSPECTOR_STATE_IDLE,
    InspectorState.SEIZED: sessions.INSPECTOR_STATE_SEIZED,
    InspectorState.LISTENING: sessions.INSPECTOR_STATE_LISTENING,
    InspectorState.INSERTED: sessions.INSPECTOR_STATE_INSERTED,
    InspectorState.WHISPERING: sessions.INSPECTOR_STATE_WHISPERING,
    InspectorState.INTERCEPTED: sessions.INSPECTOR_STATE_INTERCEPTED,
    InspectorState.SIGNED_OUT: sessions.INSPECTOR_STATE_SIGNED_OUT,
    InspectorState.AWAY: sessions.INSPECTOR_STATE_AWAY,
}


def timestamp(seconds: float) -> Timestamp:
    """Return seconds since the epoch as a timestamp."""
    made = Timestamp()
    _set_seconds(made, seconds)
    return made


def _set_seconds(time: Timestamp, seconds: float) -> None:
    time.seconds = whole = int(seconds)
    time.nanos = int((seconds - whole) * 1e9)


def _set_ms(time: Timestamp, milliseconds: int) -> None:
    """Set milliseconds since the epoch; in whole numbers, so that the caller reads back the very same."""
    time.seconds, rest = divmod(milliseconds, 1000)
    time.nanos = rest * 1_000_000


def update_message(update: Update) -> qc.CommandUpdate:
    """Return one update of a command's stream."""
    message = qc.CommandUpdate(cursor=update.cursor)
    match update:
        case Told():
            _tell(message.event, update.cursor, update.event)
        case Accepted():
            accepted = message.accepted
            accepted.method, accepted.gateway_message = update.method, update.message
            _set_seconds(accepted.time, update.received_at)
        case Missed():
            message.gap.CopyFrom(_gap(update.gap))
        case Outcome():
            _set_outcome(message.outcome, update.verdict)
    return message


def _set_outcome(outcome: qc.CommandOutcome, verdict: Verdict) -> None:
    outcome.SetInParent()  # also if nobody knows more than that it was accepted
    if verdict.confirmed is None:
        return
    outcome.state = qc.CommandOutcome.CONFIRMED if verdict.confirmed else qc.CommandOutcome.UNCONFIRMED
    outcome.missing_event_types.extend(verdict.missing)
    outcome.call_id = verdict.call_id
    proof = verdict.proof
    if proof is not None and isinstance(proof.item, AgentEvent):
        _tell(outcome.proof, proof.cursor, proof.item)


def watch_message(entry: Entry) -> events.WatchResponse:
    """Return one entry of a log as a message of a Watch stream."""
    if isinstance(entry.item, Gap):
        return gap_message(entry.cursor, entry.item)
    message = events.WatchResponse(cursor=entry.cursor)
    _tell(message.event, entry.cursor, entry.item)
    return message


def gap_message(cursor: str, gap: Gap) -> events.WatchResponse:
    """Return a gap as a message of a Watch stream."""
    return events.WatchResponse(cursor=cursor, gap=_gap(gap))


def bookmark_message(cursor: str, feed: Feed) -> events.WatchResponse:
    """Return a position, with what is known of the session."""
    state = sessions.SESSION_STATE_UNSPECIFIED if feed.state is None else _STATES[feed.state]
    return events.WatchResponse(cursor=cursor, bookmark=events.Bookmark(session_state=state, detail=feed.detail))


def _gap(gap: Gap) -> events.Gap:
    message = events.Gap(reason=gap.reason, to=gap.to_cursor)
    setattr(message, "from", gap.from_cursor)  # a keyword of Python
    return message


def event_message(cursor: str, event: AgentEvent) -> events.AgentEvent:
    """Return an event with its details and its whole content."""
    message = events.AgentEvent()
    _tell(message, cursor, event)
    return message


def _tell(message: events.AgentEvent, cursor: str, event: AgentEvent) -> None:
    """Set the fields where they are to stand: a message that is made apart and then copied takes four times as long."""
    message.cursor = cursor
    message.event_type = event.event_type
    message.work_no = event.work_no
    _set_seconds(message.received_time, event.received_at)
    set_json(message.content, event.content)
    # A time before 1970 or after the year 9999 is none: it would make the message unreadable as JSON.
    if event.gateway_time_ms is not None and 0 <= event.gateway_time_ms <= _LAST_MS:
        _set_ms(message.gateway_time, event.gateway_time_ms)
    if event.details is not None:
        _set_details(getattr(message, event.details.kind), event.details)


def _set_details(message: Any, details: Details) -> None:
    message.SetInParent()  # also if there is no field of it
    for name, value in details.fields.items():
        if name in TIMES:
            _set_ms(getattr(message, name), int(value))
        else:
            setattr(message, name, value)


def set_json(value: Value, content: Any, depth: int = 0) -> None:
    """
    Set a `Value` to JSON.

    A whole number that a double cannot hold, and what lies deeper than readers accept, becomes text.
    """
    if isinstance(content, str):
        value.string_value = content
    elif content is None:
        value.null_value = 0  # type: ignore[assignment]
    elif isinstance(content, bool):
        value.bool_value = content
    elif isinstance(content, (int, float)):
        if isinstance(content, int) and abs(content) > _EXACT:
            value.string_value = str(content)
        else:
            value.number_value = content
    elif depth >= _DEEPEST:
        value.string_value = orjson.dumps(content).decode()
    elif isinstance(content, dict):
        value.struct_value.SetInParent()  # also if it is empty
        fields = value.struct_value.fields
        for key, one in content.items():
            set_json(fields[key], one, depth + 1)
    else:
        value.list_value.SetInParent()
        values = value.list_value.values
        for one in content:
            set_json(values.add(), one, depth + 1)


def session_message(session: Session, status: PollStatus | None, kept: Kept = NOTHING_KEPT) -> sessions.Session:
    """Return a session without what proves it."""
    message = sessions.Session(
        agent_id=number_of(session.agent_id),
        gateway=session.gateway,
        event_source=_SOURCES[session.event_source],
        server_name=session.server_name,
        re_sign_in=sessions.RE_SIGN_IN_SAME_CREDENTIALS if kept.again else sessions.RE_SIGN_IN_NEVER,
        monitored_agents=kept.monitored,
    )
    if session.signed_in_at:
        message.signed_in_time.CopyFrom(timestamp(session.signed_in_at))
    if status is not None:
        message.state = _STATES[status.state]
        message.detail = status.detail
        if status.answered_time:
            message.last_poll_time.CopyFrom(timestamp(status.answered_time))
        _tell_activity(message, SIGNED_OUT if status.state is PollState.LOST else status.activity)
    return message


def _tell_activity(message: sessions.Session, activity: Activity) -> None:
    message.inspector_state = _INSPECTOR_STATES[activity.state]
    message.inspected_work_no = activity.work_no
    if activity.since and activity.state is not InspectorState.UNKNOWN:
        message.inspector_state_since.CopyFrom(timestamp(activity.since))
