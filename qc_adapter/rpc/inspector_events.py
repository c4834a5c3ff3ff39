"""The service InspectorEvents: follows an inspector's log from a cursor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from qc_adapter.events.hub import Subscription
from qc_adapter.events.model import AgentEvent, Gap, GapReason
from qc_adapter.model.errors import CursorExpired, DeadlineExceeded
from qc_adapter.model.inspector import gateway_of
from qc_adapter.rpc.calls import current_call, deadline_of
from qc_adapter.rpc.convert import gap_message, watch_message
from qc_adapter.v1 import events_pb2 as pb
from qc_adapter.v1 import events_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from qc_adapter.events.hub import Follows, Hub
    from qc_adapter.model.deadline import Deadline
    from qc_adapter.model.session import Session
    from qc_adapter.rpc.calls import Call
    from qc_adapter.rpc.parse import Parser

    Context = grpc.aio.ServicerContext[Any, Any]


class Sessions(Protocol):
    """Finds the session that is watched."""

    async def get(self, agent_id: str) -> Session: ...


class Counts(Protocol):
    """What a watch counts."""

    def event_delivered(self, gateway: str, seconds: float) -> None: ...

    def gap(self, gateway: str, reason: str) -> None: ...


class InspectorEvents(pb_grpc.InspectorEventsServicer):
    """Streams events; an idle stream carries a bookmark every `bookmark_seconds`."""

    def __init__(
        self,
        parser: Parser,
        *,
        sessions: Sessions,
        follows: Follows,
        hub: Hub,
        counts: Counts,
        bookmark_seconds: float,
    ) -> None:
        self._parser = parser
        self._sessions = sessions
        self._follows = follows
        self._hub = hub
        self._counts = counts
        self._bookmark_seconds = bookmark_seconds

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        """Follow an inspector's events."""
        call = current_call()
        call.about(request.agent_id)
        agent_id = self._parser.agent_id(request.agent_id)
        await self._sessions.get(agent_id)
        subscription, gap = await self._subscribe(agent_id, request)
        with subscription:
            yield pb.WatchResponse(cursor=subscription.cursor, subscribed=pb.Subscribed())
            if gap is not None:
                yield gap
            async for message in self._messages(subscription, call, deadline_of(context)):
                yield message

    async def _messages(
        self, subscription: Subscription, call: Call, deadline: Deadline
    ) -> AsyncIterator[pb.WatchResponse]:
        while True:
            entries = subscription.take()
            for entry in entries:
                yield watch_message(entry)
                if isinstance(entry.item, AgentEvent) and entry.logged_at >= call.started_at:
                    self._counts.event_delivered(call.gateway, time.monotonic() - entry.logged_at)
            if entries:
                continue
            if deadline.over:
                raise DeadlineExceeded(
                    "the deadline of the stream came: resume from the cursor", "", subscription.cursor
                )
            if not await subscription.wait(min(self._bookmark_seconds, deadline.remaining_seconds)):
                yield pb.WatchResponse(cursor=subscription.cursor, bookmark=pb.Bookmark())

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
