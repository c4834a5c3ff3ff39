"""The callers of a chaos run: they listen and intercept all along, from any replica, and repeat until they know."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc

from bench.accounts import Accounts
from bench.driver import Callers, Leaving, Order, Result

if TYPE_CHECKING:
    import random

    import aiohttp

    from bench.chaos.fleet import Fleet
    from bench.chaos.form import Form

FIRST_AGENT: Final = 3000
#: Share of commands that two callers give at once under one request id.
TWINS: Final = 0.2
PAUSE_SECONDS: Final = (0.1, 1.0)
#: How many of the last commands `ask_again` repeats.
REMEMBERED: Final = 20
#: After these nobody asks again.
_VERDICTS: Final = frozenset({"confirmed", "unconfirmed", "refused"})
_UNKNOWN: Final = "UNKNOWN OUTCOME_UNKNOWN"
#: Statuses that invite the same request id again: ours, and what a broken connection looks like.
_AGAIN: Final = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN :", "INTERNAL :", "RESOURCE_EXHAUSTED")
#: What a gateway says of an inspector whom it has forgotten.
_FORGOTTEN_CODES: Final = frozenset({"100-006", "000-003"})
_FORGOTTEN: Final = ("FAILED_PRECONDITION INSPECTOR_NOT_SIGNED_IN", "FAILED_PRECONDITION INSPECTOR_SESSION_LOST")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a caller knows of its command in the end; `ending` may also be unknown or open."""

    ending: str
    detail: str = ""
    accepted: bool = False


class Orders:
    """Gives commands all along and keeps the books about them."""

    def __init__(
        self, fleet: Fleet, form: Form, gateway: tuple[aiohttp.ClientSession, str], chance: random.Random
    ) -> None:
        self._fleet = fleet
        self._form = form
        self._http, self._url = gateway
        self._chance = chance
        self._next_agent = FIRST_AGENT
        self._open = asyncio.Event()
        self._at_work = 0
        self._free: asyncio.Queue[str] = asyncio.Queue()
        for inspector in chance.sample(form.inspector_ids(), form.inspectors):
            self._free.put_nowait(inspector)
        self.accounts = Accounts()
        self._known: deque[Order] = deque(maxlen=REMEMBERED)
        #: Whether "not signed in" is a thing to wait out.
        self.forgiving = False

    def begin(self) -> None:
        """Let the workers work."""
        self._open.set()

    async def pause(self) -> None:
        """Let no new cycle begin and wait for the running ones."""
        self._open.clear()
        while self._at_work:  # noqa: ASYNC110 - workers come and go
            await asyncio.sleep(0.05)

    def forget(self) -> None:
        """Repeat none of the commands so far: who sent them may be gone, and with it what it knew."""
        self._known.clear()

    async def ask_again(self) -> None:
        """
        Repeat the last commands whose outcome is known, each on any replica, until it is told once more.

        Nothing is entered: a repetition that was sent stands in the gateway's own record.
        """
        await asyncio.gather(*(self._insist(order) for order in tuple(self._known)))

    async def work(self) -> None:
        """Run cycles until cancelled."""
        while True:
            await self._open.wait()
            self._at_work += 1
            try:
                inspector = await self._free.get()
                await self._cycle(inspector)
                self._free.put_nowait(inspector)
            finally:
                self._at_work -= 1
            await asyncio.sleep(self._chance.uniform(0.5, 1.5) * self._form.pace_seconds)

    async def _cycle(self, inspector: str) -> None:
        """Listen to a call of an agent that nobody else listens to, and take it over."""
        self._next_agent += 1
        agent = str(self._next_agent)
        async with self._http.post(f"{self._url}/simulator/calls", json={"agent_id": agent}) as reply:
            reply.raise_for_status()
            call_id = (await reply.json())["call_id"]
        for rpc in ("Listen", "Intercept"):
            order = Order(rpc, inspector, agent, f"chaos-{rpc}-{agent}")
            twins = 2 if self._chance.random() < TWINS else 1
            verdicts = await asyncio.gather(*(self._give(order) for _ in range(twins)))
            if {verdict.ending for verdict in verdicts} != {"confirmed"}:
                break  # what follows would only be refused
        async with self._http.delete(f"{self._url}/simulator/calls/{call_id}") as reply:
            await reply.read()

    async def _give(self, order: Order) -> Verdict:
        """Give the command until there is a verdict, and enter what became of it."""
        verdict = await self._insist(order)
        if verdict.ending in _VERDICTS:
            self._known.append(order)
        self._enter(order, verdict)
        return verdict

    async def _insist(self, order: Order) -> Verdict:
        """Repeat the command under its request id until there is a verdict or patience ends."""
        until = time.monotonic() + self._form.command_seconds
        verdict = Verdict("open")
        while verdict.ending == "open" and time.monotonic() < until:
            verdict = await self._attempt(order, accepted_before=verdict.accepted)
            if verdict.ending == "open":
                await asyncio.sleep(self._chance.uniform(*PAUSE_SECONDS))
        return verdict

    async def _attempt(self, order: Order, *, accepted_before: bool) -> Verdict:
        replica = self._fleet.any()
        if replica is None or replica.channel is None:
            return Verdict("open", "nobody serves", accepted_before)
        try:
            result = await Callers(replica.channel).run(order, Leaving(after_seconds=self._form.attempt_seconds))
        except grpc.aio.UsageError:
            return Verdict("open", "the replica is gone", accepted_before)
        accepted = accepted_before or result.accepted
        if result.ending in _VERDICTS:
            return Verdict(result.ending, result.detail, accepted)
        if result.detail.startswith(_UNKNOWN):
            return Verdict("unknown", "", accepted)
        again = _AGAIN + (_FORGOTTEN if self.forgiving else ())
        if result.ending != "cancelled" and not result.detail.startswith(again):
            self.accounts.violate(f"{order.rpc} {order.inspector}->{order.agent}: {result.ending} {result.detail}")
        return Verdict("open", result.detail, accepted)

    def _enter(self, order: Order, verdict: Verdict) -> None:
        """Enter the command; while things break, a caller may have to live without proof of what became of it."""
        result = Result(verdict.ending, verdict.detail, verdict.accepted)
        forgotten = self.forgiving and verdict.detail in _FORGOTTEN_CODES
        if verdict.ending in {"unconfirmed", "unknown", "open"} or forgotten:
            result = Result("cancelled", verdict.detail if forgotten else verdict.ending, verdict.accepted)
        self.accounts.note(order, result, cancel_asked=True, may_be_refused=True)
