"""How long it takes until thousands of sessions are polled for, when a replica comes and goes, and what is computed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.speed.figures import Table
from bench.speed.store_site import Site

if TYPE_CHECKING:
    from pathlib import Path

    from bench.speed.store_site import Spent

#: From a poll's reply over the pause to the next one's: what an inspector at rest costs, it costs that often.
_POLL_SECONDS: Final = 10.2
_KEPT_SECONDS: Final = 600.0
#: A replica bears so much of a core: room for the loss of another one.
_BORNE: Final = 0.6
#: And reads for so many: the goal of one process.
_MOST_INSPECTORS: Final = 20_000
_GATEWAY: Final = 59_899
_SIZES: Final = ((20_000, "one full replica"), (_GATEWAY, "one gateway"), (10 * _GATEWAY, "ten gateways"))


async def started(folder: Path, inspectors: int) -> tuple[Table, ...]:
    """Let one replica find so many sessions, another one join, and leave again."""
    rows = []
    async with contextlib.AsyncExitStack() as stack:
        site = await Site.open("start", folder, stack)
        site.write_sessions(inspectors)
        began = await site.spent()
        await site.add()
        await site.until_shared(inspectors, 1)
        held = await site.spent()
        await site.until_polled(inspectors)
        polled = await site.spent()
        rows.append(_row("all leases are held by the first replica", held.since(began), inspectors))
        rows.append(_row("and all are polled for", polled.since(began), inspectors))
        for words, change, replicas in (
            ("a second replica joins, until each has its half", site.add, 2),
            ("it ends without a drain, until the first one has all again", site.remove, 1),
        ):
            before = await site.spent()
            await change()
            await site.until_shared(inspectors, replicas)
            rows.append(_row(words, (await site.spent()).since(before), inspectors))
    heading = f"{inspectors:,} sessions found in Redis at the start, and replicas that come and go"
    return (Table(heading, ("what", "seconds", "scripts", "CPU of Redis"), tuple(rows)),)


def _row(words: str, spent: Spent, inspectors: int) -> tuple[str, ...]:
    redis = spent.redis * 1e6 / inspectors
    return (words, f"{spent.at:.1f}", f"{spent.scripts:,}", f"{spent.redis:.2f} s, {redis:.0f} us an inspector")


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds, bytes and calls: for a poll that brings nothing, and for an Intercept with its two events."""

    poll_redis: float
    poll_ours: float
    command_redis: float
    command_ours: float
    poll_network: float
    command_network: float
    poll_scripts: float
    command_scripts: float
    session_memory: float
    event_memory: float


def computed(costs: Costs) -> tuple[Table, ...]:
    """Compute larger sites from what was measured."""
    columns = ("inspectors", "polls/s", "scripts/s", "CPU of Redis", "our CPU", "replicas", "Redis: memory", "network")
    sites = [
        Table(heading, columns, tuple(_site(costs, inspectors, name, pace) for inspectors, name in _SIZES))
        for heading, pace in (
            ("Computed: nothing happens", 0.0),
            ("Computed: an Intercept with its two events for each inspector every ten minutes", 1 / 600),
            ("Computed: an Intercept with its two events for each inspector every minute", 1 / 60),
        )
    ]
    return (*sites, Table("How it is computed", ("what", "from"), _FORMULA))


_FORMULA: Final = (
    ("polls/s", f"inspectors / {_POLL_SECONDS} s, the hold and the pause"),
    ("scripts/s", "polls/s x scripts for a poll + Intercepts/s x scripts for an Intercept"),
    ("CPU of Redis", "polls/s x its CPU for a poll + Intercepts/s x its CPU for an Intercept"),
    ("our CPU", "the same with the CPU of all replicas"),
    (
        "replicas",
        f"our CPU / {_BORNE} of a core each, and no more than {_MOST_INSPECTORS:,} inspectors each",
    ),
    (
        "Redis: memory",
        f"inspectors x (a session with its log's head + an event x the events of {_KEPT_SECONDS:.0f} s, 1000 at most)",
    ),
    ("network", "polls/s x bytes for a poll + Intercepts/s x bytes for an Intercept, both directions"),
)


def _site(costs: Costs, inspectors: int, name: str, pace: float) -> tuple[str, ...]:
    polls, calls = inspectors / _POLL_SECONDS, inspectors * pace
    redis = (polls * costs.poll_redis + calls * costs.command_redis) / 1e6
    ours = (polls * costs.poll_ours + calls * costs.command_ours) / 1e6
    scripts = polls * costs.poll_scripts + calls * costs.command_scripts
    kept = min(1000.0, 2 * pace * _KEPT_SECONDS)
    memory = inspectors * (costs.session_memory + kept * costs.event_memory)
    network = polls * costs.poll_network + calls * costs.command_network
    replicas = max(-(-inspectors // _MOST_INSPECTORS), int(ours / _BORNE) + 1)
    return (
        f"{inspectors:,} ({name})",
        f"{polls:,.0f}",
        f"{scripts:,.0f}",
        f"{100 * redis:.0f} % of its core" if redis < 1 else f"**{redis:.1f} cores: one Redis has one**",
        f"{ours:.1f} cores",
        f"{replicas}",
        f"{memory / 1e6:,.0f} MB",
        f"{network * 8 / 1e6:,.0f} Mbit/s",
    )
