"""Inspectors at work: each watches some agents, and inspects those who talk, by every means there is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.json_format import MessageToDict
from grpc import StatusCode

from bench.centre.marks import mark
from qc_adapter.client import CallFailed
from qc_adapter.v1 import events_pb2, sessions_pb2, sessions_pb2_grpc
from qc_adapter.v1 import quality_control_pb2 as pb

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from qc_adapter.client import QualityControlClient
    from qc_adapter.client.command import CommandResult

#: A refusal is the floor's doing when the agent stopped talking, or went away, about that time.
_FLOOR_CODES: Final = frozenset({"900-003", "900-004", "900-005"})
_SETTLE_SECONDS: Final = 5.0
_TIMEOUT_SECONDS: Final = 30.0
_KIND = events_pb2.MonitoredAgent
_FREE_AGAIN: Final = frozenset({"AgentState_Ready", "AgentState_Work"})


@dataclass(slots=True)
class Books:
    """What came of all commands, and whatever has no explanation."""

    endings: Counter[tuple[str, str]] = field(default_factory=Counter)
    confirmed_after: list[float] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    gaps: Counter[str] = field(default_factory=Counter)


class Inspector:
    """One inspector, with the agents it monitors."""

    def __init__(
        self, client: QualityControlClient, agent_id: str, agents: list[str], books: Books, chance: random.Random
    ) -> None:
        self._client = client
        self.agent_id = agent_id
        self._agents = agents
        self._books = books
        self._chance = chance
        self._talking: set[str] = set()
        self._idle: set[str] = set()
        #: When an agent was last told to have stopped talking or to have left, on the monotonic clock.
        self._stopped_at: dict[str, float] = {}
        self._free_at = time.monotonic()
        self.told: list[str] = []

    async def watch(self) -> None:
        """Follow the inspector's events from the first one on, until cancelled."""
        async with self._client.watch(self.agent_id, "oldest") as events:
            async for message in events:
                if message.HasField("gap"):
                    self._books.gaps[message.gap.reason] += 1
                elif message.HasField("event"):
                    self._hear(message.event)

    def _hear(self, event: events_pb2.AgentEvent) -> None:
        self.told.append(mark(event.event_type, MessageToDict(event.content)))
        if event.event_type in _FREE_AGAIN:
            self._free_at = time.monotonic()
        if event.WhichOneof("details") != "monitored":
            return
        agent, kind = event.work_no, event.monitored.kind
        if kind in {_KIND.INSPECTED, _KIND.INSPECTION_ENDED}:
            return
        if kind == _KIND.TALKING:
            self._talking.add(agent)
        elif agent in self._talking:
            self._talking.discard(agent)
            self._stopped_at[agent] = time.monotonic()
        if kind == _KIND.SIGNED_OUT:
            self._stopped_at[agent] = time.monotonic()
        (self._idle.add if kind == _KIND.IDLE else self._idle.discard)(agent)

    async def told_of(self, number: int, seconds: float) -> bool:
        """Wait until so many events were told, at most that long."""
        return await _within(lambda: len(self.told) >= number, seconds)

    async def state(self) -> str:
        """Return what the adapter says of the inspector, in the words of the contract."""
        stub = sessions_pb2_grpc.InspectorSessionsStub(self._client.channel)
        reply = await stub.Get(sessions_pb2.GetRequest(agent_id=self.agent_id), timeout=_TIMEOUT_SECONDS)
        return sessions_pb2.InspectorState.Name(reply.session.inspector_state).removeprefix("INSPECTOR_STATE_")

    async def monitor(self) -> None:
        """Ask for the news of the agents."""
        await self._give("Monitor", pb.MonitorRequest(agent_id=self.agent_id, work_nos=self._agents), "")

    async def work(self, until: float) -> None:
        """Inspect until that time on the monotonic clock."""
        while time.monotonic() < until:
            await asyncio.sleep(self._chance.uniform(0.5, 2.0))
            talking = sorted(self._talking)
            if talking and self._chance.random() < 0.8:
                await self._inspect(self._chance.choice(talking))
            elif self._idle:
                await self._send_about(self._chance.choice(sorted(self._idle)))

    async def _inspect(self, agent: str) -> None:
        ids, began = {"agent_id": self.agent_id, "work_no": agent}, time.monotonic()
        begin = self._chance.choice(["Listen", "Insert", "Whisper"])
        if not await self._give(begin, getattr(pb, f"{begin}Request")(**ids), agent):
            return
        await asyncio.sleep(self._chance.uniform(0.2, 1.5))
        mode = {"Listen": pb.MODE_LISTEN, "Insert": pb.MODE_INSERT, "Whisper": pb.MODE_WHISPER}[begin]
        if self._chance.random() < 0.5:
            mode = self._chance.choice([pb.MODE_LISTEN, pb.MODE_INSERT, pb.MODE_WHISPER])
            if not await self._give("SwitchMode", pb.SwitchModeRequest(**ids, mode=mode), agent):
                return
        if self._chance.random() < 0.5:
            result = await self._give("Intercept", pb.InterceptRequest(**ids), agent)
            if result is not None:
                await asyncio.sleep(self._chance.uniform(0.5, 2.0))
                drop = pb.ForceDropCallRequest(agent_id=self.agent_id, call_id=result.outcome.call_id)
                await self._give("ForceDropCall", drop, agent, customers_may_go=True)
        elif mode == pb.MODE_WHISPER:
            await self._give("StopWhispering", pb.StopWhisperingRequest(**ids), agent)
        else:
            await self._give("StopInspecting", pb.StopInspectingRequest(**ids), agent)
        # The inspector is free for another call when the gateway has told so.
        await _within(lambda: self._free_at > began, _SETTLE_SECONDS)

    async def _send_about(self, agent: str) -> None:
        """Let an idle agent do something else, and be idle again."""
        ids = {"agent_id": self.agent_id, "work_no": agent}
        match self._chance.randrange(3):
            case 0:
                await self._give("ForceBusy", pb.ForceBusyRequest(**ids), agent)
            case 1:
                rest = pb.ForceRestRequest(**ids, cause=1)
                rest.duration.FromSeconds(5)
                await self._give("ForceRest", rest, agent)
            case _:
                await self._give("AdjustSkills", pb.AdjustSkillsRequest(**ids, skill_ids=[10, 25]), agent)
        await asyncio.sleep(self._chance.uniform(0.5, 1.0))
        await self._give("ForceIdle", pb.ForceIdleRequest(**ids), agent)

    async def _give(
        self, rpc: str, request: Any, agent: str, *, customers_may_go: bool = False
    ) -> CommandResult | None:
        """Give a command; returns the result if it was taken and nothing speaks against its effect."""
        began = time.monotonic()
        try:
            result = await self._client.run(rpc, request, timeout_seconds=_TIMEOUT_SECONDS)
        except CallFailed as failure:
            explained = failure.code is not StatusCode.UNKNOWN and failure.retcode in _FLOOR_CODES
            if explained and (customers_may_go or await self._gone(agent, began)):
                self._note(rpc, "refused, the floor had moved on")
            else:
                self._note(rpc, "failed")
                self._books.unexplained.append(f"{rpc} {self.agent_id}->{agent}: {failure.reason} {failure.message}")
            return None
        ending = pb.CommandOutcome.State.Name(result.outcome.state) if result.outcome is not None else "none"
        if ending == "UNCONFIRMED":
            if await self._gone(agent, began):
                self._note(rpc, "unconfirmed, the floor had moved on")
            else:
                self._note(rpc, "unconfirmed")
                missing = list(result.outcome.missing_event_types)
                self._books.unexplained.append(f"{rpc} {self.agent_id}->{agent}: UNCONFIRMED, missing {missing}")
            return None
        if ending == "CONFIRMED":
            self._books.confirmed_after.append(time.monotonic() - began)
        self._note(rpc, {"CONFIRMED": "confirmed", "STATE_UNSPECIFIED": "accepted"}.get(ending, ending))
        return result

    def _note(self, rpc: str, ending: str) -> None:
        self._books.endings[rpc, ending] += 1

    async def _gone(self, agent: str, began: float) -> bool:
        """Whether the agent stopped talking or left about the time of the command: its news may come a little later."""
        return await _within(lambda: self._stopped_at.get(agent, 0.0) > began - _SETTLE_SECONDS, _SETTLE_SECONDS)


async def _within(condition: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not condition():  # news come in another task
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.05)
    return True
