"""From values of the domain to messages of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
from google.protobuf.struct_pb2 import ListValue, Struct, Value
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
    from qc_adapter.commands.model import Update
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

_DETAILS: Final[dict[str, type[Any]]] = {
    "talking": events.Call,
    "call": events.Call,
    "record": events.Recording,
    "call_release": events.CallRelease,
    "phone": events.Phone,
    "qc": events.QualityControlNotice,
    "state": events.StateChange,
    "session": events.SessionChange,
    "monitored": events.MonitoredAgent,
}

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
    whole = int(seconds)
    return Timestamp(seconds=whole, nanos=int((seconds - whole) * 1e9))


def _timestamp_ms(milliseconds: int) -> Timestamp:
    """Return milliseconds since the epoch; in whole numbers, so that the caller reads back the very same."""
    seconds, rest = divmod(milliseconds, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def update_message(update: Update) -> qc.CommandUpdate:
    """Return one update of a command's stream."""
    match update:
        case Told():
            return qc.CommandUpdate(cursor=update.cursor, event=event_message(update.cursor, update.event))
        case Accepted():
            accepted = qc.CommandAccepted(
                method=update.method, gateway_message=update.message, time=timestamp(update.received_at)
            )
            return qc.CommandUpdate(cursor=update.cursor, accepted=accepted)
        case Missed():
            return qc.CommandUpdate(cursor=update.cursor, gap=_gap(update.gap))
        case Outcome():
            return qc.CommandUpdate(cursor=update.cursor, outcome=_outcome(update))


def _outcome(update: Outcome) -> qc.CommandOutcome:
    verdict = update.verdict
    if verdict.confirmed is None:
        return qc.CommandOutcome()
    return qc.CommandOutcome(
        state=qc.CommandOutcome.CONFIRMED if verdict.confirmed else qc.CommandOutcome.UNCONFIRMED,
        missing_event_types=verdict.missing,
        call_id=verdict.call_id,
        proof=_proof(verdict.proof),
    )


def _proof(entry: Entry | None) -> events.AgentEvent | None:
    if entry is None or not isinstance(entry.item, AgentEvent):
        return None
    return event_message(entry.cursor, entry.item)


def watch_message(entry: Entry) -> events.WatchResponse:
    """Return one entry of a log as a message of a Watch stream."""
    if isinstance(entry.item, Gap):
        return gap_message(entry.cursor, entry.item)
    return events.WatchResponse(cursor=entry.cursor, event=event_message(entry.cursor, entry.item))


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
    message = events.AgentEvent(
        cursor=cursor,
        event_type=event.event_type,
        work_no=event.work_no,
        received_time=timestamp(event.received_at),
        content=json_value(event.content),
    )
    # A time before 1970 or after the year 9999 is none: it would make the message unreadable as JSON.
    if event.gateway_time_ms is not None and 0 <= event.gateway_time_ms <= _LAST_MS:
        message.gateway_time.CopyFrom(_timestamp_ms(event.gateway_time_ms))
    if event.details is not None:
        getattr(message, event.details.kind).CopyFrom(_details(event.details))
    return message


def _details(details: Details) -> Any:
    fields: dict[str, Any] = {
        name: _timestamp_ms(int(value)) if name in TIMES else value for name, value in details.fields.items()
    }
    return _DETAILS[details.kind](**fields)


def json_value(content: Any, depth: int = 0) -> Value:
    """
    Return JSON as a `Value`.

    A whole number that a double cannot hold, and what lies deeper than readers accept, becomes text.
    """
    if content is None:
        return Value(null_value=0)  # type: ignore[arg-type]
    if isinstance(content, str):
        return Value(string_value=content)
    if isinstance(content, bool):
        return Value(bool_value=content)
    if isinstance(content, (int, float)):
        if isinstance(content, int) and abs(content) > _EXACT:
            return Value(string_value=str(content))
        return Value(number_value=content)
    if depth >= _DEEPEST:
        return Value(string_value=orjson.dumps(content).decode())
    if isinstance(content, dict):
        fields = {key: json_value(value, depth + 1) for key, value in content.items()}
        return Value(struct_value=Struct(fields=fields))
    return Value(list_value=ListValue(values=[json_value(value, depth + 1) for value in content]))


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
