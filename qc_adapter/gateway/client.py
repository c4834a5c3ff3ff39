"""The gateway as the adapter's other parts see it: typed calls in, values or domain errors out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from qc_adapter.gateway import request_spans, requests
from qc_adapter.gateway.bulkhead import Bulkhead
from qc_adapter.gateway.circuit import Circuit
from qc_adapter.gateway.envelope import MAX_EVENTS, Envelope
from qc_adapter.gateway.observation import GatewayCall, GatewayHealth, Outcome, outcome_of
from qc_adapter.gateway.renewal import read_guid, read_renewal
from qc_adapter.gateway.request_spans import RequestSpans
from qc_adapter.gateway.signed_in import SignedIn, signed_in_of
from qc_adapter.gateway.trip import COMMON_HEADERS, Trip, own_headers, session_headers, trip_of, unsent
from qc_adapter.gateway.verdict import judge_command, judge_poll
from qc_adapter.gateway.wire import NotSent, NotSentWhy, RawReply, ReplyLost
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import (
    DeadlineExceeded,
    GatewayError,
    GatewayMisconfigured,
    GatewayRefused,
    OutcomeUnknown,
    PollFailed,
)
from qc_adapter.model.session import NO_SECRET, Renewal, Secret, Session

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from qc_adapter.gateway.circuit import CircuitChange
    from qc_adapter.gateway.envelope import JSON, RawEvent
    from qc_adapter.gateway.requests import GatewayRequest, SignInForm
    from qc_adapter.gateway.settings import GatewaySettings
    from qc_adapter.gateway.wire import Transport

__all__ = ["GatewayClient", "PollReply", "Receipt", "SignedIn"]

_Judge = Callable[[str, RawReply, Renewal | None, tuple[Secret, ...], int], Envelope]
_Carry = Callable[["GatewayRequest", Mapping[str, str], float, Callable[[], None]], "Awaitable[RawReply]"]
_Loss = Callable[[str, ReplyLost, Renewal | None], GatewayError]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The gateway's "0": accepted, not yet done. `received_at` is seconds since the epoch."""

    message: str
    renewal: Renewal | None
    result: JSON = field(repr=False)  # may be a GUID
    received_at: float


@dataclass(frozen=True, slots=True)
class PollReply:
    """
    What one poll brought; no events is the usual answer.

    With `event_may_be_lost` the reply held something in the place of an event that is none, or too many of them.
    """

    events: tuple[RawEvent, ...]
    renewal: Renewal | None
    event_may_be_lost: bool = False


#: Statuses of what stands before the gateway, when it gets no answer either.
_NO_ANSWER: Final = frozenset({502, 503, 504})


def _nothing() -> None:
    """Stand in for a caller that does not ask when its request goes out."""


def _untold(_change: CircuitChange) -> None:
    """Stand in for an owner that does not ask when the circuit opens."""


class GatewayClient:
    """
    Sends each request once and says exactly what is known about it afterwards.

    It never repeats a request: whether that is safe only the caller knows. `last_seen` tells how the
    gateway answered last, for readiness.
    """

    def __init__(
        self,
        transport: Transport,
        settings: GatewaySettings,
        observer: Callable[[GatewayCall], None],
        circuit_told: Callable[[CircuitChange], None] = _untold,
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._observer = observer
        self._spans = RequestSpans(settings)
        self._circuit = Circuit(settings.name, circuit_told)
        self._bulkhead = Bulkhead(settings.commands_per_inspector)
        self.last_seen = GatewayHealth()

    async def command(
        self, session: Session, request: GatewayRequest, deadline: Deadline, on_send: Callable[[], None] = _nothing
    ) -> Receipt:
        """
        Send a caller's command like `send`, unless it is known before that it would only wait and take a place.

        Then raises at once: LimitReached with too many of the inspector's commands under way, and GatewayUnavailable,
        or GatewayMisconfigured, while the circuit is open.
        """
        self._bulkhead.enter(session.agent_id)
        try:
            probe = self._circuit.enter(request.operation.method)
            try:
                return await self.send(session, request, deadline, on_send)
            finally:
                self._circuit.leave(probe)
        finally:
            self._bulkhead.leave(session.agent_id)

    async def send(
        self, session: Session, request: GatewayRequest, deadline: Deadline, on_send: Callable[[], None] = _nothing
    ) -> Receipt:
        """
        Send one request that is no poll and return the gateway's receipt; that it is done already is one as well.

        Raises GatewayRefused, GatewayUnavailable or GatewayMisconfigured when it was not executed,
        OutcomeUnknown when it may have been, DeadlineExceeded when the deadline came before it was sent.
        """
        headers = session_headers(request.operation.method, session)
        trip = trip_of(request, session)
        try:
            envelope = await self._command(trip, request, headers, deadline, on_send)
        except GatewayRefused as refused:
            if refused.retcode not in request.operation.already:
                raise
            return Receipt(refused.text, refused.renewal, None, time.time())
        return Receipt(envelope.message, trip.reading.renewal, envelope.result, time.time())

    async def sign_in(self, agent_id: str, form: SignInForm, *, force: bool, deadline: Deadline) -> SignedIn:
        """Sign the agent in; raises like `send`."""
        request = requests.sign_in(agent_id, form, force=force)
        secrets = (form.password, form.service_token or NO_SECRET)
        trip = Trip(request.operation.method, NO_SECRET, NO_SECRET, secrets)
        # No GUID goes along: a stale one of the last session must not decide anything (cec_07_1202).
        envelope = await self._command(trip, request, COMMON_HEADERS, deadline, _nothing)
        renewal = trip.reading.renewal
        if renewal is None or renewal.guid is None:
            raise GatewayMisconfigured(
                request.operation.method,
                f"{request.operation.method} was accepted without a GUID: something in front of the gateway "
                f"removes its Set-GUID header, or its authentication is off",
            )
        return signed_in_of(agent_id, form, renewal.guid, renewal.cookies or NO_SECRET, envelope)

    async def sign_out(self, session: Session, *, force: bool, deadline: Deadline) -> None:
        """Sign the inspector out; being out already is a success. Raises like `send`."""
        await self.send(session, requests.sign_out(session.agent_id, force=force), deadline)

    async def update_guid(self, session: Session, deadline: Deadline) -> Renewal:
        """Have a fresh GUID made and return it; raises like `send`, `OutcomeUnknown` also when the reply has none."""
        request = requests.update_guid(session.agent_id)
        receipt = await self.send(session, request, deadline)
        given = receipt.result.get("guid") if isinstance(receipt.result, dict) else None
        renewal = receipt.renewal or Renewal()
        guid = (read_guid(given) if isinstance(given, str) else None) or renewal.guid
        if guid is None:
            method = request.operation.method
            raise OutcomeUnknown(method, f"{method} was accepted and brought no GUID that can be used", receipt.renewal)
        return replace(renewal, guid=guid)

    async def poll(self, session: Session, *, hold_seconds: float, on_send: Callable[[], None] = _nothing) -> PollReply:
        """
        Ask for the next event and wait as long as the gateway holds the answer, and a margin.

        Raises GatewayRefused, GatewayUnavailable and GatewayMisconfigured when no event was taken from the
        gateway, PollFailed with the answer to that question otherwise.
        """
        request = requests.poll(session.agent_id)
        method = request.operation.method
        headers = session_headers(method, session)
        trip = trip_of(request, session)
        seconds = hold_seconds + self._settings.poll_margin_seconds
        sending = self._transport.poll(request, headers, seconds, on_send)
        envelope = await self._round(trip, sending, judge_poll, _poll_lost)
        events = envelope.events[:MAX_EVENTS]
        lost = envelope.unread_events > 0 or len(events) < len(envelope.events)
        return PollReply(events, trip.reading.renewal, lost)

    async def heartbeat(self, session: Session, token: Secret) -> Renewal | None:
        """
        Keep a pushed session alive, within our own patience; raises like `send`.

        It takes the way of a poll, whose place it has: commands that hang must not cost a sign-in.
        """
        request = requests.heartbeat(session.agent_id, token)
        headers = session_headers(request.operation.method, session)
        trip = trip_of(request, session)
        await self._command(trip, request, headers, Deadline.never(), _nothing, carry=self._transport.poll)
        return trip.reading.renewal

    def reload_trust(self) -> None:
        """Read the certificates anew, for new connections; raises `ValueError` or `OSError` if they are of no use."""
        self._transport.reload()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def _command(
        self,
        trip: Trip,
        request: GatewayRequest,
        headers: Mapping[str, str],
        deadline: Deadline,
        on_send: Callable[[], None],
        *,
        carry: _Carry | None = None,
    ) -> Envelope:
        """Send a command within what is left of the caller's time and our own patience."""
        left, patience = deadline.remaining_seconds, self._settings.request_timeout_seconds
        if left <= 0:
            raise DeadlineExceeded(f"the deadline came before {trip.method} was sent", "not_sent")
        trip.deadline = deadline
        trip.full_wait = left >= patience
        headers = {**headers, **own_headers(request), **self._spans.begin(trip, request)}
        sending = (carry or self._transport.send)(request, headers, min(left, patience), on_send)
        return await self._round(trip, sending, judge_command, _command_lost)

    async def _round(self, trip: Trip, sending: Awaitable[RawReply], judge: _Judge, lost: _Loss) -> Envelope:
        """Await the reply and judge it; every way a request can end passes here and is told once."""
        error: BaseException | None = None
        try:
            reply = await sending
            trip.status = reply.status
            trip.reading = read_renewal(reply.headers, trip.guid, trip.cookies)
            envelope = judge(trip.method, reply, trip.reading.renewal, trip.secrets, self._settings.max_reply_bytes)
        except NotSent as failure:
            error = unsent(trip, failure)
            if failure.why is not NotSentWhy.NO_SLOT:
                self._missed(failure.text, count=trip.full_wait)
                untrusted = failure.why is NotSentWhy.TRUST
                self._unanswered(trip, failure.text, timed_out=failure.why is NotSentWhy.TIMEOUT, untrusted=untrusted)
            raise error from failure
        except ReplyLost as failure:
            trip.reading = read_renewal(failure.headers, trip.guid, trip.cookies)
            error = lost(trip.method, failure, trip.reading.renewal)
            self._missed(failure.text, count=trip.full_wait or not failure.timed_out)
            if judge is not judge_poll:  # what cuts idle connections may cut a held poll, and no command
                self._unanswered(trip, failure.text, timed_out=failure.timed_out)
            raise error from failure
        except GatewayRefused as refused:
            error, trip.retcode = refused, refused.retcode
            self._answered()
            raise
        except GatewayError as answered_oddly:
            error = answered_oddly
            self._missed(answered_oddly.message)
            if trip.status in _NO_ANSWER:
                self._unanswered(trip, f"HTTP {trip.status} and no retcode")
            raise
        except BaseException as cancelled:
            error = cancelled
            raise
        else:
            trip.retcode = envelope.retcode or trip.retcode  # events may come without one
            self._answered()
            return envelope
        finally:
            self._tell(trip, error)
            del error  # it holds this frame: the pair would wait for the garbage collector

    def _answered(self) -> None:
        self.last_seen = GatewayHealth(reachable=True, at=time.time(), why="answered")
        self._circuit.answered()

    def _unanswered(self, trip: Trip, why: str, *, timed_out: bool = False, untrusted: bool = False) -> None:
        """Tell the circuit; a wait that the caller cut short counts if it was as long as connecting may be."""
        waited_seconds = time.monotonic() - trip.started
        if not timed_out or trip.full_wait or waited_seconds >= self._settings.connect_timeout_seconds:
            self._circuit.failed(why, trip.started, untrusted=untrusted)

    def _missed(self, why: str, *, count: bool = True) -> None:
        """Note that the gateway did not answer; a wait that the caller cut short proves nothing."""
        if count:
            self.last_seen = GatewayHealth(reachable=False, at=time.time(), why=why)

    def _tell(self, trip: Trip, error: BaseException | None) -> None:
        outcome = Outcome.OK if error is None else outcome_of(error)
        seconds = time.monotonic() - trip.started
        name = self._settings.name
        if trip.span is not None:
            request_spans.end(trip.span, trip, outcome)
        refused, exemplar = trip.reading.refused, trip.exemplar
        self._observer(GatewayCall(name, trip.method, trip.retcode, seconds, outcome, refused, exemplar))


def _command_lost(method: str, failure: ReplyLost, renewal: Renewal | None) -> GatewayError:
    return OutcomeUnknown(method, f"{method} was sent and brought no retcode: {failure.text}", renewal)


def _poll_lost(method: str, failure: ReplyLost, renewal: Renewal | None) -> GatewayError:
    why = f"{method} brought no whole reply: {failure.text}"
    # With the head of its reply the gateway let go of the poll.
    return PollFailed(method, why, event_may_be_lost=True, still_held=not failure.answered, renewal=renewal)
