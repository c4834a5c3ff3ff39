"""What was measured of polls for very many inspectors, and the figures and words that are made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.speed.figures import ROUNDS, Goal, Ratio, Reading, Section, Table
from bench.speed.poll_bursts import calm_ratio


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    counts: tuple[int, ...]
    hold_seconds: float
    settle_seconds: float
    idle_seconds: float
    events_a_second: int
    #: With the most inspectors; with fewer of them half as many.
    commands_a_round: int
    away_seconds: float
    rounds: int = ROUNDS
    at_once: int = 4
    burst: int = 40


@dataclass(slots=True)
class Found:
    """What was measured with one number of inspectors."""

    count: int
    start_seconds: float = 0.0
    start_cpu_seconds: float = 0.0
    most_opened: int = 0
    kilobytes: float = 0.0
    core_percent: float = 0.0
    polls_a_second: float = 0.0
    microseconds: float = 0.0
    events_ms: tuple[tuple[float, float], ...] = ()
    with_polls_ms: list[float] = field(default_factory=list)
    without_ms: list[float] = field(default_factory=list)
    #: Of all rounds, the calls of calm bursts: with polls, and without.
    calm: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    #: By round, the part of the time in which the process that polls had no core while it was asked, in percent.
    no_core_percent: list[float] = field(default_factory=list)
    #: Milliseconds of CPU of the longest look for garbage in the start, and while commands were sent.
    start_garbage_ms: float = 0.0
    garbage_ms: float = 0.0
    #: After the gateways were away: until all were polled for, connections opened in one second, lines logged.
    back_seconds: float = 0.0
    back_opened: int = 0
    back_lines: int = 0
    stop_seconds: float = 0.0


def section(plan: Plan, found: list[Found], descriptors: str, wanted: int) -> Section:
    """Put what was found into figures."""
    last = found[-1]
    ratio = Ratio(
        f"commands with {last.count:,} polls open{few(last.count, wanted)}: p99 of the receipt",
        f"a process that polls for {last.count:,}",
        "one that polls for nobody, asked in turns",
        "ms",
        tuple(last.with_polls_ms),
        tuple(last.without_ms),
        Goal(at_most=1.5),
    )
    before = (
        f"Polls are held for {plan.hold_seconds:g} s with a pause of 0.2 s. Two stub gateways, each a process with a "
        f"loopback address of its own, hold them; the adapter runs with a store in memory, on uvloop, as `serve` does. "
        f"{descriptors} Events: {plan.events_a_second} a second, to as many inspectors, each read by a `Watch`; a "
        f"time from the write at the gateway to the stream's client. Commands: Intercepts without following, "
        f"{plan.at_once} at a time, in bursts of {plan.burst}, while events come."
    )
    after = (
        "First polls take turns, 2,000 a second; so do polls after failures at each gateway, and connections after an "
        "outage. Python looks for garbage among the youngest objects ten times a second, among those that the last "
        "look has not seen when memory has grown by a quarter and 32 MiB, and among all after ten minutes. The longest "
        f"look took {last.start_garbage_ms:.0f} ms of CPU in the start of {last.count:,} and {last.garbage_ms:.1f} ms "
        "while commands were sent. A p99 of a machine whose cores others use too says little: the last of the figures "
        "says for how long there was no core."
    )
    return Section(
        "polls",
        "Polling for very many inspectors",
        "python -m bench.speed --only polls",
        ratios=(ratio, *calm_ratio(last.calm)),
        readings=readings(found, wanted),
        before=before,
        after=after,
        tables=(start_table(plan, found),),
    )


def few(count: int, wanted: int) -> str:
    """Say why it is not the number that was wanted, beside each goal that is set for that one."""
    return f" (a process here has too few descriptors for {wanted:,})" if count < wanted else ""


def readings(found: list[Found], wanted: int) -> tuple[Reading, ...]:
    """Return the figures that stand by themselves."""
    told: list[Reading] = []
    for one in found:
        of = f"{one.count:,} inspectors"
        goal = of + few(one.count, wanted if one is found[-1] else 0)
        told += [
            Reading(f"CPU of a core, {goal}", "%", (one.core_percent,), Goal(at_most=100, stretch=50)),
            Reading(f"memory for each, {goal}", "kB", (one.kilobytes,), Goal(at_most=60)),
            Reading(f"CPU for a poll without an event, {of}", "us", (one.microseconds,)),
            Reading(f"polls, {of}", "a second", (one.polls_a_second,)),
            Reading(f"event to stream, p50, {of}", "ms", tuple(p50 for p50, _ in one.events_ms)),
            Reading(f"event to stream, p99, {of}", "ms", tuple(p99 for _, p99 in one.events_ms)),
        ]
    last = found[-1]
    told.append(
        Reading(
            f"time without a core, of the time in which the process that polls for {last.count:,} was asked",
            "%",
            tuple(last.no_core_percent),
        )
    )
    return tuple(told)


def start_table(plan: Plan, found: list[Found]) -> Table:
    """Return how starts, outages and ends went."""
    columns = (
        "inspectors",
        "all polled for after",
        "CPU of the start",
        "connections in a second, at most",
        f"after {plan.away_seconds:g} s without gateways: all polled for after",
        "connections in a second, at most",
        "lines logged",
        "end of the process",
    )
    rows = [
        (
            f"{one.count:,}",
            f"{one.start_seconds:.1f} s",
            f"{one.start_cpu_seconds:.1f} s",
            f"{one.most_opened:,}",
            f"{one.back_seconds:.1f} s",
            f"{one.back_opened:,}",
            f"{one.back_lines:,}",
            f"{one.stop_seconds:.1f} s",
        )
        for one in found
    ]
    return Table("Starts, outages and ends", columns, tuple(rows))
