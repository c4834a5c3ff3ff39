"""What a call costs: this adapter, a naive one, and an empty server, called in turns for the same messages."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.speed import ceilings, latency
from bench.speed.figures import ROUNDS, Goal, Ratio, Reading, Section, in_turns
from bench.speed.load import load_generator
from bench.speed.sides import pod_settings, site
from bench.speed.words import CALLS_AFTER, CALLS_BEFORE, ENVOY, NO_ENVOY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.speed.load import Batch, Load
    from bench.speed.sides import Side, Site

    Batches = Mapping[str, Sequence[Batch]]

LEVEL: Final = 64
LEVELS: Final = (1, 16, 64, 256)
#: An event counts as proof only if it cannot have waited at the gateway since before its command. With a pause
#: between polls an inspector has to rest until the next one is open, so in a pod's place many take turns.
_POD_TURNS: Final = 6
_POLLED_SECONDS: Final = 0.8
_NO_PAUSE: Final = {"QC_POLL_PAUSE_SECONDS": "0"}
#: The cheaper the calls, the more of them.
_FLOOR_MORE: Final = 4
#: How a row calls each side.
NAMES: Final = {
    "memory": "this adapter",
    "audit": "this adapter, commands on record in a file",
    "redis": "this adapter, with Redis and the record",
    "pod": "this adapter as a pod runs it",
    "naive": "naive adapter",
    "envoy": "Envoy",
    "floor": "empty server",
}
CONFIRM: Final = "`Intercept` until confirmed, with its two polls"
ACCEPT: Final = "`Intercept` with `FOLLOW_NONE`, its two polls behind it"
QUIET: Final = "`Intercept` with `FOLLOW_NONE`, no events and no polls"
GET: Final = "`InspectorSessions.Get`"


def _at(level: int) -> list[str]:
    # What a pod's call takes is the pause between two polls, at each number of calls alike.
    return [name for name in NAMES if name != "envoy" and (name != "pod" or level == LEVEL)]


@dataclass(frozen=True, slots=True)
class Size:
    """How many calls a batch has, for each side and number of calls at once."""

    rounds: int
    calls: int
    #: Calls of the naive adapter, which would take the whole time else.
    naive: int
    #: As a pod runs it, a call takes 0.2 s.
    pod: int

    def of(self, name: str, at_once: int) -> int:
        """Return the number of calls."""
        calls = {"naive": self.naive, "pod": self.pod, "floor": _FLOOR_MORE * self.calls}.get(name, self.calls)
        if at_once < LEVEL:
            calls //= 2 if at_once > 1 else 4
        return max(calls, 2 * at_once)


FULL: Final = Size(rounds=ROUNDS, calls=1600, naive=320, pod=512)
QUICK: Final = Size(rounds=1, calls=300, naive=64, pod=128)


async def measure(*, quick: bool) -> Section:
    """Measure calls."""
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="qc-load-") as place:
        folder = Path(place)
        async with site(folder) as servers, load_generator(folder, servers.gateway) as load:
            peer = await servers.envoy()
            peers = () if peer is None else ("envoy",)
            run = Run(load, size, [*await _sides(servers), *(() if peer is None else (peer,))])
            levels = {level: await run.turns("confirm", level, only=_at(level)) for level in LEVELS}
            few = ("floor", "memory", "redis", "naive")
            accepted = await run.turns("accept", LEVEL, only=few)
            quiet = await run.turns("accept", LEVEL, only=(*few, *peers), quiet=True)
            got = await run.turns("get", LEVEL, only=("floor", "memory", "naive"), calls=2 * size.calls)
            polls = await run.polls(servers)
        print("ceilings", flush=True)
        limits = await ceilings.measured(folder, seconds=0.5 if quick else 2.0, rounds=size.rounds)
    confirmed = levels[LEVEL]
    return Section(
        key="calls",
        title="A call, side by side",
        command="python -m bench.speed --only calls",
        before=CALLS_BEFORE,
        ratios=(
            *_confirmed(confirmed),
            _less_polls(confirmed, polls),
            *_pairs(ACCEPT, accepted, ("memory", "redis")),
            *_pairs(QUIET, quiet, ("memory", "redis")),
            *(_ratio(QUIET, quiet, "memory", one) for one in peers),
            _ratio(GET, got, "memory", "floor"),
            _ratio(GET, got, "naive", "memory"),
        ),
        readings=(
            Reading("A poll that brings an event, as the adapter pays for it", "CPU us", polls),
            Reading(
                "The load generator, an `Intercept` until confirmed", "CPU us", _column(confirmed, "floor", "loader_us")
            ),
            Reading("Time of a call, this adapter as a pod runs it", "ms, median", _column(confirmed, "pod", "p50_ms")),
            Reading("Messages of a confirmed `Intercept`, this adapter", "bytes", _bytes(confirmed, "memory")),
            Reading("Messages of a confirmed `Intercept`, empty server", "bytes", _bytes(confirmed, "floor")),
            Reading("Messages of a confirmed `Intercept`, naive adapter", "bytes", _bytes(confirmed, "naive")),
            *limits,
        ),
        tables=latency.tables(levels, NAMES),
        after=CALLS_AFTER + (ENVOY if peers else NO_ENVOY),
    )


class Run:
    """The load on all sides."""

    def __init__(self, load: Load, size: Size, sides: Sequence[Side]) -> None:
        self._load = load
        self._size = size
        self._sides = {side.name: side for side in sides}

    async def turns(
        self, kind: str, at_once: int, *, only: Sequence[str], quiet: bool = False, calls: int = 0
    ) -> Batches:
        """Let the sides take turns with a batch of calls each."""
        print(f"{kind}{', no events' if quiet else ''}, {at_once} at once", flush=True)
        chosen = [self._sides[name] for name in only]
        for side in chosen:
            await side.adopt(at_once)
        measures = {
            side.name: partial(
                self._load.batch, side, kind, at_once, calls or self._size.of(side.name, at_once), quiet=quiet
            )
            for side in chosen
        }
        return await in_turns(measures, self._size.rounds)

    async def polls(self, servers: Site) -> tuple[float, ...]:
        """Measure what an event costs that a poll brings while nobody calls."""
        print("polls", flush=True)
        side = self._sides["memory"]
        seconds = 2 * _POLLED_SECONDS if self._size.rounds > 1 else _POLLED_SECONDS
        return tuple([await servers.event_us(side, LEVEL, seconds) for _ in range(self._size.rounds)])


async def _sides(servers: Site) -> list[Side]:
    on_record = {"QC_AUDIT_LOG": str(servers.folder / "records.jsonl")}
    redis = pod_settings(servers.redis("redis")) | _NO_PAUSE | {"QC_AUDIT_LOG": str(servers.folder / "redis.jsonl")}
    pod = await servers.adapter("pod", pod_settings(servers.redis("pod")))
    pod.turns = _POD_TURNS
    return [
        await servers.floor(),
        await servers.adapter("memory", _NO_PAUSE | {"QC_AUDIT_LOG": "off"}),
        await servers.adapter("audit", _NO_PAUSE | on_record),
        await servers.adapter("redis", redis),
        pod,
        await servers.naive(servers.redis("naive")),
    ]


def _confirmed(found: Batches) -> list[Ratio]:
    return [
        _ratio(CONFIRM, found, "memory", "floor", Goal(at_most=2, stretch=1.4)),
        _ratio(CONFIRM, found, "naive", "memory", Goal(at_least=3, stretch=4.4)),
        *(_ratio(CONFIRM, found, name, "floor") for name in ("audit", "redis", "pod", "naive")),
    ]


def _less_polls(found: Batches, polls: Sequence[float]) -> Ratio:
    calls = _column(found, "memory", "server_us")
    return Ratio(
        "`Intercept` until confirmed, less what its two polls cost",
        NAMES["memory"],
        NAMES["floor"],
        "CPU us a call",
        tuple(call - 2 * poll for call, poll in zip(calls, polls, strict=True)),
        _column(found, "floor", "server_us"),
        Goal(at_most=2, stretch=1.4),
    )


def _pairs(name: str, found: Batches, ours: Sequence[str]) -> list[Ratio]:
    return [*(_ratio(name, found, one, "floor") for one in ours), _ratio(name, found, "naive", "memory")]


def _ratio(name: str, found: Batches, subject: str, base: str, goal: Goal | None = None) -> Ratio:
    values = _column(found, subject, "server_us"), _column(found, base, "server_us")
    return Ratio(name, NAMES[subject], NAMES[base], "CPU us a call", *values, goal)


def _column(found: Batches, name: str, field: str) -> tuple[float, ...]:
    return tuple(getattr(batch, field) for batch in found[name])


def _bytes(found: Batches, name: str) -> tuple[float, ...]:
    return tuple(round(value) for value in _column(found, name, "answer_bytes"))
