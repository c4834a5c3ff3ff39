"""What stands in an inspector's log: events of the gateway, and gaps where some may be missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TALKING: Final = "AgentEvent_Talking"
CALL_RELEASE: Final = "AgentEvent_Call_Release"
CUSTOMER_RELEASE: Final = "AgentEvent_Customer_Release"
PHONE_ALERTING: Final = "AgentOther_PhoneAlerting"
PHONE_OFFHOOK: Final = "AgentOther_PhoneOffhook"
PHONE_RELEASE: Final = "AgentOther_PhoneRelease"
BUSY: Final = "AgentState_Busy"
READY: Final = "AgentState_Ready"
WORK: Final = "AgentState_Work"
SHUTDOWN: Final = "AgentOther_ShutdownService"
IN_SERVICE: Final = "AgentOther_InService"


class GapReason(StrEnum):
    """Why events may be missing."""

    #: A reply of the gateway was lost on the wire, or a part of it could not be read.
    POLL_REPLY_LOST = "POLL_REPLY_LOST"
    #: The log no longer keeps what came after the cursor.
    CURSOR_EXPIRED = "CURSOR_EXPIRED"
    #: A replica took over from one that went silent, perhaps with a reply in hand.
    TAKEOVER = "TAKEOVER"
    #: The store lost the log, or its end.
    LOG_LOST = "LOG_LOST"


@dataclass(frozen=True, slots=True)
class Details:
    """
    The typed part of an event.

    `kind` is the name of a field in the `details` oneof of the proto message, `fields` its values by name.
    """

    kind: str
    fields: Mapping[str, str | bool | int]


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """
    One event of the gateway.

    `content` is the gateway's JSON as it came. `gateway_time_ms` is milliseconds since the epoch or None (only the 2026
    edition sends it), `received_at` seconds since the epoch. `queued_since` is set when the event may have waited for
    long in the gateway's queue: it happened after that time, in seconds since the epoch.
    """

    event_type: str
    work_no: str
    content: Any
    gateway_time_ms: int | None
    received_at: float
    call_id: str = ""
    details: Details | None = None
    queued_since: float | None = None


#: What a reader of the gateway adds to a log.
Item = AgentEvent | GapReason


@dataclass(frozen=True, slots=True)
class Gap:
    """A place where events may have been lost; the cursors say from where to where."""

    reason: GapReason
    from_cursor: str = ""
    to_cursor: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One item of a log as this replica keeps it.

    `sequence` counts what this replica has seen; `cursor` is the position in the log that all replicas share.
    `logged_at` is when the event was read from the gateway, on the monotonic clock, for the delivery metric.
    """

    cursor: str
    sequence: int
    item: AgentEvent | Gap
    logged_at: float = field(compare=False, default=0.0)
