"""Replicas that misbehave on demand, and a real adapter behind a wire that can be cut, for the client helper."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from qc_adapter.app import Adapter
from qc_adapter.client import QualityControlClient, Timing
from qc_adapter.settings import read_settings
from qc_adapter.simulator import Simulator, SimulatorSettings
from qc_adapter.v1 import (
    events_pb2,
    events_pb2_grpc,
    quality_control_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)

PATIENCE_SECONDS = 30.0
QUICK = Timing(
    silence_seconds=20.0,
    answer_seconds=20.0,
    command_silence_seconds=20.0,
    first_pause_seconds=0.01,
    longest_pause_seconds=0.05,
)
_RESET = struct.pack("ii", 1, 0)


async def until(condition, what="the condition"):
    """Wait until something is true."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < ends, f"{what} never came true"
        await asyncio.sleep(0.005)


@dataclass(frozen=True)
class Status(Exception):
    """A status that a replica ends a stream with; without a reason it is not told by an adapter."""

    code: StatusCode
    reason: str = ""
    metadata: tuple = ()
    retry_seconds: float = 0.0

    def trailing(self):
        """The status as the adapter packs it."""
        if not self.reason:
            return ()
        details = [error_details_pb2.ErrorInfo(reason=self.reason, domain="qc-adapter", metadata=dict(self.metadata))]
        if self.retry_seconds:
            delay = Duration(nanos=int(self.retry_seconds * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        packed = [AnyMessage() for _ in details]
        for one, detail in zip(packed, details, strict=True):
            one.Pack(detail)
        status = status_pb2.Status(code=self.code.value[0], message="scripted", details=packed)
        return (("grpc-status-details-bin", status.SerializeToString()),)


def draining(cursor="", outcome="", retry_seconds=0.02):
    """What a replica says that goes away."""
    told = {"cursor": cursor, "outcome": outcome}
    metadata = tuple((name, value) for name, value in told.items() if value)
    return Status(StatusCode.UNAVAILABLE, "DRAINING", metadata, 0.0 if outcome else retry_seconds)


class Log:
    """The events of one inspector, which several replicas share."""

    def __init__(self):
        self.entries = []
        self._changed = asyncio.Event()

    def append(self, *names):
        """Add events."""
        for name in names:
            cursor = f"c-{len(self.entries) + 1}"
            event = events_pb2.AgentEvent(cursor=cursor, event_type=name)
            self.entries.append(events_pb2.WatchResponse(cursor=cursor, event=event))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def position(self, cursor):
        """How many entries come before what follows the cursor."""
        return {"": len(self.entries), "oldest": 0}.get(cursor, int(cursor[2:] or 0) if cursor[:2] == "c-" else 0)

    async def after(self, position):
        """The entry at a position, as soon as there is one."""
        while len(self.entries) <= position:
            await self._changed.wait()
        return self.entries[position]


class Replica(events_pb2_grpc.InspectorEventsServicer, quality_control_pb2_grpc.QualityControlServicer):
    """
    A server that speaks the contract and fails as planned.

    `watches` and `commands` hold one plan for each call to come. A plan is a list of messages, of statuses to end with,
    of numbers (so many entries of the log), and of "freeze". Without a plan a watch follows the log.
    """

    def __init__(self, log):
        self.log = log
        self.watches = []
        self.commands = []
        self.requests = []
        self.certificates = []
        self.open = 0
        self.port = 0
        self._server = None

    async def start(self, credentials=None):
        """Listen, on the same port as before if there was one."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        events_pb2_grpc.add_InspectorEventsServicer_to_server(self, self._server)
        quality_control_pb2_grpc.add_QualityControlServicer_to_server(self, self._server)
        address = f"127.0.0.1:{self.port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        await self._server.start()

    async def stop(self):
        """Die: every call breaks."""
        if self._server is not None:
            await self._server.stop(None)
            await until(lambda: not self.open, "the end of all calls")
            self._server = None

    async def Watch(self, request, context):  # noqa: N802 - named by the contract
        """Stream as planned, then what the log brings."""
        plan = self.watches.pop(0) if self.watches else []
        self.requests.append(request)
        self.certificates += context.auth_context().get("x509_pem_cert", ())
        position = self.log.position(request.cursor)
        subscribed = events_pb2.WatchResponse(cursor=f"c-{position}", subscribed=events_pb2.Subscribed())
        async with self._played(context, [subscribed, *plan, "follow"], position) as messages:
            async for message in messages:
                yield message

    async def Intercept(self, request, context):  # noqa: N802 - same
        """Stream as planned."""
        self.requests.append(request)
        plan = self.commands.pop(0) if self.commands else []
        async with self._played(context, plan, 0) as messages:
            async for message in messages:
                yield message

    @contextlib.asynccontextmanager
    async def _played(self, context, plan, position):
        self.open += 1
        try:
            async with contextlib.aclosing(self._play(plan, position)) as messages:
                yield messages
        except Status as status:
            await context.abort(status.code, "scripted", status.trailing())
        finally:
            self.open -= 1

    async def _play(self, plan, position):
        for step in plan:
            match step:
                case int():
                    for _ in range(step):
                        yield await self.log.after(position)
                        position += 1
                case "follow":
                    while True:
                        yield await self.log.after(position)
                        position += 1
                case "end":
                    return
                case "freeze":
                    await asyncio.Event().wait()
                case Status():
                    raise step
                case _:
                    yield step


class Wire:
    """A TCP proxy before a server, which can cut the connections that there are."""

    def __init__(self, target_port):
        self._target_port = target_port
        self._server = None
        self._writers = set()
        self._tasks = set()
        self.taken = 0
        self.port = 0

    async def accept(self):
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self):
        """Reset every connection; new ones are taken."""
        for writer in self._writers:
            raw = writer.get_extra_info("socket")
            if not writer.transport.is_closing():
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def refuse(self):
        """Cut every connection and refuse new ones."""
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self.taken += 1
        try:
            with contextlib.suppress(ConnectionError):
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
                self._writers |= {writer, there_writer}
                await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        finally:
            writer.close()
            self._tasks.discard(task)


async def _pump(reader, writer):
    try:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()


@pytest.fixture
async def nothing_leaks():
    """After the test the tasks are what they were."""
    keeps_grpc_alive = grpc.aio.insecure_channel("127.0.0.1:1")
    tasks = asyncio.all_tasks()
    yield
    me = asyncio.current_task()
    await until(lambda: not asyncio.all_tasks() - tasks - {me}, "no task is left")
    await keeps_grpc_alive.close()


@pytest.fixture
def log():
    """The log that the replicas of a test share."""
    return Log()


@pytest.fixture
async def replicas(nothing_leaks, log):
    """Two replicas with one log."""
    made = [Replica(log), Replica(log)]
    for replica in made:
        await replica.start()
    yield made
    for replica in made:
        await replica.stop()


@pytest.fixture
def replica(replicas):
    """The first replica."""
    return replicas[0]


@pytest.fixture
async def deaf_port(nothing_leaks):
    """A port where connections are taken and nothing is said."""
    leave = asyncio.Event()

    async def deaf(_reader, writer):
        await leave.wait()
        writer.close()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    leave.set()
    server.close()
    await server.wait_closed()


@pytest.fixture
async def open_client(nothing_leaks):
    """A function that opens a client with quick pauses; it is closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(*ports, timing=QUICK):
            targets = [f"127.0.0.1:{port}" for port in ports]
            return await stack.enter_async_context(QualityControlClient(targets, timing=timing, jitter=lambda: 1.0))

        yield begin


@dataclass
class Site:
    """A simulated gateway, an adapter before it, and the wire from a client to the adapter."""

    simulator: Simulator
    adapter: Adapter
    wire: Wire

    @property
    def puts(self):
        """How many intercepts reached the gateway."""
        return len(self.simulator.requests("intercept"))


@pytest.fixture
async def site(nothing_leaks):
    """A site where inspector 101 listens to agent 292, who talks with a customer."""
    settings = {
        "QC_LISTEN": "127.0.0.1:0",
        "QC_OPS_LISTEN": "127.0.0.1:0",
        "QC_POLL_PAUSE_SECONDS": "0.005",
        "QC_POLL_HOLD_SECONDS": "1",
        "QC_DRAIN_SECONDS": "0",
        "QC_GRACE_SECONDS": "2",
        "QC_AUDIT_LOG": "off",
    }
    quick = SimulatorSettings(event_delay_seconds=0.005, poll_hold_seconds=1.0, control_enabled=False)
    async with Simulator(quick) as simulator:
        simulator.sign_in("292")
        simulator.start_call("292")
        async with Adapter(read_settings(settings | {"QC_GATEWAY_URL": simulator.url})) as adapter:
            wire = Wire(adapter.port)
            await wire.accept()
            async with QualityControlClient(f"127.0.0.1:{adapter.port}") as client:
                sessions = sessions_pb2_grpc.InspectorSessionsStub(client.channel)
                await sessions.SignIn(sessions_pb2.SignInRequest(agent_id="101", phone_number="1"), timeout=20)
                assert (await client.listen("101", "292")).confirmed
            await until(lambda: simulator.state_of("101") == "LISTENING", "listening")
            yield Site(simulator, adapter, wire)
            await wire.refuse()


@pytest.fixture
async def client(site, open_client):
    """A client of the site, over the wire that can be cut."""
    return await open_client(site.wire.port)


@pytest.fixture(name="until")
def until_fixture():
    """The function that waits for a condition."""
    return until


@pytest.fixture(name="status")
def status_fixture():
    """What makes a status to end a stream with."""
    return Status


@pytest.fixture(name="draining")
def draining_fixture():
    """What makes the status of a replica that goes away."""
    return draining


@pytest.fixture
def quick():
    """The timing that tests use where they need no other."""
    return QUICK
