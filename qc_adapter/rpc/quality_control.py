"""The service QualityControl: a request becomes a command, its updates become messages."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

from qc_adapter.commands.model import Accepted, Outcome, Told
from qc_adapter.gateway import requests
from qc_adapter.model.errors import NotAvailable
from qc_adapter.rpc.calls import current_call, deadline_of
from qc_adapter.rpc.convert import update_message
from qc_adapter.v1 import quality_control_pb2 as pb
from qc_adapter.v1 import quality_control_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import grpc

    from qc_adapter.commands.model import Verdict
    from qc_adapter.commands.runner import CommandRunner
    from qc_adapter.gateway.requests import GatewayRequest
    from qc_adapter.rpc.parse import Inspection, Parser

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
            return requests.intercept(agent_id, work_no, self._parser.call_id(request.call_id))

        return self._run(request, context, build)

    def Listen(self, request: pb.ListenRequest, context: Context) -> Updates:
        """Listen to an agent's call."""
        return self._run(request, context, requests.listen)

    def Insert(self, request: pb.InsertRequest, context: Context) -> Updates:
        """Join an agent's call."""
        return self._run(request, context, requests.insert)

    def StopInspecting(self, request: pb.StopInspectingRequest, context: Context) -> Updates:
        """End listening or inserting."""
        return self._run(request, context, requests.stop_inspecting)

    def Whisper(self, request: pb.WhisperRequest, context: Context) -> Updates:
        """Speak to an agent alone."""
        return self._run(request, context, requests.whisper)

    def StopWhispering(self, request: pb.StopWhisperingRequest, context: Context) -> Updates:
        """End whispering."""
        return self._run(request, context, requests.stop_whispering)

    async def _not_built(self, request: Any, context: Context) -> AsyncGenerator[pb.CommandUpdate]:
        """Answer UNIMPLEMENTED for what is in the contract and not in this version."""
        raise NotAvailable(current_call().rpc)
        yield

    SwitchMode = ToggleListenInsert = ForceBusy = ForceIdle = _not_built
    ForceSignOut = ForceRest = ForceDropCall = AdjustSkills = _not_built

    async def _run(self, request: Inspection, context: Context, build: Callable[[str, str], GatewayRequest]) -> Updates:
        call = current_call()
        call.about(request.agent_id, request.work_no)
        agent_id = self._parser.pair(request)
        command = self._parser.command(request, agent_id, build(agent_id, request.work_no))
        call.request_id = command.request_id
        async with aclosing(self._runner.run(command, deadline_of(context))) as updates:
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
