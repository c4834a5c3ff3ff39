"""The session commands: sign in, sign out, adopt a session that another system opened, renew its GUID, list."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated, Any, Final

import grpc
import typer

from qc_adapter.cli.client import UNARY_SECONDS, ClientOptions, connect
from qc_adapter.cli.options import with_options
from qc_adapter.cli.output import DOUBT, GOOD, Part, printable
from qc_adapter.cli.refusals import to_failed
from qc_adapter.cli.secret_input import read_secret
from qc_adapter.cli.sign_in_form import FormOptions
from qc_adapter.cli.updates import SESSION_STATES, activity_text
from qc_adapter.client import CallFailed, take_apart
from qc_adapter.v1 import sessions_pb2 as pb
from qc_adapter.v1 import sessions_pb2_grpc as pb_grpc


class Source(StrEnum):
    """How the events of a session come."""

    POLL = "poll"
    PUSH = "push"
    NONE = "none"


_SOURCES: Final = {
    None: pb.EVENT_SOURCE_UNSPECIFIED,
    Source.POLL: pb.EVENT_SOURCE_POLL,
    Source.PUSH: pb.EVENT_SOURCE_PUSH,
    Source.NONE: pb.EVENT_SOURCE_NONE,
}
_SOURCE_NAMES: Final = {pb.EVENT_SOURCE_POLL: "poll", pb.EVENT_SOURCE_PUSH: "push", pb.EVENT_SOURCE_NONE: "none"}
_PAGE: Final = 500

AgentId = Annotated[str, typer.Argument(metavar="AGENT_ID", help="The inspector.", show_default=False)]


@with_options
def sign_in(
    agent_id: AgentId,
    phone: Annotated[str, typer.Option(help="Softphone number; newer gateways require it.")] = "",
    password_file: Annotated[str, typer.Option(metavar="FILE", help="Read the password there; - is stdin.")] = "",
    no_password: Annotated[bool, typer.Option("--no-password", help="The agent has none.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Take the session over from another client.")] = False,
    *,
    form: FormOptions,
    options: ClientOptions,
) -> None:
    """Sign an inspector in. The password is asked for, or comes from QC_PASSWORD or a file."""
    request = form.request()
    request.agent_id, request.phone_number, request.force = agent_id, phone, force
    request.password = "" if no_password else read_secret("password", file=password_file, variable="QC_PASSWORD")

    async def run(stub: Any) -> None:
        reply = await stub.SignIn(request, timeout=_seconds(options))
        output = options.output()
        if output.json:
            output.message(reply)
            return
        output.line(("signed in", GOOD), f"  {_session_text(reply.session)}")
        if reply.password_change_required:
            output.line(("the password has to be changed at the gateway", DOUBT))
        elif reply.HasField("password_days_left"):
            output.line(f"the password ends in {reply.password_days_left} days")

    asyncio.run(_calling(run, options))


@with_options
def sign_out(
    agent_id: AgentId,
    force: Annotated[bool, typer.Option("--force", help="Also during a call, which is then released.")] = False,
    *,
    options: ClientOptions,
) -> None:
    """Sign an inspector out."""

    async def run(stub: Any) -> None:
        reply = await stub.SignOut(pb.SignOutRequest(agent_id=agent_id, force=force), timeout=_seconds(options))
        output = options.output()
        if output.json:
            output.message(reply)
        else:
            output.line(("signed out", GOOD), f"  inspector {agent_id}")

    asyncio.run(_calling(run, options))


@with_options
def adopt(
    agent_id: AgentId,
    guid_file: Annotated[str, typer.Option(metavar="FILE", help="Read the GUID there; - is stdin.")] = "",
    event_source: Annotated[
        Source | None,
        typer.Option(help="none: another system reads the events. Else as the settings of the gateway say."),
    ] = None,
    *,
    options: ClientOptions,
) -> None:
    """Take over a session that another system opened. The GUID is asked for, or comes from QC_GUID or a file."""
    guid = read_secret("guid", file=guid_file, variable="QC_GUID")
    request = pb.AdoptRequest(agent_id=agent_id, guid=guid, event_source=_SOURCES[event_source])

    async def run(stub: Any) -> None:
        reply = await stub.Adopt(request, timeout=_seconds(options))
        output = options.output()
        if output.json:
            output.message(reply)
        else:
            output.line(("adopted", GOOD), f"  {_session_text(reply.session)}")

    asyncio.run(_calling(run, options))


@with_options
def update_guid(agent_id: AgentId, *, options: ClientOptions) -> None:
    """Have the gateway make a fresh GUID for an inspector, e.g. when the present one may have been seen."""

    async def run(stub: Any) -> None:
        reply = await stub.UpdateGuid(pb.UpdateGuidRequest(agent_id=agent_id), timeout=_seconds(options))
        output = options.output()
        if output.json:
            output.message(reply)
        else:
            output.line(("GUID updated", GOOD), f"  {_session_text(reply.session)}")

    asyncio.run(_calling(run, options))


@with_options
def sessions(
    agent_id: Annotated[str, typer.Argument(metavar="[AGENT_ID]", help="Only this one.", show_default=False)] = "",
    *,
    options: ClientOptions,
) -> None:
    """List the inspectors' sessions, or show one."""

    async def run(stub: Any) -> None:
        found = await _found(stub, agent_id, _seconds(options))
        output = options.output()
        if output.json:
            for session in found:
                output.message(session)
        elif found:
            heads = ("inspector", "state", "does", "events by", "signs in again", "signed in", "last poll", "detail")
            output.table(heads, [_row(session) for session in found])
        else:
            output.line("no sessions; sign in with: qc-adapter sign-in AGENT_ID")

    asyncio.run(_calling(run, options))


async def _found(stub: Any, agent_id: str, timeout_seconds: float) -> list[pb.Session]:
    if agent_id:
        return [(await stub.Get(pb.GetRequest(agent_id=agent_id), timeout=timeout_seconds)).session]
    found: list[pb.Session] = []
    token = ""
    while True:
        page = await stub.List(pb.ListRequest(page_size=_PAGE, page_token=token), timeout=timeout_seconds)
        found += page.sessions
        token = page.next_page_token
        if not token:
            return found


async def _calling(run: Callable[[Any], Awaitable[None]], options: ClientOptions) -> None:
    try:
        async with connect(options) as client:
            await run(pb_grpc.InspectorSessionsStub(client.channel))
    except grpc.aio.AioRpcError as error:
        raise to_failed(take_apart(error), options.target, may_have_run=True) from error
    except CallFailed as failure:
        raise to_failed(failure, options.target) from failure


def _seconds(options: ClientOptions) -> float:
    return options.timeout_seconds or UNARY_SECONDS


def _id_of(session: pb.Session) -> str:
    """Return the id as every command takes it."""
    return session.agent_id if session.gateway in {"", "default"} else f"{session.gateway}/{session.agent_id}"


def _session_text(session: pb.Session) -> str:
    where = f" at {printable(session.server_name)}" if session.server_name else ""
    return f"inspector {_id_of(session)}{where}, events by {_SOURCE_NAMES.get(session.event_source, 'poll')}"


def _row(session: pb.Session) -> list[Part]:
    signed_in = session.signed_in_time.ToJsonString() if session.HasField("signed_in_time") else "elsewhere"
    last_poll = session.last_poll_time.ToJsonString() if session.HasField("last_poll_time") else "-"
    state = SESSION_STATES.get(session.state, str(session.state))
    if session.event_source == pb.EVENT_SOURCE_NONE and session.state == pb.SESSION_STATE_UNSPECIFIED:
        state = "read elsewhere"
    return [
        _id_of(session),
        state,
        activity_text(session),
        _SOURCE_NAMES.get(session.event_source, "poll"),
        "yes" if session.re_sign_in == pb.RE_SIGN_IN_SAME_CREDENTIALS else "no",
        signed_in.partition(".")[0].removesuffix("Z"),
        last_poll.partition(".")[0].removesuffix("Z"),
        printable(session.detail),
    ]
