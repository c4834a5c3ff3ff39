"""A caller that makes calls at a steady rate whatever becomes of them, in a process of its own."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc

from bench.answers import answer
from qc_adapter.v1 import events_pb2, events_pb2_grpc, sessions_pb2, sessions_pb2_grpc
from qc_adapter.v1 import quality_control_pb2 as pb
from qc_adapter.v1 import quality_control_pb2_grpc as pb_grpc

INSPECTOR = "1900"
#: A caller that is refused fast has few under way; one that is not must not eat this machine.
MOST_AT_ONCE = 500
_TICK_SECONDS = 0.01


class Flood:
    """Intercepts, looks and watches in turn; each answer is counted by its status."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        commands: Any = pb_grpc.QualityControlStub(channel)
        sessions: Any = sessions_pb2_grpc.InspectorSessionsStub(channel)
        events: Any = events_pb2_grpc.InspectorEventsStub(channel)
        follow_none = pb.CommandOptions(follow=pb.FOLLOW_NONE)
        intercept = pb.InterceptRequest(agent_id=INSPECTOR, work_no="292", options=follow_none)
        self._kinds = (
            lambda: commands.Intercept(intercept, timeout=5),
            lambda: sessions.Get(sessions_pb2.GetRequest(agent_id=INSPECTOR), timeout=5),
            lambda: events.Watch(events_pb2.WatchRequest(agent_id=INSPECTOR), timeout=0.2),
        )
        self._counts: Counter[str] = Counter()
        self._calls: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None

    def begin(self, rate: str) -> bool:
        """Flood until told to end."""
        self._running = asyncio.create_task(self._run(float(rate)))
        return True

    def end(self) -> dict[str, int]:
        """Stop, and return how the calls so far ended."""
        if self._running is not None:
            self._running.cancel()
        counts, self._counts = self._counts, Counter()
        return dict(counts)

    async def _run(self, rate: float) -> None:
        began, made = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * rate)
            while made < due:
                if len(self._calls) < MOST_AT_ONCE:
                    call = asyncio.create_task(self._one(self._kinds[made % len(self._kinds)]()))
                    self._calls.add(call)
                    call.add_done_callback(self._calls.discard)
                else:
                    self._counts["not made"] += 1
                made += 1
            await asyncio.sleep(_TICK_SECONDS)

    async def _one(self, call: Any) -> None:
        try:
            if isinstance(call, grpc.aio.UnaryStreamCall):
                async for _ in call:
                    pass
            else:
                await call
        except grpc.aio.AioRpcError as error:
            self._counts[error.code().name] += 1
        else:
            self._counts["OK"] += 1


async def run(target: str, folder: Path) -> None:
    """Answer the parent until it closes the pipe."""
    pem = [(folder / name).read_bytes() for name in ("ca.pem", "flood.key", "flood.pem")]
    async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(*pem)) as channel:
        flood = Flood(channel)
        await answer({"begin": flood.begin, "end": flood.end})
        flood.end()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], Path(sys.argv[2])))
