"""A command runner over real parts in memory; only the gateway's side is moved by hand, step by step."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from qc_adapter.commands.journal import Journal
from qc_adapter.commands.keeping import Keeping
from qc_adapter.commands.model import Accepted, Command, Follow, Missed, Outcome, Told
from qc_adapter.commands.runner import CommandRunner
from qc_adapter.events.hub import Hub
from qc_adapter.events.model import AgentEvent, Details
from qc_adapter.gateway import requests
from qc_adapter.gateway.client import Receipt
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import GatewayRefused, OutcomeUnknown, SessionUnreadable
from qc_adapter.model.session import Renewal, Secret, Session
from qc_adapter.sessions.keeper import GuidKeeper
from qc_adapter.sessions.memory import MemorySessionStore


@dataclass
class Trip:
    """One command that reached the gateway's client: the test decides when it goes out and what comes back."""

    session: Session
    request: Any
    deadline: Deadline
    go: Any  # call it when the first byte goes out
    reply: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def accept(self, message="", renewal=None):
        self.reply.set_result(Receipt(message, renewal, None, 1_700_000_000.5))

    def refuse(self, retcode, renewal=None):
        self.fail(GatewayRefused("intercept", retcode, "", renewal))

    def lose(self):
        self.fail(OutcomeUnknown("intercept", "intercept was sent and brought no retcode"))

    def fail(self, error):
        self.reply.set_exception(error)


class Gate:
    """Stands for the gateway's client: each `send` waits until the test answers it."""

    def __init__(self):
        self.trips = []
        self._arrived = asyncio.Queue()

    async def send(self, session, request, deadline, on_send):
        trip = Trip(session, request, deadline, on_send)
        self.trips.append(trip)
        self._arrived.put_nowait(trip)
        return await trip.reply

    async def arrived(self):
        """The next command that came here."""
        async with asyncio.timeout(5):
            return await self._arrived.get()


class Follower:
    """A caller: reads a command's stream to its end and keeps what it got."""

    def __init__(self, updates):
        self.updates = []
        self._news = asyncio.Condition()
        self.task = asyncio.create_task(self._read(updates))

    async def _read(self, updates):
        async with aclosing(updates):
            async for update in updates:
                async with self._news:
                    self.updates.append(update)
                    self._news.notify_all()

    async def until(self, count):
        """Wait for that many updates."""
        async with asyncio.timeout(5), self._news:
            await self._news.wait_for(lambda: len(self.updates) >= count)

    async def end(self):
        """Wait for the end of the stream; raises what it ended with. Returns the updates."""
        async with asyncio.timeout(5):
            await self.task
        return self.updates

    async def leave(self):
        """Go away in the midst of it, as a cancelled call does."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    @property
    def kinds(self):
        """The stream in short: `accepted`, event types, reasons of gaps, and `outcome`."""
        names = {
            Accepted: lambda _: "accepted",
            Told: lambda told: told.event.event_type,
            Missed: lambda missed: missed.gap.reason,
            Outcome: lambda _: "outcome",
        }
        return [names[type(update)](update) for update in self.updates]


class Desk:
    """Everything around one runner."""

    Deadline = Deadline
    Follow = Follow

    def __init__(self, capacity=1000):
        self.hub = Hub(capacity)
        self.feed = self.hub.feed("101")
        self.gate = Gate()
        self.store = MemorySessionStore()
        self.keeper = GuidKeeper(self.store)
        self.outcomes = []
        self.confirmations = []
        self.unheard = []
        self.kept = []
        self.unreadable = set()
        self.forgetful = None
        self.followers = []
        self.runner = CommandRunner(
            gateway=self.gate,
            sessions=self,
            keeper=self.keeper,
            hub=self.hub,
            journal=Journal(),
            counts=self,
            keeping=Keeping(self, self),
            unheard=lambda run, label: self.unheard.append((run.command.method, label)),
        )

    # The ports that only take note.

    def command_outcome(self, _gateway, method, outcome):
        self.outcomes.append((method, outcome))

    def command_confirmed(self, _gateway, method, seconds):
        self.confirmations.append((method, seconds))

    async def begin(self, inspector, work_nos):
        if self.forgetful:
            raise self.forgetful
        self.kept.append(("begin", inspector, len(work_nos)))

    async def end(self, inspector, work_nos):
        self.kept.append(("end", inspector, len(work_nos)))

    async def dismiss(self, agent_id):
        self.kept.append(("dismiss", agent_id))

    async def get(self, agent_id):
        if agent_id in self.unreadable:
            raise SessionUnreadable(agent_id, "somebody wrote nonsense")
        return await self.store.get(agent_id)

    # What tests do.

    async def sign_in(self, guid="first"):
        await self.store.put(Session("101", Secret(guid)))

    async def renew(self, used, guid):
        await self.store.renew("101", Secret(used), Renewal(Secret(guid)))

    def command(self, **changes):
        """An intercept of agent 292 by inspector 101."""
        made = Command("101", "292", requests.intercept("101", "292"), confirm_within_seconds=300.0)
        return replace(made, **changes)

    def follow(self, command=None, seconds=None, **changes):
        """Run a command as a caller would."""
        deadline = Deadline.never() if seconds is None else Deadline.after(seconds)
        return self.read(self.runner.run(command or self.command(**changes), deadline))

    def read(self, updates):
        """Read a stream as a caller would."""
        made = Follower(updates)
        self.followers.append(made)
        return made

    def tell(self, *event_types, call_id=""):
        """Let the inspector's events come in."""
        return [self.feed.append(AgentEvent(name, "101", None, None, 0.0, call_id)) for name in event_types]

    def release(self, call_id):
        """Let the inspector leave a call."""
        details = Details("call_release", {"call_id": call_id, "by_customer": False})
        self.feed.append(AgentEvent("AgentEvent_Call_Release", "101", call_id, None, 0.0, call_id, details))

    async def close(self):
        for follower in self.followers:
            await follower.leave()
        await self.runner.stop(0)
        await self.keeper.close()


@pytest.fixture
async def desk():
    """A runner whose inspector 101 is signed in."""
    made = Desk()
    await made.sign_in()
    yield made
    await made.close()


@pytest.fixture
async def small_desk():
    """The same with a log of four entries."""
    made = Desk(capacity=4)
    await made.sign_in()
    yield made
    await made.close()
