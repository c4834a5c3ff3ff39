"""A caller of one replica: its stubs, and how its calls ended."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from qc_adapter.v1 import (
    events_pb2,
    events_pb2_grpc,
    quality_control_pb2,
    quality_control_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)
from tests.support.watching import kinds, until

if TYPE_CHECKING:
    from qc_adapter.app import Adapter
    from qc_adapter.simulator import Simulator

PASSWORD = "pw-canary-7f3a"


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


@dataclass(kw_only=True)
class Caller:
    """A client of an adapter, with the simulated gateway behind it at hand."""

    simulator: Simulator
    adapter: Adapter
    channel: grpc.aio.Channel
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

    def intercept(self, agent_id="101", work_no="292", *, call_id="", timeout=20, metadata=None, **options):
        """Begin an intercept."""
        request = quality_control_pb2.InterceptRequest(agent_id=agent_id, work_no=work_no, call_id=call_id)
        if isinstance(seconds := options.get("confirm_within"), float):
            options["confirm_within"] = Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
        request.options.CopyFrom(quality_control_pb2.CommandOptions(**options))
        return self.commands.Intercept(request, timeout=timeout, metadata=metadata)

    def watch(self, agent_id="101", cursor="", **more):
        """Begin a watch."""
        return self.events.Watch(events_pb2.WatchRequest(agent_id=agent_id, cursor=cursor, **more), timeout=15)

    def sign_in(self, agent_id="101", **more):
        """Begin a sign-in."""
        request = sessions_pb2.SignInRequest(agent_id=agent_id, **{"password": PASSWORD, "phone_number": "1"} | more)
        return self.sessions.SignIn(request, timeout=20)

    def get(self, agent_id="101"):
        """Begin to ask for a session."""
        return self.sessions.Get(sessions_pb2.GetRequest(agent_id=agent_id), timeout=20)

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

    async def loses_the_gateway(self, wire):
        """Cut a held poll of 101 off and refuse connections; the gateway forgets it, or it would take an event."""
        await self.held_poll()
        await wire.refuse()
        self.simulator.gateway.roster.release_polls()

    def _agent(self, agent_id):
        return self.simulator.state()["agents"][agent_id]

    async def serving(self, service=""):
        """What grpc.health.v1 says."""
        reply = await self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)

    async def page(self, path, **headers):
        """A page of the ops port."""
        url = f"http://127.0.0.1:{self.adapter.ops_port}{path}"
        async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as reply:
            return await reply.text()

    async def calms_down(self, before):
        """Wait until nothing of any call is left in the running adapter."""
        await self.channel.close()
        adapter = self.adapter
        await until(lambda: adapter.runner.in_flight == 0, "no command in flight")
        await until(lambda: not any(feed.followed for feed in adapter.hub._feeds.values()), "no reader of a feed")
        await until(lambda: adapter.sessions.under_way == 0, "no sign-in under way")
        await until(lambda: not kinds() - before, f"no new task: {kinds() - before}")
        open_streams = re.findall(r"^qc_streams_active\{.*\} [^0].*$", await self.page("/metrics"), re.MULTILINE)
        assert open_streams == []
