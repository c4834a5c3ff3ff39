"""The story of the demo: an inspector takes a call over, and what that leaves in log and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
import orjson

from qc_adapter.cli.command import Shown
from qc_adapter.cli.output import BAD, DIM, GOOD, HEAD, Output, printable
from qc_adapter.cli.refusals import exit_code_of
from qc_adapter.cli.updates import activity_text
from qc_adapter.client import take_apart
from qc_adapter.v1 import quality_control_pb2 as pb
from qc_adapter.v1 import sessions_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from qc_adapter.cli.stage import Stage

INSPECTOR: Final = "101"
AGENT: Final = "292"
#: Signed in as well, and without a call.
IDLE_AGENT: Final = "293"
_CALL_SECONDS: Final = 20.0


class StoryFailed(Exception):
    """The story did not go as it has to."""


class Story:
    """Plays the steps in order. Fails when something is not as told."""

    def __init__(self, stage: Stage, output: Output, log_file: Path) -> None:
        self._stage = stage
        self._output = output
        self._log_file = log_file
        self.call_id = ""

    async def play(self) -> None:
        """Tell all of it."""
        self._where()
        await self._sign_in()
        await self._call_begins()
        await self._listen()
        await self._intercept()
        await self._refusal()
        self._log_line()
        await self._metrics()
        await self._inspector()
        await self._rest()

    def _where(self) -> None:
        stage = self._stage
        self._output.line(("qc-adapter: a gRPC service in front of a CC-Gateway", HEAD))
        self._output.line(f"  simulated CC-Gateway  {stage.simulator.url}")
        self._output.line(f"  adapter, gRPC         {stage.target}")
        self._output.line(f"  adapter, HTTP         {stage.ops_url}/metrics /livez /readyz")
        self._output.line("All of it is for this machine only, so callers are not asked who they are.")

    def _step(self, number: int, title: str, *explanation: str) -> None:
        self._output.line()
        self._output.line((f"{number}. {title}", HEAD))
        for line in explanation:
            self._output.line(("   " + line, DIM))

    async def _sign_in(self) -> None:
        self._step(
            1,
            f"Inspector {INSPECTOR} and the agents {AGENT} and {IDLE_AGENT} sign in",
            "InspectorSessions.SignIn. The adapter keeps the GUIDs and polls, which keeps the sign-ins alive.",
        )
        for agent_id in (INSPECTOR, AGENT, IDLE_AGENT):
            request = sessions_pb2.SignInRequest(agent_id=agent_id, password="", phone_number=f"40{agent_id}")
            reply = await self._stage.sessions.SignIn(request, timeout=_CALL_SECONDS)
            self._output.line("   ", ("signed in", GOOD), f"  {agent_id} at {reply.session.server_name}")

    async def _call_begins(self) -> None:
        self._step(2, f"A customer calls agent {AGENT}", "The simulator starts the call.")
        self.call_id = self._stage.simulator.start_call(AGENT, "13800000000")
        self._output.line("   ", ("talking", GOOD), f"  call {self.call_id}")

    async def _listen(self) -> None:
        self._step(
            3,
            f"{INSPECTOR} listens to {AGENT}",
            "QualityControl.Listen. `accepted` is the gateway's receipt; the events say what happened.",
        )
        request = pb.ListenRequest(agent_id=INSPECTOR, work_no=AGENT)
        await self._show(self._stage.quality_control.Listen(request, timeout=_CALL_SECONDS))

    async def _intercept(self) -> None:
        self._step(
            4,
            f"{INSPECTOR} intercepts: takes the customer over from {AGENT}",
            "QualityControl.Intercept. CONFIRMED because AgentEvent_Talking came after the command, for this call.",
        )
        request = pb.InterceptRequest(agent_id=INSPECTOR, work_no=AGENT)
        await self._show(self._stage.quality_control.Intercept(request, timeout=_CALL_SECONDS))

    async def _show(self, updates: Any) -> None:
        shown = Shown(self._output)
        await shown.all(updates)
        if shown.unconfirmed:
            raise StoryFailed("the command was not confirmed")

    async def _refusal(self) -> None:
        self._step(
            5,
            f"What a refusal looks like: {INSPECTOR} intercepts {IDLE_AGENT}, to whom it does not listen",
            "The status names a stable reason and the gateway's return code. `qc-adapter explain` knows each code.",
        )
        request = pb.InterceptRequest(agent_id=INSPECTOR, work_no=IDLE_AGENT)
        try:
            await self._show(self._stage.quality_control.Intercept(request, timeout=_CALL_SECONDS))
        except grpc.aio.AioRpcError as error:
            failure = take_apart(error)
            self._output.line("   ", (f"{failure.code.name}  {failure.reason}", BAD))
            self._output.line(f"   {printable(failure.message)}")
            self._output.line(f"   the command line would end with exit code {int(exit_code_of(failure))}")
        else:
            raise StoryFailed("the second intercept was not refused")

    def _log_line(self) -> None:
        self._step(6, "The log line of the intercept", "One JSON object for each finished call.")
        self._output.line(f"   {self._intercept_line()}")

    def _intercept_line(self) -> str:
        for line in self._log_file.read_bytes().splitlines():
            entry = orjson.loads(line)
            if entry.get("method") == "intercept" and entry.get("grpc_code") == "OK":
                return line.decode()
        raise StoryFailed("the log has no line of the intercept")

    async def _metrics(self) -> None:
        self._step(7, "The metrics of the intercept", f"From {self._stage.ops_url}/metrics, for Prometheus.")
        found = [line for line in await self._stage.metrics() if 'method="intercept"' in line]
        if not found:
            raise StoryFailed("the metrics have no line of the intercept")
        for line in found:
            if "_bucket{" not in line:
                self._output.line(f"   {line}")

    async def _inspector(self) -> None:
        self._step(
            8,
            f"What {INSPECTOR} does now",
            "InspectorSessions.Get. The gateway cannot be asked: events and receipts are added up.",
        )
        request = sessions_pb2.GetRequest(agent_id=INSPECTOR)
        session = (await self._stage.sessions.Get(request, timeout=_CALL_SECONDS)).session
        if session.inspected_work_no != AGENT:
            raise StoryFailed(f"the inspector is not said to have taken over the call of {AGENT}")
        self._output.line("   ", (INSPECTOR, GOOD), f"  {activity_text(session)} UTC")

    async def _rest(self) -> None:
        self._step(
            9,
            f"{INSPECTOR} sends {IDLE_AGENT} to rest for a minute",
            "QualityControl.ForceRest. No event comes to the inspector: the agent's own one proves it.",
        )
        request = pb.ForceRestRequest(agent_id=INSPECTOR, work_no=IDLE_AGENT, cause=1)
        request.duration.FromSeconds(60)
        await self._show(self._stage.quality_control.ForceRest(request, timeout=_CALL_SECONDS))
