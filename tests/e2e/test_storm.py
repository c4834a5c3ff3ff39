"""Many calls at once and callers that leave at any moment: nothing is sent twice, nothing is left behind."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from qc_adapter.app import Adapter
from qc_adapter.settings import read_settings
from qc_adapter.simulator import Simulator, SimulatorSettings
from qc_adapter.v1 import quality_control_pb2 as pb
from qc_adapter.v1 import quality_control_pb2_grpc as pb_grpc
from qc_adapter.v1 import sessions_pb2, sessions_pb2_grpc

INSPECTORS = [str(number) for number in range(1000, 1040)]
OPERATIONS = {"Listen": "addSupervise", "Intercept": "intercept", "StopInspecting": "stopSuperviseOrInsert"}
REQUESTS = {"Listen": pb.ListenRequest, "Intercept": pb.InterceptRequest, "StopInspecting": pb.StopInspectingRequest}
IN_FLIGHT = 20
CYCLES = 250
# Below that a call is rarely over; above it hardly ever open.
CANCEL_WITHIN_SECONDS = 0.1


class Floor:
    """A simulator, an adapter and a caller in one process, and the count of what was done."""

    def __init__(self, simulator, adapter, channel):
        self.simulator = simulator
        self.adapter = adapter
        self._control = pb_grpc.QualityControlStub(channel)
        self._sessions = sessions_pb2_grpc.InspectorSessionsStub(channel)
        self.endings = Counter()
        self.unexpected = []

    async def sign_in(self):
        """Sign the inspectors in and wait until each of them has a poll held."""
        for agent_id in INSPECTORS:
            await self._sessions.SignIn(sessions_pb2.SignInRequest(agent_id=agent_id), timeout=30)
        await until(lambda: self.held_polls() == len(INSPECTORS))

    def held_polls(self):
        """How many polls wait at the gateway."""
        agents = self.simulator.gateway.roster.agents()
        return sum(agent.sign_in.mailbox.held_polls() for agent in agents if agent.sign_in)

    async def command(self, rpc, inspector, agent, *, cancel_after_seconds=None, request_id=""):
        """Run one command to its end; returns `confirmed`, `cancelled`, the retcode of a refusal, or the status."""
        request = REQUESTS[rpc](agent_id=inspector, work_no=agent, options=pb.CommandOptions(request_id=request_id))
        call = getattr(self._control, rpc)(request, timeout=40)
        timer = cancel_after_seconds and asyncio.get_running_loop().call_later(cancel_after_seconds, call.cancel)
        ending = "no outcome"
        try:
            async for update in call:
                if update.HasField("outcome"):
                    ending = pb.CommandOutcome.State.Name(update.outcome.state).lower()
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
            ending = "cancelled"
        except grpc.aio.AioRpcError as error:
            # A cancellation between two messages comes as a status instead of the exception.
            cancelled = error.code() is grpc.StatusCode.CANCELLED
            ending = "cancelled" if cancelled else f"{error.code().name} {error.details()}"
        finally:
            if timer:
                timer.cancel()
        self.endings[rpc, ending.split()[0]] += 1
        return ending

    def received(self):
        """How often the gateway received each command: (operation, inspector, agent)."""
        wanted = set(OPERATIONS.values())
        commands = self.simulator.record.commands
        return Counter((one.operation, one.agent_id, one.target) for one in commands if one.operation in wanted)

    def leftovers(self):
        """What a finished call must not leave in the adapter."""
        feeds = self.adapter.hub._feeds
        return {
            "commands on their way": self.adapter.runner.in_flight,
            "feeds with readers": sum(bool(feed.readers or feed._waiting) for feed in feeds.values()),
            "feeds with listeners": sum(bool(feed.listeners) for feed in feeds.values()),
        }


NOTHING = {"commands on their way": 0, "feeds with readers": 0, "feeds with listeners": 0}


async def until(condition):
    """Wait for a condition; the test's own timeout is the limit."""
    while not condition():  # noqa: ASYNC110 - the condition is in another party's state
        await asyncio.sleep(0.01)


def census():
    """Tasks and descriptors of this process."""
    return len(asyncio.all_tasks()), len(list(Path("/dev/fd").iterdir()))


@asynccontextmanager
async def signed_in_floor():
    """Everything on loopback, inspectors signed in; polls follow each other quickly so that events come quickly."""
    settings = SimulatorSettings(event_delay_seconds=0.0, recorded_requests=20_000, phone_connected=True)
    async with Simulator(settings) as simulator:
        environment = {
            "QC_GATEWAY_URL": simulator.url,
            "QC_LISTEN": "127.0.0.1:0",
            "QC_OPS_LISTEN": "127.0.0.1:0",
            "QC_POLL_PAUSE_SECONDS": "0.02",
            "QC_AUDIT_LOG": "off",
        }
        async with (
            Adapter(read_settings(environment)) as adapter,
            grpc.aio.insecure_channel(f"127.0.0.1:{adapter.port}") as channel,
        ):
            floor = Floor(simulator, adapter, channel)
            await floor.sign_in()
            yield floor


@pytest.fixture
async def floor():
    """The floor; its end is part of each test: no task outlives it."""
    before = asyncio.all_tasks()
    async with signed_in_floor() as built:
        yield built
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert {task.get_name() for task in left} == set()


async def test_all_inspectors_intercept_in_one_moment(floor):
    """Intercepts given at the same moment are all confirmed, each with one request to the gateway."""
    pairs = [(inspector, str(3000 + number)) for number, inspector in enumerate(INSPECTORS)]
    for _, agent in pairs:
        floor.simulator.start_call(agent)
    await asyncio.gather(*(floor.command("Listen", *pair) for pair in pairs))
    await asyncio.gather(*(floor.command("Intercept", *pair) for pair in pairs))
    assert floor.endings == {("Listen", "confirmed"): len(pairs), ("Intercept", "confirmed"): len(pairs)}
    assert set(floor.received().values()) == {1}
    assert len(floor.received()) == 2 * len(pairs)
    assert floor.leftovers() == NOTHING


async def test_a_storm_of_cancelled_calls_leaves_nothing_behind(floor):
    """Half of the calls are cancelled at any moment: each command goes out at most once, and all comes back."""
    tasks_before, descriptors_before = census()
    storm = Storm(floor)
    await storm.run()
    assert storm.unexpected == []
    received = floor.received()
    assert set(received.values()) == {1}
    assert storm.answered <= received.keys() <= storm.given
    cancelled = sum(number for (_, ending), number in floor.endings.items() if ending == "cancelled")
    assert cancelled > floor.endings.total() / 10
    # Commands whose callers are gone still wait for their events.
    await until(lambda: floor.leftovers() == NOTHING and floor.held_polls() == len(INSPECTORS))
    # Kept connections to the gateway are no leak: twice as many as workers, for twins, with both ends in this process.
    tasks, descriptors = census()
    assert tasks <= tasks_before + 2 * IN_FLIGHT
    assert descriptors <= descriptors_before + 4 * IN_FLIGHT
    assert floor.simulator.record.poll_overlaps() == 0


class Storm:
    """Cycles of commands, each on a call and an agent of its own, so that every command is known by its names."""

    def __init__(self, floor):
        self._floor = floor
        self._random = random.Random(7)  # noqa: S311 - a repeatable choice, nothing secret
        self._cycles = iter(range(CYCLES))
        self.given = set()
        self.answered = set()
        self.unexpected = []

    async def run(self):
        """Keep IN_FLIGHT inspectors busy until all cycles are done."""
        free = asyncio.Queue()
        for inspector in INSPECTORS:
            free.put_nowait(inspector)

        async def worker():
            for number in self._cycles:
                inspector = await free.get()
                await self._cycle(inspector, str(3000 + number))
                free.put_nowait(inspector)

        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))

    async def _cycle(self, inspector, agent):
        call_id = self._floor.simulator.start_call(agent)
        doubt = False
        for rpc in ("Listen", self._random.choice(("Intercept", "StopInspecting"))):
            # Some commands are given by two callers at once, under one request id.
            twins = self._random.choice((1, 1, 1, 2))
            request_id = f"{rpc}-{agent}" if twins == 2 else ""
            endings = await asyncio.gather(*(self._one(rpc, inspector, agent, request_id, doubt) for _ in range(twins)))
            doubt = doubt or set(endings) == {"cancelled"}
        # Frees the inspector, whatever became of the commands.
        self._floor.simulator.end_call(call_id)

    async def _one(self, rpc, inspector, agent, request_id, doubt):
        cancel_after_seconds = self._random.choice((None, self._random.uniform(0.0001, CANCEL_WITHIN_SECONDS)))
        key = (OPERATIONS[rpc], inspector, agent)
        self.given.add(key)
        ending = await self._floor.command(
            rpc, inspector, agent, cancel_after_seconds=cancel_after_seconds, request_id=request_id
        )
        if ending == "confirmed":
            self.answered.add(key)
        elif ending == "cancelled":
            if cancel_after_seconds is None:
                self.unexpected.append((key, ending))
        elif doubt and ending.startswith("FAILED_PRECONDITION"):
            self.answered.add(key)  # an earlier command of the cycle may never have gone out
        else:
            self.unexpected.append((key, ending))
        return ending
