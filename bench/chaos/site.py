"""Everything that runs during a chaos run: Redis, gateway, replicas, watchers and callers, and a trial of one fault."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from bench.chaos.balancer import Balancer
from bench.chaos.callers import Orders
from bench.chaos.fleet import Fleet
from bench.chaos.judge import Findings, context, judge
from bench.chaos.proxy import Proxy
from bench.chaos.store import OneRedis, Sentinels
from bench.chaos.watcher import Watcher
from bench.children import Child
from bench.driver import Callers
from qc_adapter.store.seal import new_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.chaos.form import Form
    from bench.chaos.scenarios import Scenario

_LOOK_SECONDS: Final = 0.05
#: When the last event has not come after that long it may have been taken by a poll that died: send another.
_AGAIN_SECONDS: Final = 5.0
_HTTP_SECONDS: Final = 30.0


@dataclass(slots=True)
class Trial:
    """What one try of a fault came to."""

    found: Findings = field(default_factory=Findings)
    overlaps: int = 0
    pushed_again: int = 0
    sign_outs: int = 0
    longest_silence_seconds: float = 0.0
    commands: int = 0
    settled_seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


class Site:
    """One running site; a trial begins and ends with everyone caught up."""

    def __init__(
        self,
        form: Form,
        *,
        gateway: Child,
        gateway_proxy: Proxy,
        store: OneRedis | Sentinels,
        fleet: Fleet,
        orders: Orders,
        chance: random.Random,
    ) -> None:
        self.form = form
        self.gateway = gateway
        self.gateway_proxy = gateway_proxy
        self.store = store
        self.fleet = fleet
        self.orders = orders
        self.chance = chance
        self.watchers = [
            Watcher(agent_id, fleet, form.patience_seconds, random.Random(int(agent_id)))  # noqa: S311 - a repeatable choice, nothing secret
            for agent_id in form.inspector_ids()
        ]
        self._told = {"overlaps": 0, "pushed_again": 0, "sign_outs": 0, "commands": 0}
        self._emitted: dict[str, int] = {}
        self._blamed: set[str] = set()

    async def sign_in(self) -> None:
        """Sign everyone in through one replica."""
        first = self.fleet.any()
        assert first is not None
        assert first.channel is not None
        await Callers(first.channel).sign_in(self.form.inspector_ids(), again=self.form.pushes)

    async def ready(self) -> None:
        """Wait until each watcher stands."""
        late, _ = await self._settle()
        if late:
            raise RuntimeError(f"the site does not come up: {late[:5]}")
        self._emitted = await self._numbers()
        await self.gateway.ask("silence")

    async def trial(self, scenario: Scenario) -> Trial:
        """Let one fault happen under load, wait until everyone has caught up, and judge."""
        begins = {watcher.agent_id: len(watcher.trail) for watcher in self.watchers}
        self._forgive(forgiving=scenario.forgets)
        await self._load()
        await asyncio.sleep(self.form.before_seconds)
        async with asyncio.timeout(scenario.limit_seconds(self.form)):
            await scenario.act(self)
        await asyncio.sleep(self.form.after_seconds)
        await self._unload()
        late, seconds = await self._settle()
        self._forgive(forgiving=False)
        trial = Trial(settled_seconds=seconds, violations=[f"not caught up: {who}" for who in late])
        await self._judge(trial, begins, scenario)
        return trial

    def _forgive(self, *, forgiving: bool) -> None:
        self.orders.forgiving = forgiving
        for watcher in self.watchers:
            watcher.forgiving = forgiving

    async def _load(self) -> None:
        await self.gateway.ask("emit", f"{self.form.events_a_second}")
        self.orders.begin()

    async def _unload(self) -> None:
        await self.orders.pause()
        await self.gateway.ask("emit", "0")

    async def _numbers(self) -> dict[str, int]:
        found: dict[str, int] = await self.gateway.ask("emitted")
        return found

    async def _settle(self) -> tuple[list[str], float]:
        """Send each inspector a last event and wait until it was seen; return who did not see it, and the time."""
        began = time.monotonic()
        until, again = began + self.form.settle_seconds, began
        while time.monotonic() < until:
            if time.monotonic() >= again:
                await self.gateway.ask("one_each")
                again = time.monotonic() + min(_AGAIN_SECONDS, self.form.lease_seconds)
            if not self._behind(await self._numbers()):
                return [], time.monotonic() - began
            await asyncio.sleep(_LOOK_SECONDS)
        return self._behind(await self._numbers()), time.monotonic() - began

    def _behind(self, numbers: dict[str, int]) -> list[str]:
        return [
            f"{watcher.agent_id} saw {watcher.last} of {numbers.get(watcher.agent_id)}, ended {dict(watcher.endings)}"
            for watcher in self.watchers
            if watcher.last < max(1, numbers.get(watcher.agent_id, 0))
        ]

    async def _judge(self, trial: Trial, begins: dict[str, int], scenario: Scenario) -> None:
        numbers = await self._numbers()
        for watcher in self.watchers:
            first, last = self._emitted.get(watcher.agent_id, 0) + 1, numbers[watcher.agent_id]
            found = judge(watcher.trail[begins[watcher.agent_id] :], first, last, pushes=self.form.pushes)
            trial.found.add(found)
            if found.lost:
                around = context(watcher.trail, found.lost[0])
                trial.violations.append(f"{watcher.agent_id}: lost {found.lost}, stood between {around}")
            if found.out_of_order:
                trial.violations.append(f"{watcher.agent_id}: twice or out of order {found.out_of_order}")
            trial.violations += watcher.violations
            watcher.violations.clear()
        self._emitted = numbers
        if not_allowed := set(trial.found.gaps) - scenario.gaps_allowed(self.form):
            trial.violations.append(f"gaps without a reason: {sorted(not_allowed)}")
        await self._judge_gateway(trial)
        trial.violations += self.fleet.check()

    async def _judge_gateway(self, trial: Trial) -> None:
        story = await self.gateway.ask("story")
        sign_outs = story["sign_outs"][self._told["sign_outs"] :]
        trial.overlaps = story["overlaps"] - self._told["overlaps"]
        trial.pushed_again = story["pushed_again"] - self._told["pushed_again"]
        trial.sign_outs = len(sign_outs)
        trial.longest_silence_seconds = await self.gateway.ask("silence")
        accounts = self.orders.accounts
        received = accounts.compare_with_gateway(await self.gateway.ask("commands"))
        trial.commands = received - self._told["commands"]
        self._told = {**story, "sign_outs": len(story["sign_outs"]), "commands": received}
        trial.violations += [f"signed out {one}" for one in sign_outs]
        if trial.overlaps:
            trial.violations.append(f"{trial.overlaps} polls overlapped")
        # The comparison is with all there ever was: what an earlier try was blamed for comes again.
        fresh = [one for one in accounts.violations if one not in self._blamed]
        self._blamed.update(fresh)
        accounts.violations.clear()
        trial.violations += fresh


@contextlib.asynccontextmanager
async def running(form: Form, *, sentinels: bool = False, seed: int = 1, python: str = "") -> AsyncIterator[Site]:
    """Run a site, with replicas of this tree or of that Python; what was wrong at its end raises RuntimeError."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable choice, nothing secret
    with tempfile.TemporaryDirectory(prefix="qc-chaos-") as name:
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(name)
            store = Sentinels(folder) if sentinels else OneRedis(folder)
            stack.push_async_callback(store.stop)
            await store.start()
            form = form.patient() if sentinels else form
            gateway, proxy, url = await _gateway(stack, folder, form)
            environment = {
                "QC_GATEWAY_URL": f"http://127.0.0.1:{proxy.port}",
                "QC_STORE_URL": store.url,
                "QC_LISTEN": "127.0.0.1:0",
                "QC_OPS_LISTEN": "127.0.0.1:0",
                "QC_SEAL_KEYS": new_key().reveal(),
                **form.adapter(),
            }
            balancer = await _balancer(stack, environment) if form.pushes else None
            fleet = Fleet(folder, environment, redis_port=store.port, chance=chance, balancer=balancer)
            stack.push_async_callback(fleet.close)
            fleet.python = python or fleet.python
            await fleet.start(form.replicas)
            http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_HTTP_SECONDS), trust_env=False)
            await stack.enter_async_context(http)
            site = Site(
                form,
                gateway=gateway,
                gateway_proxy=proxy,
                store=store,
                fleet=fleet,
                orders=Orders(fleet, form, (http, url), chance),
                chance=chance,
            )
            await site.sign_in()
            async with _at_work(site):
                await site.ready()
                yield site
            if problems := await fleet.end():
                raise RuntimeError("\n".join(problems))


async def _gateway(stack: contextlib.AsyncExitStack, folder: Path, form: Form) -> tuple[Child, Proxy, str]:

    settings = json.dumps(form.simulator())
    child = await Child.start("chaos.gateway_child", settings, errors=folder / "gateway.err", environment={})
    stack.push_async_callback(child.stop)
    url = str(await child.ask("url"))
    proxy = Proxy(int(url.rpartition(":")[2]))
    await proxy.start()
    stack.push_async_callback(proxy.stop)
    return child, proxy, url


async def _balancer(stack: contextlib.AsyncExitStack, environment: dict[str, str]) -> Balancer:
    balancer = Balancer()
    await balancer.proxy.start()
    stack.push_async_callback(balancer.proxy.stop)
    environment |= balancer.environment()
    return balancer


@contextlib.asynccontextmanager
async def _at_work(site: Site) -> AsyncIterator[None]:
    """Run watchers and callers; one that fails ends the run."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watcher.run(), name=f"watcher {watcher.agent_id}") for watcher in site.watchers]
        tasks += [group.create_task(site.orders.work(), name="caller") for _ in range(site.form.workers)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
