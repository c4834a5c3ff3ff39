"""The service QualityControl: a request becomes a command, its updates become messages."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

from qc_adapter.commands.model import Accepted, Outcome, Told
from qc_adapter.commands.monitoring import in_batches, in_turn
from qc_adapter.gateway import requests
from qc_adapter.rpc import values
from qc_adapter.rpc.call import current_call, deadline_of
from qc_adapter.rpc.convert import update_message
from qc_adapter.v1 import quality_control_pb2 as pb
from qc_adapter.v1 import quality_control_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    import grpc

    from qc_adapter.commands.model import Command, Verdict
    from qc_adapter.commands.runner import CommandRunner
    from qc_adapter.gateway.requests import GatewayRequest
    from qc_adapter.rpc.parse import HasGroup, HasTarget, Parser

    Context = grpc.aio.ServicerContext[Any, Any]
    Updates = AsyncGenerator[pb.CommandUpdate]


class Delivers(Protocol):
    """Notes how long an event took from the gateway to a stream."""

    def event_delivered(self, gateway: str, seconds: float) -> None: ...


class QualityControl(pb_grpc.QualityControlServicer):
    """Runs inspection commands."""

    def __init__(self, parser: Parser, runner: CommandRunner, delivers: Delivers) -> None:
        self._parser = parser
        self._runner = runner
        self._delivers = delivers

    def Intercept(self, request: pb.InterceptRequest, context: Context) -> Updates:
        """Take an agent's call over."""

        def build(agent_id: str, work_no: str) -> GatewayRequest:
            return requests.intercept(agent_id, work_no, values.call_id(request.call_id) if request.call_id else None)

        return self._on_target(request, context, build)

    def Listen(self, request: pb.ListenRequest, context: Context) -> Updates:
        """Listen to an agent's call."""
        return self._on_target(request, context, requests.listen)

    def Insert(self, request: pb.InsertRequest, context: Context) -> Updates:
        """Join an agent's call."""
        return self._on_target(request, context, requests.insert)

    def StopInspecting(self, request: pb.StopInspectingRequest, context: Context) -> Updates:
        """End listening or inserting."""
        return self._on_target(request, context, requests.stop_inspecting)

    def Whisper(self, request: pb.WhisperRequest, context: Context) -> Updates:
        """Speak to an agent alone."""
        return self._on_target(request, context, requests.whisper)

    def StopWhispering(self, request: pb.StopWhisperingRequest, context: Context) -> Updates:
        """End whispering."""
        return self._on_target(request, context, requests.stop_whispering)

    def SwitchMode(self, request: pb.SwitchModeRequest, context: Context) -> Updates:
        """Go over to another way of taking part."""

        def build(agent_id: str, work_no: str) -> GatewayRequest:
            return requests.switch_mode(agent_id, work_no, values.mode(request.mode))

        return self._on_target(request, context, build)

    def ToggleListenInsert(self, request: pb.ToggleListenInsertRequest, context: Context) -> Updates:
        """Go from listening to inserting or back."""
        return self._on_target(request, context, requests.toggle_listen_insert)

    def ForceBusy(self, request: pb.ForceBusyRequest, context: Context) -> Updates:
        """Make an agent busy."""
        return self._on_target(request, context, requests.force_busy)

    def ForceIdle(self, request: pb.ForceIdleRequest, context: Context) -> Updates:
        """Make an agent idle."""
        return self._on_target(request, context, requests.force_idle)

    def ForceSignOut(self, request: pb.ForceSignOutRequest, context: Context) -> Updates:
        """Sign an agent out."""
        return self._on_target(request, context, requests.force_sign_out)

    def ForceRest(self, request: pb.ForceRestRequest, context: Context) -> Updates:
        """Send an agent to rest."""

        def build(agent_id: str, work_no: str) -> GatewayRequest:
            return requests.force_rest(agent_id, work_no, *values.rest(request.duration, request.cause))

        return self._on_target(request, context, build)

    def ForceDropCall(self, request: pb.ForceDropCallRequest, context: Context) -> Updates:
        """Release a call."""
        current_call().about(request.agent_id)

        def build(agent_id: str) -> GatewayRequest:
            return requests.force_drop_call(agent_id, values.call_id(request.call_id))

        return self._run([self._parser.command(request, lambda: self._parser.inspector(request), build)], context)

    def AdjustSkills(self, request: pb.AdjustSkillsRequest, context: Context) -> Updates:
        """Set the skill queues of an agent."""

        def build(agent_id: str, work_no: str) -> GatewayRequest:
            return requests.adjust_skills(agent_id, work_no, values.skill_ids(request.skill_ids))

        return self._on_target(request, context, build)

    def Monitor(self, request: pb.MonitorRequest, context: Context) -> Updates:
        """Begin to monitor agents."""
        return self._on_group(request, context, requests.monitor)

    def StopMonitoring(self, request: pb.StopMonitoringRequest, context: Context) -> Updates:
        """End monitoring agents."""
        return self._on_group(request, context, requests.stop_monitoring)

    def _on_target(self, request: HasTarget, context: Context, build: Callable[[str, str], GatewayRequest]) -> Updates:
        current_call().about(request.agent_id, request.work_no)
        command = self._parser.command(
            request, lambda: self._parser.pair(request), lambda agent_id: build(agent_id, request.work_no)
        )
        return self._run([command], context)

    def _on_group(
        self, request: HasGroup, context: Context, build: Callable[[str, Sequence[str]], GatewayRequest]
    ) -> Updates:
        work_nos = list(request.work_nos)
        current_call().about(request.agent_id, work_nos[0] if len(work_nos) == 1 else "")
        command = self._parser.command(
            request, lambda: self._parser.group(request), lambda agent_id: build(agent_id, work_nos)
        )
        return self._run(in_batches(command, work_nos, lambda part: build(command.agent_id, part)), context)

    async def _run(self, commands: Sequence[Command], context: Context) -> Updates:
        call, deadline = current_call(), deadline_of(context)
        call.request_id = commands[0].request_id
        one = len(commands) == 1
        running = self._runner.run(commands[0], deadline) if one else in_turn(self._runner, commands, deadline)
        async with aclosing(running) as updates:
            async for update in updates:
                yield update_message(update)
                if isinstance(update, Told):
                    if update.logged_at >= call.started_at:  # a replay says nothing about delivery
                        self._delivers.event_delivered(call.gateway, time.monotonic() - update.logged_at)
                elif isinstance(update, Accepted):
                    call.retcode = "0"
                elif isinstance(update, Outcome):
                    call.outcome = _label(update.verdict)


def _label(verdict: Verdict) -> str:
    if verdict.confirmed is None:
        return "accepted"
    return "confirmed" if verdict.confirmed else "unconfirmed"
