"""
Everything that can go wrong, as the domain names it; `rpc.errors` alone knows status codes.

AdapterError
├── CallerUnknown                 who calls could not be found out
├── CallerUnverifiable            who calls cannot be found out at this moment
├── CallerNotAllowed              the policy does not let this caller do this
├── InvalidRequest                the caller must change the request
├── NotSignedIn                   no session is stored for the inspector
├── SessionLost                   the gateway no longer knows the stored session
├── SessionConflict               another client takes the session over again and again
├── SessionRecovering             the gateway forgot the session, and it is just being signed in again
├── SessionUnreadable             what is stored for the inspector is not a session of it
├── SessionBusy                   the inspector is just being signed in or out
├── EventsReadElsewhere           the events of this session come another way
├── GatewayError                  what one request to the gateway can end with
│   ├── GatewayRefused            understood and declined, with a retcode
│   ├── GatewayUnavailable        certainly not executed; may be tried again
│   ├── GatewayMisconfigured      something that is not the gateway answered, or trust failed
│   ├── OutcomeUnknown            perhaps executed; to be verified, never repeated blindly
│   └── PollFailed                a poll brought no readable reply; it may have taken an event away
├── DeadlineExceeded              the caller's deadline came first
├── RequestIdReused               a request id came back with another command
├── CursorExpired                 the position is no longer kept
├── InvalidCursor                 the text is not a cursor
├── SlowConsumer                  the reader fell further behind than the log keeps
├── StoreUnavailable              the session store cannot be reached
├── TooManyStreams                this replica has as many open streams as it may
├── LimitReached                  a caller, or all of them, may do no more at this moment
├── AuditUnavailable              what is done cannot be put on record, so nothing is done
├── InternalFault                 a defect of the adapter; its log says which
└── Draining                      this replica is going away
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qc_adapter.model.session import EventSource, Renewal

InvalidReason = Literal["INVALID_AGENT_ID", "SELF_INSPECTION", "INVALID_ARGUMENT"]


class AdapterError(Exception):
    """What a caller is told. The message never holds a GUID, password or cookie."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def afresh(self) -> Self:
        """Return the error to be raised; this one is kept, and would keep alive all frames that it passes through."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.args = self.args
        return other

    def adding(self, more: str) -> Self:
        """Return the error with more to say; this one, which others may be told too, stays as it is."""
        other = self.afresh()
        other.message = f"{self.message}; {more}"
        other.args = (other.message,)
        return other


class CallerUnknown(AdapterError):
    """
    Who calls could not be found out; `why` says what to change, and repeats nothing of a token.

    `outcome` is `unknown` where it ends a command that is under way.
    """

    def __init__(self, why: str, outcome: Literal["", "unknown"] = "") -> None:
        super().__init__(f"the caller is not known: {why}")
        self.outcome = outcome


class CallerUnverifiable(AdapterError):
    """Who calls cannot be found out at this moment, for reasons of ours; nothing was done."""

    retry_seconds = 5.0

    def __init__(self, why: str) -> None:
        super().__init__(f"the caller cannot be verified: {why}; nothing was done, try again")


class CallerNotAllowed(AdapterError):
    """
    The policy does not let this caller do this. What it does allow is not told to whom it does not trust.

    `outcome` is of a command whose stream ends because the policy was changed: it is not undone.
    """

    def __init__(self, caller: str, what: str, outcome: str = "") -> None:
        super().__init__(f"the policy does not let {caller} do this: {what}")
        self.caller = caller
        self.outcome = outcome


class InvalidRequest(AdapterError):
    """The request cannot be carried out as it is; says which fields to change."""

    def __init__(
        self,
        violations: Sequence[tuple[str, str]],
        reason: InvalidReason = "INVALID_ARGUMENT",
    ) -> None:
        super().__init__("; ".join(f"{field}: {what}" for field, what in violations))
        self.violations = tuple(violations)
        self.reason: InvalidReason = reason


class NotSignedIn(AdapterError):
    """No session is stored for the inspector."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(
            f"no session is stored for inspector {agent_id}: sign in with InspectorSessions.SignIn, "
            f"or adopt a session that another system opened",
        )
        self.agent_id = agent_id


class SessionLost(AdapterError):
    """The gateway no longer knows the stored session."""

    def __init__(self, agent_id: str, retcode: str) -> None:
        super().__init__(
            f"the gateway no longer knows the session of inspector {agent_id} (retcode {retcode}): sign in again",
        )
        self.agent_id = agent_id
        self.retcode = retcode


class SessionConflict(AdapterError):
    """Another client takes the inspector's session over again and again, and this adapter has given way."""

    def __init__(self, agent_id: str, retcode: str) -> None:
        super().__init__(
            f"another client takes inspector {agent_id} over again and again (retcode {retcode}): let one system sign "
            f"the inspector in, then sign in again",
        )
        self.agent_id = agent_id
        self.retcode = retcode


class SessionRecovering(AdapterError):
    """The gateway no longer knows the session, and the adapter is signing the inspector in again: nothing was done."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(
            f"the gateway no longer knows the session of inspector {agent_id}, which is just being signed in again: "
            f"nothing was done, try again",
        )
        self.agent_id = agent_id


class SessionUnreadable(AdapterError):
    """
    What is stored for the inspector is not a session of it; whoever wrote it has to write it anew.

    With `key` it is one that is sealed with the key of that name: replicas that have it can use it.
    """

    def __init__(self, agent_id: str, why: str, key: str = "") -> None:
        super().__init__(f"the stored session of inspector {agent_id} cannot be used: {why}")
        self.agent_id = agent_id
        self.key = key


class SessionBusy(AdapterError):
    """The inspector is just being signed in or out; the two must never overlap (cec_07_1202)."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"inspector {agent_id} is just being signed in or out: wait for that call to end")
        self.agent_id = agent_id


class EventsReadElsewhere(AdapterError):
    """The events of this session come another way; what is fed in would stand in its log twice, or out of order."""

    def __init__(self, agent_id: str, source: EventSource) -> None:
        super().__init__(
            f"the events of inspector {agent_id} come by {source}: only those of a session with event source none are "
            f"fed in, and only those of one with event source push are pushed"
        )
        self.agent_id = agent_id


class GatewayError(AdapterError):
    """One request to the gateway did not succeed; `method` is the gateway's name of the operation."""

    def __init__(self, method: str, message: str) -> None:
        super().__init__(message)
        self.method = method


class Seen(NamedTuple):
    """What the adapter saw of an inspector whose command was refused, and what it makes of that; empty for nothing."""

    inspector_state: str = ""
    inspected_work_no: str = ""
    hint: str = ""


NOTHING_SEEN: Final = Seen()


class GatewayRefused(GatewayError):
    """The gateway understood the request and declined it. With `event_may_be_lost` a gap has to be reported."""

    def __init__(
        self, method: str, retcode: str, text: str, renewal: Renewal | None = None, *, event_may_be_lost: bool = False
    ) -> None:
        super().__init__(method, f"the gateway refused {method} with retcode {retcode}" + (f": {text}" if text else ""))
        self.retcode = retcode
        self.text = text
        self.renewal = renewal
        self.event_may_be_lost = event_may_be_lost
        self.seen = NOTHING_SEEN


class GatewayUnavailable(GatewayError):
    """Nothing was sent: certainly not executed, and may be tried again after a moment."""

    def __init__(self, method: str, message: str, *, retry_seconds: float = 1.0) -> None:
        super().__init__(method, message)
        self.retry_seconds = retry_seconds


class GatewayMisconfigured(GatewayError):
    """A proxy, an allow list or a certificate stands between the adapter and the gateway."""


class OutcomeUnknown(GatewayError):
    """The request may have arrived and no retcode came back."""

    def __init__(self, method: str, message: str, renewal: Renewal | None = None) -> None:
        super().__init__(method, message)
        self.renewal = renewal


class PollFailed(GatewayError):
    """
    A poll brought no readable reply. With `event_may_be_lost` a gap has to be reported.

    With `still_held` no reply of the gateway itself came: it may hold the poll on, and give it an event later.
    """

    def __init__(
        self,
        method: str,
        message: str,
        *,
        event_may_be_lost: bool,
        still_held: bool = False,
        renewal: Renewal | None = None,
    ) -> None:
        super().__init__(method, message)
        self.event_may_be_lost = event_may_be_lost
        self.still_held = still_held
        self.renewal = renewal


class DeadlineExceeded(AdapterError):
    """The caller's deadline came first."""

    def __init__(
        self, message: str, outcome: Literal["", "not_sent", "unknown", "confirmed"], cursor: str = ""
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.cursor = cursor


class RequestIdReused(AdapterError):
    """The request id already names another command."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"request_id {request_id!r} was used for another command within the last 10 minutes: use a new one",
        )


class InvalidCursor(AdapterError):
    """The text is not a cursor of this service."""

    def __init__(self) -> None:
        super().__init__("the cursor is not one that this service gave out: leave it empty to start now, or 'oldest'")


class CursorExpired(AdapterError):
    """
    The position lies before the oldest event that is kept, or in a log that no longer exists.

    `go_on` is the cursor from which on the log is whole.
    """

    def __init__(self, cursor: str, go_on: str) -> None:
        super().__init__(
            "the events after this cursor are no longer kept: start at 'oldest' or now, "
            "or ask for a gap with on_expired = ON_EXPIRED_GAP",
        )
        self.cursor = cursor
        self.go_on = go_on


class SlowConsumer(AdapterError):
    """The reader fell further behind than the log keeps."""

    def __init__(self, cursor: str) -> None:
        super().__init__(
            "the stream was read too slowly and events were dropped: read faster, or resume from the cursor"
        )
        self.cursor = cursor


class StoreUnavailable(AdapterError):
    """
    The store cannot be used; `operation` says what was tried.

    With `wrong_type` a key holds what is not ours: a fault of its writer, not of the store.
    """

    def __init__(self, operation: str, why: str, *, wrong_type: bool = False) -> None:
        super().__init__(f"the session store cannot be reached ({operation}: {why}): try again")
        self.operation = operation
        self.wrong_type = wrong_type


class InternalFault(AdapterError):
    """A defect of the adapter. The caller learns no more than that; the log has the rest."""

    def __init__(self) -> None:
        super().__init__("internal error of the adapter: see its log for this call")


class TooManyStreams(AdapterError):
    """This replica has as many open streams as it may."""

    limit = "streams"

    def __init__(self, most: int) -> None:
        super().__init__(f"this replica has {most} open streams, which is its limit: try another one, or later")


class LimitReached(AdapterError):
    """
    A caller, or all of them together, may do no more at this moment.

    `limit` names what ran out, as in the policy: calls, calls_per_second, streams, streams_per_inspector,
    message_bytes, commands_per_inspector. Nothing was done; after `retry_seconds` it may be tried again, never if 0.
    """

    def __init__(self, limit: str, what: str, retry_seconds: float = 1.0) -> None:
        super().__init__(what)
        self.limit = limit
        self.retry_seconds = retry_seconds


class AuditUnavailable(AdapterError):
    """What is done cannot be put on record, so nothing is done."""

    def __init__(self) -> None:
        super().__init__("the audit log cannot be written, so nothing was done: try again, or another replica")


class Draining(AdapterError):
    """This replica is going away; another one goes on from the cursor."""

    def __init__(self, cursor: str = "", outcome: Literal["", "accepted", "confirmed"] = "") -> None:
        done = f"the command was {outcome}, do not repeat it: " if outcome else ""
        super().__init__(f"{done}this replica is shutting down, watch the events on another one from the last cursor")
        self.cursor = cursor
        self.outcome = outcome
