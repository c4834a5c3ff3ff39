"""A gateway that costs next to nothing and tells events at a steady rate to whom it holds a poll of."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import uvloop

from bench.answers import answer
from bench.lean_gateway_child import Connection, Floor
from bench.limits import raise_descriptors
from bench.speed.stream_reader import STAMP, STAMP_DIGITS

_TICK_SECONDS: Final = 0.001


class Source(Floor):
    """Answers held polls with events that say when they were made: those first that have waited longest."""

    def __init__(self) -> None:
        super().__init__()
        self._told = 0
        self._running: asyncio.Task[None] | None = None

    def one(self, agent_id: str) -> bool:
        """Tell one event to an inspector whose poll is held; False if it is not."""
        if agent_id not in self._held:
            return False
        call_id = f"{STAMP.decode()}{time.monotonic_ns():0{STAMP_DIGITS}}"
        content = {"callid": call_id, "caller": "13800000000", "called": "70092", "callFeature": 0}
        self.tell(agent_id, "AgentEvent_Talking", content)
        self._told += 1
        return True

    def begin(self, per_second: str, quiet: str) -> bool:
        """Tell so many events a second until `end`, none of them to the inspector `quiet`."""
        self._told = 0
        self._running = asyncio.create_task(self._run(float(per_second), quiet))
        return True

    def end(self) -> int:
        """Stop; return how many were told."""
        if self._running is not None:
            self._running.cancel()
        return self._told

    def held(self) -> int:
        """Say how many polls are held."""
        return len(self._held)

    async def _run(self, per_second: float, quiet: str) -> None:
        began = time.monotonic()
        while True:
            due = int((time.monotonic() - began) * per_second) - self._told
            ready = [agent_id for agent_id, _ in zip(self._held, range(due + 1), strict=False) if agent_id != quiet]
            for agent_id in ready[:due]:
                self.one(agent_id)
            await asyncio.sleep(_TICK_SECONDS)


async def run() -> None:
    """Serve until the parent closes the pipe."""
    raise_descriptors()
    source = Source()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(source), "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    async with server:
        await answer(
            {
                "url": lambda: f"http://127.0.0.1:{port}",
                "one": source.one,
                "begin": source.begin,
                "end": source.end,
                "held": source.held,
            }
        )


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
