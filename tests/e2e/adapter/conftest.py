"""A whole site on real sockets: simulated gateway, a wire that can break, the adapter, and a client of it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import socket
import stat
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import grpc
import orjson
import pytest
import structlog
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from qc_adapter.app import Adapter
from qc_adapter.settings import read_settings
from qc_adapter.simulator import Simulator, SimulatorSettings
from qc_adapter.telemetry import logs
from qc_adapter.v1 import (
    events_pb2,
    events_pb2_grpc,
    quality_control_pb2,
    quality_control_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)

PATIENCE_SECONDS = 15.0
PASSWORD = "pw-canary-7f3a"
#: Tasks that come and go by themselves in an idle site: connections, polls, looks at the store.
_RESTLESS = (
    "RequestHandler.start",
    "RequestHandler._handle_request",
    "Wire._serve",
    "Wire._pump",
    "RedisSessionStore._bounded",
    "Poller.run",
)
_FILES = Path("/dev/fd")
_RESET = struct.pack("ii", 1, 0)


async def until(condition, what="the condition"):
    """Wait until something is true."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < ends, f"{what} never came true"
        await asyncio.sleep(0.005)


class Wire:
    """A TCP proxy before the gateway: it can refuse connections, and remembers what secrets crossed it."""

    _SECRETS = (
        re.compile(rb"(?i)\r\n(?:set-)?guid:\s*(?:JSESSIONID=)?([^\s;]+)"),
        re.compile(rb"(?i)\r\n(?:set-)?cookie:\s*[^=\r\n]+=([^\s;]+)"),
        re.compile(rb"[0-9a-f]{48}\.AgentGateway\d"),
    )

    def __init__(self):
        self._target = self._port = 0
        self._server = None
        self._tasks = set()
        self._writers = set()
        self._seen = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}"

    @property
    def secrets(self):
        """Every GUID and cookie that crossed the wire, in either direction."""
        return {found.decode() for bytes_ in self._seen for one in self._SECRETS for found in one.findall(bytes_)}

    async def start(self, target):
        self._target = target
        await self.accept()

    async def accept(self):
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def refuse(self):
        """Cut every connection and refuse new ones."""
        self._server.close()
        for writer in self._writers:
            _reset(writer)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError):
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
                self._writers.add(there_writer)
                await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
                self._writers.discard(there_writer)
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _pump(self, reader, writer):
        seen = bytearray()
        self._seen.append(seen)
        try:
            while data := await reader.read(1 << 16):
                seen += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            _reset(writer)
        finally:
            writer.close()


def _reset(writer):
    """Close with a reset instead of a goodbye."""
    raw = writer.get_extra_info("socket")
    if not writer.transport.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@dataclass(frozen=True)
class Ending:
    """How a call ended: its messages, and the status with its details."""

    updates: list
    code: grpc.StatusCode
    message: str = ""
    reason: str | None = None
    domain: str | None = None
    metadata: dict = field(default_factory=dict)
    retry: bool = False
    fields: tuple = ()
    preconditions: tuple = ()

    @property
    def kinds(self):
        """What the updates are, in their order; events by their type."""
        found = [(one.WhichOneof("update"), one) for one in self.updates]
        return [one.event.event_type if kind == "event" else kind for kind, one in found]

    @property
    def outcome(self):
        """The state of the outcome by its name, or None."""
        states = [one.outcome.state for one in self.updates if one.HasField("outcome")]
        assert len(states) < 2
        return quality_control_pb2.CommandOutcome.State.Name(states[0]) if states else None


def _ending(updates, error):
    status = rpc_status.from_call(error)
    known = {"updates": updates, "code": error.code(), "message": error.details()}
    if status is None:
        return Ending(**known)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    for packed in status.details:
        for kind in ("ErrorInfo", "BadRequest", "PreconditionFailure", "RetryInfo"):
            detail = getattr(error_details_pb2, kind)()
            if packed.Unpack(detail):
                known |= _DETAILS[kind](detail)
    return Ending(**known)


_DETAILS = {
    "ErrorInfo": lambda one: {"reason": one.reason, "domain": one.domain, "metadata": dict(one.metadata)},
    "BadRequest": lambda one: {"fields": tuple(violation.field for violation in one.field_violations)},
    "PreconditionFailure": lambda one: {
        "preconditions": tuple((violation.type, violation.subject) for violation in one.violations)
    },
    "RetryInfo": lambda one: {"retry": one.retry_delay.ToTimedelta().total_seconds() > 0},
}


@dataclass
class Site:
    """A gateway, an adapter before it, and a client with its stubs."""

    simulator: Simulator
    wire: Wire
    adapter: Adapter
    channel: grpc.aio.Channel
    tape: Tape
    secrets: set = field(default_factory=lambda: {PASSWORD})
    heard: list = field(default_factory=list)

    def __post_init__(self):
        self.commands = quality_control_pb2_grpc.QualityControlStub(self.channel)
        self.sessions = sessions_pb2_grpc.InspectorSessionsStub(self.channel)
        self.events = events_pb2_grpc.InspectorEventsStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    @property
    def puts(self):
        """How many intercepts reached the gateway."""
        return len(self.simulator.requests("intercept"))

    @property
    def calls(self):
        """The log lines of finished calls."""
        return [line for line in self.tape.lines if line["event"] == "call_finished"]

    def intercept(self, agent_id="101", work_no="292", *, call_id="", timeout=20, **options):
        """Begin an intercept."""
        request = quality_control_pb2.InterceptRequest(agent_id=agent_id, work_no=work_no, call_id=call_id)
        if isinstance(seconds := options.get("confirm_within"), float):
            options["confirm_within"] = Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
        request.options.CopyFrom(quality_control_pb2.CommandOptions(**options))
        return self.commands.Intercept(request, timeout=timeout)

    def watch(self, agent_id="101", cursor="", **more):
        """Begin a watch."""
        return self.events.Watch(events_pb2.WatchRequest(agent_id=agent_id, cursor=cursor, **more), timeout=15)

    def sign_in(self, agent_id="101", **more):
        """Begin a sign-in."""
        request = sessions_pb2.SignInRequest(agent_id=agent_id, **{"password": PASSWORD, "phone_number": "1"} | more)
        return self.sessions.SignIn(request, timeout=20)

    async def ending(self, call):
        """Read a call to its end."""
        updates = []
        try:
            if isinstance(call, grpc.aio.UnaryStreamCall):
                while (update := await call.read()) is not grpc.aio.EOF:
                    updates.append(update)
            else:
                updates.append(await call)
        except grpc.aio.AioRpcError as error:
            ended = _ending(updates, error)
            self.heard.append(f"{ended!r} {error!r} {error.trailing_metadata()!r} {error.debug_error_string()!r}")
        else:
            ended = Ending(updates, grpc.StatusCode.OK)
            self.heard.append(repr(ended))
        return ended

    async def listening(self, agent_id="101", work_no="292"):
        """Let the inspector listen to a call of the agent; returns the call's id."""
        call_id = self.simulator.start_call(work_no)
        request = quality_control_pb2.ListenRequest(agent_id=agent_id, work_no=work_no)
        heard = await self.ending(self.commands.Listen(request, timeout=20))
        assert (heard.code, heard.outcome) == (grpc.StatusCode.OK, "CONFIRMED"), heard
        await until(lambda: self.simulator.state_of(agent_id) == "LISTENING", "listening")
        return call_id

    async def held_poll(self, agent_id="101"):
        """Wait until the gateway holds a poll of the inspector, with nothing to tell."""
        await until(lambda: self._agent(agent_id)["held_polls"] == 1, "a held poll")

    def _agent(self, agent_id):
        return self.simulator.state()["agents"][agent_id]

    async def goes_on(self, agent_id="101", work_no="292"):
        """Prove that the service still works: an intercept by the same inspector, sent once and confirmed."""
        self.simulator.clear_faults()
        state = self.simulator.state_of(agent_id)
        if state == "SIGNED_OUT" or (await self.ending(self.get(agent_id))).code is not grpc.StatusCode.OK:
            assert (await self.ending(self.sign_in(agent_id, force=True))).code is grpc.StatusCode.OK
        if state not in {"LISTENING", "IDLE", "SIGNED_OUT"}:
            for call in self.simulator.state()["calls"]:
                self.simulator.end_call(call["call_id"])
            await until(lambda: self.simulator.state_of(agent_id) == "IDLE", "an idle inspector")
        if self.simulator.state_of(agent_id) != "LISTENING":
            for call in self.simulator.state()["calls"]:
                self.simulator.end_call(call["call_id"])
            await self.listening(agent_id, work_no)
        before = self.puts
        good = await self.ending(self.intercept(agent_id, work_no))
        assert (good.code, good.outcome) == (grpc.StatusCode.OK, "CONFIRMED"), good
        assert self.puts == before + 1

    def get(self, agent_id="101"):
        """Begin to ask for a session."""
        return self.sessions.Get(sessions_pb2.GetRequest(agent_id=agent_id), timeout=20)

    async def serving(self, service=""):
        """What grpc.health.v1 says."""
        reply = await self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)

    async def page(self, path):
        """A page of the ops port."""
        url = f"http://127.0.0.1:{self.adapter.ops_port}{path}"
        async with aiohttp.ClientSession() as client, client.get(url) as reply:
            return await reply.text()

    async def calms_down(self, before):
        """Wait until nothing of any call is left in the running adapter."""
        await self.channel.close()
        adapter = self.adapter
        await until(lambda: adapter.runner.in_flight == 0, "no command in flight")
        await until(lambda: not any(feed.followed for feed in adapter.hub._feeds.values()), "no reader of a feed")
        await until(lambda: not adapter.sessions._tasks, "no sign-in under way")
        await until(lambda: not _kinds() - before, f"no new task: {_kinds() - before}")
        open_streams = re.findall(r"^qc_streams_active\{.*\} [^0].*$", await self.page("/metrics"), re.MULTILINE)
        assert open_streams == []


class Tape(io.BytesIO):
    """All log lines of a test."""

    @property
    def lines(self):
        return [orjson.loads(line) for line in self.getvalue().splitlines()]


def _kinds():
    """What tasks run, by the names of their coroutines."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    tasks = (getattr(task.get_coro(), "__qualname__", "") for task in others)
    return Counter(name for name in tasks if name not in _RESTLESS)


def _sockets():
    """How many sockets the process holds."""
    found = 0
    for number in [int(path.name) for path in _FILES.iterdir()]:
        with contextlib.suppress(OSError):
            found += stat.S_ISSOCK(os.fstat(number).st_mode)
    return found


@pytest.fixture
async def nothing_leaks():
    """After the test and the end of its site, tasks and sockets are what they were."""
    keeps_grpc_alive = grpc.aio.insecure_channel("127.0.0.1:1")
    tasks, sockets = asyncio.all_tasks(), _sockets()
    yield
    me = asyncio.current_task()
    await until(lambda: not asyncio.all_tasks() - tasks - {me}, "no task is left")
    await until(lambda: _sockets() <= sockets, "no socket is left")
    await keeps_grpc_alive.close()


@pytest.fixture
def tape():
    """What is logged, at the finest level."""
    made = Tape()
    logs.configure("debug", stream=made)
    # Loggers that remember their output would write to the tape of the first test for ever.
    structlog.configure(cache_logger_on_first_use=False)
    yield made
    logs.reset()


@pytest.fixture
async def open_site(nothing_leaks, tape):
    """Open a site with other settings; after the test it is checked for leaks and secrets, and closed."""
    async with contextlib.AsyncExitStack() as stack:
        yield lambda *, gateway=None, **environment: _open(stack, tape, gateway or {}, environment)


async def _open(stack, tape, gateway, environment):
    quick = {"event_delay_seconds": 0.005, "poll_hold_seconds": 1.0, "control_enabled": False} | gateway
    simulator = await stack.enter_async_context(Simulator(SimulatorSettings(**quick)))
    wire = Wire()
    await wire.start(int(simulator.url.rsplit(":", 1)[1]))
    stack.push_async_callback(wire.refuse)
    settings = {
        "QC_GATEWAY_URL": wire.url,
        "QC_LISTEN": "127.0.0.1:0",
        "QC_OPS_LISTEN": "127.0.0.1:0",
        "QC_POLL_PAUSE_SECONDS": "0.005",
        "QC_POLL_HOLD_SECONDS": "1",
        "QC_GATEWAY_TIMEOUT_SECONDS": "5",
        "QC_DRAIN_SECONDS": "0",
        "QC_GRACE_SECONDS": "5",
    }
    adapter = await stack.enter_async_context(Adapter(read_settings(settings | environment)))
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{adapter.port}", options=options))
    site = Site(simulator, wire, adapter, channel, tape)
    stack.push_async_callback(_judge, site)
    stack.push_async_callback(site.calms_down, _kinds())
    return site


async def _judge(site):
    """No secret got out, and no defect of our own was logged."""
    told = site.tape.getvalue().decode() + await site.page("/metrics") + await site.page("/readyz")
    told += "".join(site.heard)
    found = [secret for secret in site.secrets | site.wire.secrets if secret in told]
    assert found == []
    assert [line for line in site.tape.lines if line["event"] in {"call_failed", "poller_failed"}] == []
    assert [line for line in site.tape.lines if line.get("logger") == "asyncio"] == []


@pytest.fixture
async def site(open_site):
    """A site with inspector 101 signed in."""
    made = await open_site()
    assert (await made.ending(made.sign_in())).code is grpc.StatusCode.OK
    return made


@pytest.fixture(name="until")
def until_fixture():
    """The function that waits for a condition."""
    return until


@pytest.fixture
def password():
    """The password that sign-ins of this folder send."""
    return PASSWORD
