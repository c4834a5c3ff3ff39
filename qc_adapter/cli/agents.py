"""The commands of an inspector about other agents: their states, their skills, and who is monitored."""

from typing import Annotated, Final

import typer

from qc_adapter.cli.client import ClientOptions
from qc_adapter.cli.command import AgentId, Run, WorkNo, send
from qc_adapter.cli.options import with_options
from qc_adapter.v1 import quality_control_pb2 as pb

_UINT32_MAX: Final = 2**32 - 1

Seconds = Annotated[int, typer.Option(min=1, max=86_399, help="Length of the rest.", show_default=False)]
Cause = Annotated[int, typer.Option(min=1, max=255, help="Rest reason code of the site.", show_default=False)]
Skills = Annotated[
    list[int], typer.Argument(metavar="SKILL_ID", min=1, max=_UINT32_MAX, help="Skill queues.", show_default=False)
]
WorkNos = Annotated[list[str], typer.Argument(metavar="WORK_NO", help="The agents.", show_default=False)]


@with_options
def force_busy(agent_id: AgentId, work_no: WorkNo, *, run: Run, options: ClientOptions) -> None:
    """Make an agent busy; one who talks, after the call."""
    send("ForceBusy", pb.ForceBusyRequest(agent_id=agent_id, work_no=work_no, options=run.message()), options)


@with_options
def force_idle(agent_id: AgentId, work_no: WorkNo, *, run: Run, options: ClientOptions) -> None:
    """Make an agent idle."""
    send("ForceIdle", pb.ForceIdleRequest(agent_id=agent_id, work_no=work_no, options=run.message()), options)


@with_options
def force_rest(
    agent_id: AgentId, work_no: WorkNo, seconds: Seconds, cause: Cause, *, run: Run, options: ClientOptions
) -> None:
    """Send an agent to rest; one who talks, after the call."""
    request = pb.ForceRestRequest(agent_id=agent_id, work_no=work_no, cause=cause, options=run.message())
    request.duration.FromSeconds(seconds)
    send("ForceRest", request, options)


@with_options
def force_sign_out(agent_id: AgentId, work_no: WorkNo, *, run: Run, options: ClientOptions) -> None:
    """Sign another agent out."""
    send("ForceSignOut", pb.ForceSignOutRequest(agent_id=agent_id, work_no=work_no, options=run.message()), options)


@with_options
def adjust_skills(agent_id: AgentId, work_no: WorkNo, skill_ids: Skills, *, run: Run, options: ClientOptions) -> None:
    """Set the skill queues of an agent."""
    request = pb.AdjustSkillsRequest(agent_id=agent_id, work_no=work_no, skill_ids=skill_ids, options=run.message())
    send("AdjustSkills", request, options)


@with_options
def monitor(agent_id: AgentId, work_nos: WorkNos, *, run: Run, options: ClientOptions) -> None:
    """Be told what agents do; `watch` shows it."""
    send("Monitor", pb.MonitorRequest(agent_id=agent_id, work_nos=work_nos, options=run.message()), options)


@with_options
def stop_monitoring(agent_id: AgentId, work_nos: WorkNos, *, run: Run, options: ClientOptions) -> None:
    """Be told of agents no more."""
    request = pb.StopMonitoringRequest(agent_id=agent_id, work_nos=work_nos, options=run.message())
    send("StopMonitoring", request, options)
