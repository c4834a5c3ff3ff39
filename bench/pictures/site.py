"""A site that is watched: gateways, replicas, a Redis, inspectors at work, and a Prometheus that scrapes it all."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import trustme

from bench.centre.inspectors import Books, Inspector
from bench.chaos.balancer import Balancer
from bench.chaos.fleet import Fleet
from bench.children import Child
from bench.prometheus import Prometheus
from bench.redis_server import RedisServer
from qc_adapter.client import QualityControlClient
from qc_adapter.v1 import sessions_pb2, sessions_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from bench.chaos.fleet import Replica

FIRST_AGENT: Final = 20001
FIRST_INSPECTOR: Final = 1001
#: The default gateway is polled, this one pushes.
PUSHING: Final = "north"
SIGN_IN_SECONDS: Final = 30.0
UP_SECONDS: Final = 30.0
BUSY_SECONDS: Final = 60.0
CERTIFICATE_DAYS: Final = 90
_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How big the site is, and how often it is scraped."""

    replicas: int = 3
    #: At the gateway that is polled, and at the one that pushes.
    inspectors: tuple[int, int] = (24, 12)
    agents_each: int = 8
    calls_per_minute: float = 150.0
    scrape_seconds: float = 2.0
    lease_seconds: float = 30.0
    seed: int = 1


@dataclass(slots=True)
class Site:
    """What a run needs of the site."""

    form: Form
    fleet: Fleet
    redis: RedisServer
    prometheus: Prometheus
    #: Where each gateway is, by its name.
    gateways: dict[str, str]
    push_url: str
    http: aiohttp.ClientSession
    client: QualityControlClient
    books: Books = field(default_factory=Books)

    async def control(self, gateway: str, verb: str, path: str, body: Any = None) -> Any:
        """Tell a simulated gateway what to do."""
        async with self.http.request(verb, f"{self.gateways[gateway]}/simulator/{path}", json=body) as reply:
            reply.raise_for_status()
            return await reply.json()

    async def sign_in(self, agent_id: str) -> None:
        """Sign an inspector in."""
        stub = sessions_pb2_grpc.InspectorSessionsStub(self.client.channel)
        request = sessions_pb2.SignInRequest(agent_id=agent_id, phone_number=f"4{agent_id[-4:]}")
        await stub.SignIn(request, timeout=SIGN_IN_SECONDS, wait_for_ready=True)

    def scrape(self, replicas: Iterable[Replica]) -> None:
        """Let Prometheus scrape these replicas, under the names of pods."""
        self.prometheus.scrape({one.name: f"127.0.0.1:{ops_port(one)}" for one in replicas})

    async def all_up(self, number: int) -> None:
        """Wait until so many targets are up."""
        async with asyncio.timeout(UP_SECONDS):
            while [*(await self.prometheus.targets()).values()] != ["up"] * number:  # noqa: ASYNC110 - theirs
                await asyncio.sleep(_LOOK_SECONDS)

    async def scraped(self, times: int = 2) -> None:
        """Wait until Prometheus has seen what is true now."""
        until = time.time() + times * self.form.scrape_seconds
        async with asyncio.timeout(UP_SECONDS):
            while True:
                seen = await self.prometheus.at("max(timestamp(qc_build_info))", time.time())
                if seen and seen[0].points[0][1] >= until:
                    return
                await asyncio.sleep(_LOOK_SECONDS)

    async def busy(self, confirmed: int) -> None:
        """Wait until so many commands were confirmed."""
        async with asyncio.timeout(BUSY_SECONDS):
            while len(self.books.confirmed_after) < confirmed:  # noqa: ASYNC110 - the books grow in other tasks
                await asyncio.sleep(_LOOK_SECONDS)


def ops_port(replica: Replica) -> int:
    """Return where a replica has its metrics."""
    return int(next(line["ops_port"] for line in replica.lines() if line.get("event") == "started"))


@contextlib.asynccontextmanager
async def watched(form: Form, rules: Iterable[Path] = ()) -> AsyncIterator[Site]:
    """Run a site without load."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qc-watched-")))
        redis = RedisServer(folder)
        await asyncio.to_thread(redis.start)
        stack.callback(redis.stop)
        gateways = {name: await _gateway(stack, folder, form, name, number)
                    for name, number in zip(("default", PUSHING), form.inspectors, strict=True)}  # fmt: skip
        balancer = Balancer()
        await balancer.proxy.start()
        stack.push_async_callback(balancer.proxy.stop)
        push_url = f"https://127.0.0.1:{balancer.proxy.port}/events"
        environment = {
            "QC_GATEWAY_URL": gateways["default"],
            "QC_GATEWAYS": PUSHING,
            f"QC_GATEWAY_{PUSHING.upper()}_URL": gateways[PUSHING],
            f"QC_GATEWAY_{PUSHING.upper()}_EVENT_SOURCE": "push",
            "QC_STORE_URL": redis.url,
            "QC_LISTEN": "127.0.0.1:0",
            "QC_OPS_LISTEN": "127.0.0.1:0",
            "QC_LEASE_SECONDS": str(form.lease_seconds),
            **balancer.environment(),
            "QC_PUSH_URL": push_url,
            **_certificate(folder),
        }
        chance = random.Random(form.seed)  # noqa: S311 - a repeatable choice, nothing secret
        fleet = Fleet(folder, environment, redis_port=None, chance=chance, balancer=balancer)
        stack.push_async_callback(fleet.close)
        await fleet.start(form.replicas)
        prometheus = Prometheus(folder / "prometheus", scrape_seconds=form.scrape_seconds, rules=rules)
        await stack.enter_async_context(prometheus)
        http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), trust_env=False)
        await stack.enter_async_context(http)
        client = QualityControlClient([str(replica.listen) for replica in fleet.serving])
        await stack.enter_async_context(client)
        site = Site(form, fleet, redis, prometheus, gateways, push_url, http, client)
        site.scrape(fleet.serving)
        await site.all_up(form.replicas)
        yield site


@contextlib.asynccontextmanager
async def at_work(site: Site) -> AsyncIterator[None]:
    """Sign the inspectors in and let them inspect, until the block ends."""
    inspectors = list(_inspectors(site))
    for one in inspectors:
        await site.sign_in(one.agent_id)
    tasks = [asyncio.create_task(one.watch(), name=f"watch {one.agent_id}") for one in inspectors]
    try:
        await asyncio.gather(*(one.monitor() for one in inspectors))
        tasks += [asyncio.create_task(one.work(float("inf")), name=f"work {one.agent_id}") for one in inspectors]
        yield
        for task in tasks:
            if task.done() and (failure := task.exception()):
                raise RuntimeError(f"{task.get_name()} ended: {failure}") from failure
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _inspectors(site: Site) -> Iterable[Inspector]:
    form = site.form
    for prefix, count in zip(("", f"{PUSHING}/"), form.inspectors, strict=True):
        for number in range(count):
            first = FIRST_AGENT + number * form.agents_each
            agents = [str(first + place) for place in range(form.agents_each)]
            chance = random.Random(f"{form.seed} {prefix} {number}")  # noqa: S311 - nothing secret
            yield Inspector(site.client, f"{prefix}{FIRST_INSPECTOR + number}", agents, site.books, chance)


async def _gateway(stack: contextlib.AsyncExitStack, folder: Path, form: Form, name: str, inspectors: int) -> str:
    share = inspectors / sum(form.inspectors)
    settings = {
        "agents": inspectors * form.agents_each,
        "first_agent": FIRST_AGENT,
        "calls_per_minute": form.calls_per_minute * share,
        "push_trust_all": True,
        "random_seed": form.seed,
    }
    child = await Child.start(
        "centre.gateway_child", json.dumps(settings), errors=folder / f"{name}.err", environment={}
    )
    stack.push_async_callback(child.stop)
    return str(await child.ask("url"))


def _certificate(folder: Path) -> dict[str, str]:
    """Return the settings of a port for pushes with TLS, so that there is a certificate whose end can be watched."""
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=CERTIFICATE_DAYS)
    made = trustme.CA().issue_cert("127.0.0.1", not_after=ends)
    chain, key = folder / "push.pem", folder / "push.key"
    made.private_key_pem.write_to_path(key)
    for number, blob in enumerate(made.cert_chain_pems):
        blob.write_to_path(chain, append=number > 0)
    return {"QC_PUSH_TLS_CERT_FILE": str(chain), "QC_PUSH_TLS_KEY_FILE": str(key)}
