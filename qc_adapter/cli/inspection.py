"""The commands of an inspector about calls."""

from typing import Annotated

import typer

from qc_adapter.cli.client import ClientOptions
from qc_adapter.cli.command import AgentId, Run, WorkNo, send
from qc_adapter.cli.options import with_options
from qc_adapter.client import Mode
from qc_adapter.client.command import MODE
from qc_adapter.v1 import quality_control_pb2 as pb

CallId = Annotated[str, typer.Option(help="Intercept this call only.")]
StopWhisper = Annotated[bool, typer.Option("--whisper", help="End whispering, not listening or inserting.")]
WantedMode = Annotated[Mode, typer.Option("--mode", help="How to go on.", show_default=False)]
DroppedCall = Annotated[str, typer.Argument(metavar="CALL_ID", help="The call, whoever has it.", show_default=False)]


@with_options
def listen(agent_id: AgentId, work_no: WorkNo, *, run: Run, options: ClientOptions) -> None:
    """Listen to an agent's call, unheard."""
    send("Listen", pb.ListenRequest(agent_id=agent_id, work_no=work_no, options=run.message()), options)


@with_options
def insert(agent_id: AgentId, work_no: WorkNo, *, run: Run, options: ClientOptions) -> None:
    """Join an agent's call; both hear the inspector."""
    send("Insert", pb.InsertRequest(agent_id=agent_id, work_no=work_no, options=run.message()), options)


@with_options
def whisper(agent_id: AgentId, work_no: WorkNo, *, run: Run, options: ClientOptions) -> None:
    """Speak to an agent; the customer does not hear it."""
    send("Whisper", pb.WhisperRequest(agent_id=agent_id, work_no=work_no, options=run.message()), options)


@with_options
def intercept(agent_id: AgentId, work_no: WorkNo, call_id: CallId = "", *, run: Run, options: ClientOptions) -> None:
    """Take the customer's call over from an agent. Listen, insert or whisper first."""
    request = pb.InterceptRequest(agent_id=agent_id, work_no=work_no, call_id=call_id, options=run.message())
    send("Intercept", request, options)


@with_options
def stop(agent_id: AgentId, work_no: WorkNo, whisper: StopWhisper = False, *, run: Run, options: ClientOptions) -> None:
    """End listening or inserting; with --whisper end whispering."""
    ids = {"agent_id": agent_id, "work_no": work_no}
    if whisper:
        send("StopWhispering", pb.StopWhisperingRequest(**ids, options=run.message()), options)
    else:
        send("StopInspecting", pb.StopInspectingRequest(**ids, options=run.message()), options)


@with_options
def switch(agent_id: AgentId, work_no: WorkNo, mode: WantedMode, *, run: Run, options: ClientOptions) -> None:
    """Go over to listening, inserting or whispering."""
    request = pb.SwitchModeRequest(agent_id=agent_id, work_no=work_no, mode=MODE[mode], options=run.message())
    send("SwitchMode", request, options)


@with_options
def toggle(agent_id: AgentId, work_no: WorkNo, *, run: Run, options: ClientOptions) -> None:
    """Go from listening to inserting or back; `switch` says where to."""
    request = pb.ToggleListenInsertRequest(agent_id=agent_id, work_no=work_no, options=run.message())
    send("ToggleListenInsert", request, options)


@with_options
def drop_call(agent_id: AgentId, call_id: DroppedCall, *, run: Run, options: ClientOptions) -> None:
    """Release a call by its id."""
    request = pb.ForceDropCallRequest(agent_id=agent_id, call_id=call_id, options=run.message())
    send("ForceDropCall", request, options)
