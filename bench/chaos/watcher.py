"""One caller's view of one inspector: a Watch stream that is resumed by cursor on another replica, whatever happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.rpc import error_details_pb2, status_pb2

from bench.chaos.numbers import number_of
from qc_adapter.v1 import events_pb2 as pb
from qc_adapter.v1 import events_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    import random

    from bench.chaos.fleet import Fleet, Replica

PAUSE_SECONDS: Final = (0.1, 1.0)
_NOBODY_SECONDS: Final = 0.1
#: What a stream may end with while things break; the reason is ours, "" stands for a broken connection.
_RESUMABLE: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
#: What the connection's own end may look like, without a reason of ours.
_BROKEN: Final = _RESUMABLE | {grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}
#: When the store has lost everything, for a while nobody knows who is signed in.
_FORGOTTEN: Final = frozenset({"INSPECTOR_NOT_SIGNED_IN", "INSPECTOR_SESSION_LOST"})


class Watcher:
    """Keeps the trail of an inspector: the number of each event and the reason of each gap, in the order of arrival."""

    def __init__(self, agent_id: str, fleet: Fleet, patience_seconds: float, chance: random.Random) -> None:
        self.agent_id = agent_id
        self._fleet = fleet
        self._patience_seconds = patience_seconds
        self._chance = chance
        self._cursor = "oldest"
        self._cursors: set[str] = set()
        self.trail: list[int | str] = []
        self.last = 0
        self.endings: Counter[str] = Counter()
        self.violations: list[str] = []
        #: Whether "not signed in" is a thing to wait out.
        self.forgiving = False

    async def run(self) -> None:
        """Watch until cancelled."""
        replica: Replica | None = None
        while True:
            replica = self._fleet.any(but=replica)
            if replica is None or replica.channel is None:
                await asyncio.sleep(_NOBODY_SECONDS)
                continue
            try:
                await self._stream(replica.channel)
            except grpc.aio.AioRpcError as error:
                self._ended(error)
            except TimeoutError:
                self.endings["silence"] += 1
            except grpc.aio.UsageError:
                self.endings["closed channel"] += 1
            await asyncio.sleep(self._chance.uniform(*PAUSE_SECONDS))

    async def _stream(self, channel: grpc.aio.Channel) -> None:
        request = pb.WatchRequest(agent_id=self.agent_id, cursor=self._cursor, on_expired=pb.ON_EXPIRED_GAP)
        call: Any = pb_grpc.InspectorEventsStub(channel).Watch(request)
        try:
            while True:
                async with asyncio.timeout(self._patience_seconds):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    break
                self._take(message)
        except asyncio.CancelledError:
            # Also raised when the channel was closed under the call.
            if _being_cancelled():
                raise
        finally:
            call.cancel()
        if await call.code() is grpc.StatusCode.OK:
            self._violate("a stream ended with OK")

    def _take(self, message: pb.WatchResponse) -> None:
        self._cursor = message.cursor or self._cursor
        if message.HasField("event"):
            number = number_of(message.event)
            self.trail.append(number)
            self.last = max(self.last, number)
            if message.event.cursor in self._cursors:
                self._violate(f"cursor {message.event.cursor} came twice, now with event {number}")
            self._cursors.add(message.event.cursor)
        elif message.HasField("gap"):
            self.trail.append(message.gap.reason)

    def _ended(self, error: grpc.aio.AioRpcError) -> None:
        info = _info(error)
        code = error.code()
        self.endings[f"{code.name} {info.reason}".strip()] += 1
        self._cursor = info.metadata.get("cursor", "") or self._cursor
        expected = _RESUMABLE if info.reason else _BROKEN
        if code not in expected and not (self.forgiving and info.reason in _FORGOTTEN):
            self._violate(f"a stream ended with {code.name} {info.reason}: {error.details()}")

    def _violate(self, what: str) -> None:
        self.violations.append(f"{self.agent_id}: {what}")


def _info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                detail.Unpack(info)
    return info


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
