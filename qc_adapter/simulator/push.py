"""Between the mailboxes and the callbacks: which events go out in which push, and what a failed one leads to."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.agents import Agent, SignIn
    from qc_adapter.simulator.faults import Fault, FaultBook
    from qc_adapter.simulator.mailbox import Letter
    from qc_adapter.simulator.record import Record
    from qc_adapter.simulator.roster import Roster
    from qc_adapter.simulator.settings import SimulatorSettings
    from qc_adapter.simulator.timetable import Timetable


@dataclass(slots=True, eq=False)
class PushLine:
    """The way of one sign-in's events to its callback: one request at a time, in order."""

    agent_id: str
    sign_in: SignIn = field(repr=False)
    callback: str
    token: str = field(repr=False)
    # Held until the sign-in reply is written.
    held: bool = True
    # Sent at least once, but not confirmed; a repetition begins with these.
    unconfirmed: list[Letter] = field(default_factory=list, repr=False)
    in_flight: bool = False
    waits_for_retry: bool = False
    failing_since: float | None = None
    # The sign-in is over, so nothing is repeated.
    closed: bool = False
    # Told of the outcome of the next push.
    answered: list[Callable[[], None]] = field(default_factory=list, repr=False)

    def close(self, *, last_words: bool) -> None:
        """End with the sign-in; what waits is still sent, once, if there are last words."""
        self.closed = True
        self.held = self.held or not last_words


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """One push on its way."""

    line: PushLine = field(repr=False)
    body: bytes = field(repr=False)
    guid: str = field(repr=False)
    events: int
    faults: tuple[Fault, ...] = ()


class Pushing:
    """Makes parcels of waiting events, and judges what became of them."""

    def __init__(
        self, settings: SimulatorSettings, roster: Roster, timetable: Timetable, faults: FaultBook, record: Record
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._timetable = timetable
        self._faults = faults
        self._record = record
        #: Who carries parcels; without one the events wait.
        self.carry: Callable[[Parcel], None] | None = None

    def open(self, agent: Agent, callback: str, token: str) -> None:
        """Push the events of the agent's sign-in from now on."""
        sign_in = agent.sign_in
        if sign_in is None:
            raise LookupError(f"agent {agent.agent_id} is not signed in")
        line = sign_in.push = PushLine(agent.agent_id, sign_in, callback, token)
        sign_in.mailbox.on_letter = lambda: self._send(line)

    def release(self, agent: Agent) -> None:
        """Let an agent's events go."""
        sign_in = agent.sign_in
        if sign_in is not None and sign_in.push is not None:
            sign_in.push.held = False
            self._send(sign_in.push)

    async def first_push(self, agent: Agent) -> None:
        """Let an agent's events go, and wait until the first of them were answered, well or badly."""
        line = None if agent.sign_in is None else agent.sign_in.push
        if line is None or self.carry is None:
            return
        answered = asyncio.Event()
        line.answered.append(answered.set)
        self.release(agent)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.push_timeout_seconds + 1):
                await answered.wait()

    def _send(self, line: PushLine) -> None:
        if self.carry is None or line.held or line.sign_in.moving or line.in_flight or line.waits_for_retry:
            return
        again = len(line.unconfirmed)
        self._fill(line)
        if not line.unconfirmed:
            return
        line.in_flight = True
        self._record.push_attempts[line.agent_id] += 1
        self._record.push_repeated[line.agent_id] += again
        faults = self._faults.for_push(line.agent_id)
        body = self._body(line.agent_id, line.unconfirmed)
        self.carry(Parcel(line, body, line.sign_in.ring.current, len(line.unconfirmed), faults))

    def _fill(self, line: PushLine) -> None:
        """Put waiting events behind the unconfirmed ones; a raw body and the old shape travel alone."""
        limit = 1 if self._settings.push_shape == "old" else self._settings.push_batch_limit
        while len(line.unconfirmed) < limit:
            waiting = line.sign_in.mailbox.oldest()
            alone = any(letter is not None and letter.raw is not None for letter in (waiting, *line.unconfirmed))
            if waiting is None or (alone and line.unconfirmed):
                return
            line.sign_in.mailbox.take()
            line.unconfirmed.append(waiting)

    def _body(self, agent_id: str, letters: list[Letter]) -> bytes:
        if letters[0].raw is not None:
            return letters[0].raw
        if self._settings.push_shape == "old":
            return orjson.dumps({"message": "", "retcode": "0", "event": letters[0].event})
        events: list[Any] = []
        for letter in letters:
            events += letter.event if isinstance(letter.event, list) else [letter.event]
        if not self._settings.push_event_work_no:
            events = [_without_work_no(event) for event in events]
        return orjson.dumps({"workNo": agent_id, "eventList": events})

    def came_back(self, parcel: Parcel, *, accepted: bool) -> None:
        """Take note of how a push ended."""
        line = parcel.line
        line.in_flight = False
        if accepted:
            self._record.push_delivered[line.agent_id] += parcel.events
            self._record.delivered[line.agent_id] += parcel.events
            line.failing_since = None
            del line.unconfirmed[: parcel.events]
        else:
            self._record.push_failures[line.agent_id] += 1
        for tell in line.answered:
            tell()
        line.answered.clear()
        if accepted:
            self._send(line)
        elif not line.closed:
            self._failed(line)

    def _failed(self, line: PushLine) -> None:
        now = self._timetable.now()
        line.failing_since = now if line.failing_since is None else line.failing_since
        if now - line.failing_since >= self._settings.push_fail_seconds:
            self._roster.close(self._roster.agent(line.agent_id), "push_failed")
            return
        line.waits_for_retry = True
        self._timetable.after(self._settings.push_retry_seconds, lambda: self._retry(line))

    def _retry(self, line: PushLine) -> None:
        line.waits_for_retry = False
        if not line.closed:
            self._send(line)

    def state_of(self, agent: Agent) -> dict[str, Any] | None:
        """Return how an agent's pushes stand; None for one who polls. It tells no token."""
        line = None if agent.sign_in is None else agent.sign_in.push
        if line is None:
            return None
        failing = 0.0 if line.failing_since is None else self._timetable.now() - line.failing_since
        return {
            "callback": line.callback,
            "in_flight": line.in_flight,
            "unconfirmed": len(line.unconfirmed),
            "waits_for_retry": line.waits_for_retry,
            "failing_seconds": round(failing, 3),
        }


def _without_work_no(event: Any) -> Any:
    return {name: value for name, value in event.items() if name != "workNo"} if isinstance(event, dict) else event
