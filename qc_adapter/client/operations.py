"""One method for each command, for callers that want its result and not its updates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from qc_adapter.client.command import FOLLOW, MODE, CommandResult, Follow, Mode
from qc_adapter.v1 import quality_control_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Unpack


class Following(TypedDict, total=False):
    """How a command is run and followed; everything has a default."""

    request_id: str | None
    follow: Follow
    confirm_within_seconds: float | None
    timeout_seconds: float | None
    on_update: Callable[[pb.CommandUpdate], None] | None


class Operations(Protocol):
    """The commands by name; `run` is the way they all go. All raise `CallFailed` and `OutcomeUnknown`."""

    async def run(
        self,
        rpc: str,
        request: Any,
        *,
        timeout_seconds: float | None = None,
        on_update: Callable[[pb.CommandUpdate], None] | None = None,
    ) -> CommandResult:
        """Run a command to its end."""
        ...

    async def intercept(
        self, agent_id: str, work_no: str, *, call_id: str = "", **how: Unpack[Following]
    ) -> CommandResult:
        """Take the customer's call over from an agent; listen, insert or whisper first."""
        return await self._command(
            "Intercept", pb.InterceptRequest(agent_id=agent_id, work_no=work_no, call_id=call_id), how
        )

    async def listen(self, agent_id: str, work_no: str, **how: Unpack[Following]) -> CommandResult:
        """Listen to an agent's call, unheard."""
        return await self._command("Listen", pb.ListenRequest(agent_id=agent_id, work_no=work_no), how)

    async def insert(self, agent_id: str, work_no: str, **how: Unpack[Following]) -> CommandResult:
        """Join an agent's call; both hear the inspector."""
        return await self._command("Insert", pb.InsertRequest(agent_id=agent_id, work_no=work_no), how)

    async def stop_inspecting(self, agent_id: str, work_no: str, **how: Unpack[Following]) -> CommandResult:
        """End listening or inserting."""
        return await self._command("StopInspecting", pb.StopInspectingRequest(agent_id=agent_id, work_no=work_no), how)

    async def whisper(self, agent_id: str, work_no: str, **how: Unpack[Following]) -> CommandResult:
        """Speak to an agent; the customer does not hear it."""
        return await self._command("Whisper", pb.WhisperRequest(agent_id=agent_id, work_no=work_no), how)

    async def stop_whispering(self, agent_id: str, work_no: str, **how: Unpack[Following]) -> CommandResult:
        """End whispering."""
        return await self._command("StopWhispering", pb.StopWhisperingRequest(agent_id=agent_id, work_no=work_no), how)

    async def switch_mode(self, agent_id: str, work_no: str, mode: Mode, **how: Unpack[Following]) -> CommandResult:
        """Go over to listening, inserting or whispering."""
        request = pb.SwitchModeRequest(agent_id=agent_id, work_no=work_no, mode=MODE[mode])
        return await self._command("SwitchMode", request, how)

    async def toggle_listen_insert(self, agent_id: str, work_no: str, **how: Unpack[Following]) -> CommandResult:
        """Go from listening to inserting or back; `switch_mode` says where to."""
        return await self._command(
            "ToggleListenInsert", pb.ToggleListenInsertRequest(agent_id=agent_id, work_no=work_no), how
        )

    async def force_busy(self, agent_id: str, work_no: str, **how: Unpack[Following]) -> CommandResult:
        """Make an agent busy."""
        return await self._command("ForceBusy", pb.ForceBusyRequest(agent_id=agent_id, work_no=work_no), how)

    async def force_idle(self, agent_id: str, work_no: str, **how: Unpack[Following]) -> CommandResult:
        """Make an agent idle."""
        return await self._command("ForceIdle", pb.ForceIdleRequest(agent_id=agent_id, work_no=work_no), how)

    async def force_sign_out(self, agent_id: str, work_no: str, **how: Unpack[Following]) -> CommandResult:
        """Sign an agent out."""
        return await self._command("ForceSignOut", pb.ForceSignOutRequest(agent_id=agent_id, work_no=work_no), how)

    async def force_rest(
        self, agent_id: str, work_no: str, *, seconds: int, cause: int, **how: Unpack[Following]
    ) -> CommandResult:
        """Send an agent to rest."""
        request = pb.ForceRestRequest(agent_id=agent_id, work_no=work_no, cause=cause)
        request.duration.FromSeconds(seconds)
        return await self._command("ForceRest", request, how)

    async def force_drop_call(self, agent_id: str, call_id: str, **how: Unpack[Following]) -> CommandResult:
        """Release a call by its id, whoever has it."""
        return await self._command("ForceDropCall", pb.ForceDropCallRequest(agent_id=agent_id, call_id=call_id), how)

    async def adjust_skills(
        self, agent_id: str, work_no: str, skill_ids: Iterable[int], **how: Unpack[Following]
    ) -> CommandResult:
        """Set the skill queues of an agent."""
        request = pb.AdjustSkillsRequest(agent_id=agent_id, work_no=work_no, skill_ids=skill_ids)
        return await self._command("AdjustSkills", request, how)

    async def monitor(self, agent_id: str, work_nos: Iterable[str], **how: Unpack[Following]) -> CommandResult:
        """Begin to monitor agents; their news come to a `watch` of the inspector."""
        return await self._command("Monitor", pb.MonitorRequest(agent_id=agent_id, work_nos=work_nos), how)

    async def stop_monitoring(self, agent_id: str, work_nos: Iterable[str], **how: Unpack[Following]) -> CommandResult:
        """End monitoring agents."""
        request = pb.StopMonitoringRequest(agent_id=agent_id, work_nos=work_nos)
        return await self._command("StopMonitoring", request, how)

    async def _command(self, rpc: str, request: Any, how: Following) -> CommandResult:
        request.options.CopyFrom(
            options_message(
                how.get("request_id") or "",
                how.get("follow", Follow.CONFIRMED),
                how.get("confirm_within_seconds"),
            )
        )
        return await self.run(rpc, request, timeout_seconds=how.get("timeout_seconds"), on_update=how.get("on_update"))


def options_message(request_id: str, follow: Follow, confirm_within_seconds: float | None) -> pb.CommandOptions:
    """Return the options of a command as the contract has them."""
    message = pb.CommandOptions(request_id=request_id, follow=FOLLOW[follow])
    if confirm_within_seconds is not None:
        message.confirm_within.FromMicroseconds(round(confirm_within_seconds * 1_000_000))
    return message
