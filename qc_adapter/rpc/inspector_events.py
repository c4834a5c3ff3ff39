"""The service InspectorEvents: follows an inspector's log from a cursor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from qc_adapter.events.hub import Subscription
from qc_adapter.events.inlet import MOST_EVENTS, batch_of
from qc_adapter.events.leases import PollState
from qc_adapter.events.model import AgentEvent, Gap, GapReason
from qc_adapter.gateway.envelope import Envelope, UnreadableReply, read_envelope
from qc_adapter.gateway.wire import ReplyHeaders
from qc_adapter.model.errors import CursorExpired, DeadlineExceeded, InvalidRequest
from qc_adapter.model.inspector import gateway_of, number_of
from qc_adapter.model.session import EventSource
from qc_adapter.rpc.call import current_call, deadline_of
from qc_adapter.rpc.convert import bookmark_message, gap_message
from qc_adapter.rpc.shared_messages import SharedMessages
from qc_adapter.v1 import events_pb2 as pb
from qc_adapter.v1 import events_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    import grpc

    from qc_adapter.events.feed import Feed
    from qc_adapter.events.hub import Follows, Hub
    from qc_adapter.events.inlet import Inlet
    from qc_adapter.model.deadline import Deadline
    from qc_adapter.model.session import Session
    from qc_adapter.rpc.parse import Parser

    Context = grpc.aio.ServicerContext[Any, Any]


class Sessions(Protocol):
    """Finds the session that is watched."""

    async def get(self, agent_id: str) -> Session: ...


class Counts(Protocol):
    """What a watch counts."""

    def event_delivered(self, gateway: str, seconds: float) -> None: ...

    def event_read(self, gateway: str, event_type: str) -> None: ...

    def gap(self, gateway: str, reason: str) -> None: ...


#: Beside the envelope's own limits: what fits into a message with room for the rest.
_LARGEST_BODY: Final = 200_000
_LONGEST_BATCH_ID: Final = 128


class InspectorEvents(pb_grpc.InspectorEventsServicer):
    """Streams events; an idle stream carries a bookmark every `bookmark_seconds`."""

    def __init__(
        self,
        parser: Parser,
        *,
        sessions: Sessions,
        follows: Follows,
        hub: Hub,
        inlet: Inlet,
        counts: Counts,
        bookmark_seconds: float,
    ) -> None:
        self._parser = parser
        self._sessions = sessions
        self._follows = follows
        self._hub = hub
        self._inlet = inlet
        self._counts = counts
        self._bookmark_seconds = bookmark_seconds
        self._shared = SharedMessages()

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        """Follow an inspector's events."""
        call = current_call()
        call.about(request.agent_id)
        agent_id = self._parser.agent_id(request.agent_id)
        if request.on_expired not in pb.OnExpired.values():
            raise InvalidRequest([("on_expired", f"has no value {int(request.on_expired)}")])
        await self._sessions.get(agent_id)
        subscription, gap = await self._subscribe(agent_id, request)
        deadline, feed = deadline_of(context), subscription.feed
        state = PollState.ACTIVE  # as long as nothing else is said, which who comes later is told too
        # All of it in one generator: there may be ten thousand of them.
        with subscription:
            begins = subscription.cursor
            # Before the first message is written: of a full log, the oldest entries may be gone after that.
            entries = subscription.take()
            yield pb.WatchResponse(cursor=begins, subscribed=pb.Subscribed())
            if gap is not None:
                yield gap
            while True:
                for entry in entries:
                    yield self._shared.of(entry, feed.readers)
                    if isinstance(entry.item, AgentEvent) and entry.logged_at >= call.started_at:
                        self._counts.event_delivered(call.gateway, time.monotonic() - entry.logged_at)
                # The end of a session is told by the end of the stream.
                told = _state_of(feed) is state or feed.ended is not None
                if not (entries or (told and await self._wait(subscription, deadline))):
                    state = _state_of(feed)
                    yield bookmark_message(subscription.cursor, feed)
                entries = subscription.take()

    async def Feed(self, request: pb.FeedRequest, context: Context) -> pb.FeedResponse:
        """Take events in that another system read."""
        call = current_call()
        call.about(request.agent_id)
        agent_id = self._parser.agent_id(request.agent_id)
        envelope = _read(request.body, number_of(agent_id))
        if len(request.batch_id) > _LONGEST_BATCH_ID:
            raise InvalidRequest([("batch_id", f"must be at most {_LONGEST_BATCH_ID} characters")])
        batch = batch_of(agent_id, envelope.events, batch_id=request.batch_id)
        if not batch.items:
            feed = await self._follows.follow(agent_id)
            return pb.FeedResponse(cursor=feed.cursor(feed.tail))
        logged = await self._inlet.take(agent_id, EventSource.NONE, batch)
        for raw in envelope.events[logged.repeated :]:
            self._counts.event_read(call.gateway, raw.event_type)
        return pb.FeedResponse(logged=logged.new, repeated_before=logged.repeated, cursor=logged.cursor)

    def _wait(self, subscription: Subscription, deadline: Deadline) -> Awaitable[bool]:
        """Wait for something to tell, until the next bookmark at most; raises `DeadlineExceeded`."""
        remaining_seconds = deadline.remaining_seconds
        if remaining_seconds >= self._bookmark_seconds:
            return subscription.wait_about(self._bookmark_seconds)
        if remaining_seconds <= 0:
            raise DeadlineExceeded("the deadline of the stream came: resume from the cursor", "", subscription.cursor)
        return subscription.wait(remaining_seconds)

    async def _subscribe(self, agent_id: str, request: pb.WatchRequest) -> tuple[Subscription, pb.WatchResponse | None]:
        """Return the subscription from the cursor, with the gap before it when the caller asked for one."""
        feed = await self._follows.follow(agent_id)
        try:
            return Subscription(self._hub, feed, feed.locate(request.cursor)), None
        except CursorExpired:
            # Another replica may have shown the caller what is still on its way to this one.
            feed = await self._follows.follow(agent_id, fresh=True)
        try:
            return Subscription(self._hub, feed, feed.locate(request.cursor)), None
        except CursorExpired as expired:
            if request.on_expired != pb.ON_EXPIRED_GAP:
                raise
            self._counts.gap(gateway_of(agent_id), GapReason.CURSOR_EXPIRED.lower())
            subscription = Subscription(self._hub, feed, feed.locate(expired.go_on))
            missed = Gap(GapReason.CURSOR_EXPIRED, expired.cursor, expired.go_on)
            return subscription, gap_message(subscription.cursor, missed)


def _read(body: bytes, number: str) -> Envelope:
    """Return what the gateway had answered; raises `InvalidRequest`: of a body that is not whole nothing is taken."""
    try:
        envelope = read_envelope(200, ReplyHeaders(), body, max_bytes=_LARGEST_BODY)
    except UnreadableReply as unreadable:
        raise InvalidRequest([("body", f"is no reply or push of the gateway: {unreadable.why}")]) from None
    if envelope.unread_events or len(envelope.events) > MOST_EVENTS:
        raise InvalidRequest([("body", f"must hold events only, each with an eventType, and at most {MOST_EVENTS}")])
    foreign = sorted({raw.work_no for raw in envelope.events} - {number, ""})
    if foreign:
        raise InvalidRequest([("body", f"holds events of another agent than {number}: {foreign[0][:20]!a}")])
    return envelope


def _state_of(feed: Feed) -> PollState:
    """Return what is known of the session; that a first poll was answered is no news."""
    return feed.state or PollState.ACTIVE
