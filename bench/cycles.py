"""What the callers of a storm do: one moment in which all intercept, and cycles of commands on calls of their own."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.accounts import Accounts
from bench.driver import Callers, Leaving, Order, Result

if TYPE_CHECKING:
    from bench.children import Bench

FIRST_INSPECTOR: Final = 1000
FIRST_AGENT: Final = 3000
CANCEL_WITHIN_SECONDS: Final = 0.3
SPARE_FDS: Final = 8
#: Connections that the Redis store opens when they are needed, and keeps.
STORE_FDS: Final = 64
#: Share of commands that two callers give at once under one request id.
TWINS: Final = 0.05
PLANS: Final = (
    ("Listen", "Intercept"),
    ("Listen", "StopInspecting"),
    # After an intercept there is nothing to stop: the one refusal that is asked for.
    ("Listen", "Intercept", "StopInspecting"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line may change."""

    inspectors: int
    calls: int
    rounds: int
    in_flight: int
    seed: int
    store: str

    @property
    def spare_fds(self) -> int:
        """How many more descriptors than at first are no leak."""
        return SPARE_FDS + (0 if self.store.startswith("memory:") else STORE_FDS)


class Storm:
    """Drives the calls of one run."""

    def __init__(self, bench: Bench, callers: Callers, options: Options) -> None:
        self._bench = bench
        self._callers = callers
        self.options = options
        self._random = random.Random(options.seed)  # noqa: S311 - a repeatable choice, nothing secret
        self._next_agent = FIRST_AGENT
        self._ids = 0
        self.accounts = Accounts()
        self.inspectors = [str(FIRST_INSPECTOR + number) for number in range(options.inspectors)]

    def _agent(self) -> str:
        self._next_agent += 1
        return str(self._next_agent)

    async def all_at_once(self) -> None:
        """Let every inspector listen to an agent of its own; then all intercept in one moment."""
        pairs = [(inspector, self._agent()) for inspector in self.inspectors]
        slots = asyncio.Semaphore(self.options.in_flight)

        async def listen(inspector: str, agent: str) -> str:
            async with slots:
                call_id = await self._bench.begin_call(agent)
                await self._give(Order("Listen", inspector, agent))
                return call_id

        calls = await asyncio.gather(*(listen(*pair) for pair in pairs))
        await asyncio.gather(*(self._give(Order("Intercept", *pair)) for pair in pairs))
        for call_id in calls:
            await self._bench.end_call(call_id)

    async def storm(self) -> None:
        """Keep that many inspectors busy until all calls are made."""
        until = self.accounts.calls + self.options.calls
        free: asyncio.Queue[str] = asyncio.Queue()
        for inspector in self._random.sample(self.inspectors, len(self.inspectors)):
            free.put_nowait(inspector)

        async def worker() -> None:
            while self.accounts.calls < until:
                inspector = await free.get()
                await self._cycle(inspector, self._agent())
                free.put_nowait(inspector)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.options.in_flight):
                group.create_task(worker())

    async def _cycle(self, inspector: str, agent: str) -> None:
        """Run one plan against one call; the end of the call frees the inspector whatever became of the plan."""
        call_id = await self._bench.begin_call(agent)
        doubt = intercepted = False
        for rpc in self._random.choice(PLANS):
            order = Order(rpc, inspector, agent, self._request_id())
            results = await self._call(order, may_be_refused=doubt or (rpc == "StopInspecting" and intercepted))
            # Once a call was cancelled nobody knows what was done: what follows may be refused.
            doubt = doubt or all(result.ending == "cancelled" for result in results)
            intercepted = intercepted or rpc == "Intercept"
        await self._bench.end_call(call_id)

    def _request_id(self) -> str:
        self._ids += 1
        return f"storm-{self._ids}" if self._random.random() < 0.3 else ""

    async def _call(self, order: Order, *, may_be_refused: bool) -> list[Result]:
        twin = bool(order.request_id) and self._random.random() < TWINS / 0.3
        return await asyncio.gather(
            *(
                self._give(order, cancel=self._random.random() < 0.5, may_be_refused=may_be_refused)
                for _ in range(2 if twin else 1)
            )
        )

    def _leaving(self) -> Leaving:
        """Leave at some time, which is early under load, or right after some message."""
        if self._random.random() < 0.5:
            return Leaving(after_seconds=self._random.uniform(0, CANCEL_WITHIN_SECONDS))
        return Leaving(after_messages=self._random.randint(1, 3))

    async def _give(self, order: Order, *, cancel: bool = False, may_be_refused: bool = False) -> Result:
        leaving = self._leaving() if cancel else Leaving()
        result = await self._callers.run(order, leaving)
        self.accounts.note(order, result, cancel_asked=cancel, may_be_refused=may_be_refused)
        return result
