"""The fields of a sign-in as options of the command line; what is not given is not sent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import typer

from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.v1 import sessions_pb2 as pb


class Again(StrEnum):
    """What happens when the gateway forgets a sign-in."""

    NEVER = "never"
    SAME_CREDENTIALS = "same-credentials"


class Status(StrEnum):
    """Status right after the sign-in."""

    BUSY = "busy"
    IDLE = "idle"
    WORK = "work"


_STATUSES: Final = {
    Status.BUSY: pb.SignInRequest.BUSY,
    Status.IDLE: pb.SignInRequest.IDLE,
    Status.WORK: pb.SignInRequest.WORK,
}
_AGAIN: Final = {
    Again.NEVER: pb.RE_SIGN_IN_NEVER,
    Again.SAME_CREDENTIALS: pb.RE_SIGN_IN_SAME_CREDENTIALS,
}
_FLAGS: Final = (
    "auto_answer", "auto_enter_idle", "release_phone", "phone_linkage", "check_in_webm", "check_in_mailm",
    "listen_status",
)  # fmt: skip

Flag = bool | None


def _flag(help_text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=help_text, show_default=False)
    return option


@dataclass(frozen=True, slots=True)
class FormOptions:
    """What a sign-in may say beside who signs in."""

    re_sign_in: Annotated[Again, typer.Option(help="What to do when the gateway forgets the sign-in.")] = Again.NEVER
    skills: Annotated[
        str, typer.Option(metavar="IDS", help="Skill queues to serve, as 1,2,3, or all.", show_default=False)
    ] = ""
    status: Annotated[Status | None, typer.Option(help="Status right after the sign-in.", show_default=False)] = None
    agent_type: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="4 PC and phone, 11 video.", show_default=False)
    ] = 0
    ip: Annotated[str, typer.Option(help="IPv4 address of the workplace.")] = ""
    entry_ip: Annotated[str, typer.Option(help="Entry address.")] = ""
    video_phone: Annotated[str, typer.Option(help="Number for video calls.")] = ""
    auto_answer: Annotated[Flag, _flag("Answer calls by itself.")] = None
    auto_enter_idle: Annotated[Flag, _flag("Become idle after a call.")] = None
    release_phone: Annotated[Flag, _flag("Hang up the phone after a call.")] = None
    phone_linkage: Annotated[Flag, _flag("Link the phone.")] = None
    check_in_webm: Annotated[Flag, _flag("Check in at WebM.")] = None
    check_in_mailm: Annotated[Flag, _flag("Check in at MailM.")] = None
    listen_status: Annotated[Flag, _flag("Be told of sign-ins and sign-outs of agents.")] = None

    def request(self) -> pb.SignInRequest:
        """Return the request with these fields, without who signs in."""
        request = pb.SignInRequest(
            ip=self.ip, entry_ip=self.entry_ip, vc_phone_number=self.video_phone, re_sign_in=_AGAIN[self.re_sign_in]
        )
        if self.status is not None:
            request.status = _STATUSES[self.status]
        if self.agent_type:
            request.agent_type = self.agent_type
        for name in _FLAGS:
            if (value := getattr(self, name)) is not None:
                setattr(request, name, value)
        if self.skills:
            request.skills.CopyFrom(_skills(self.skills))
        return request


def _skills(text: str) -> pb.SkillReset:
    if text == "all":
        return pb.SkillReset(automatic=True)
    try:
        return pb.SkillReset(skill_ids=[int(one) for one in text.split(",")])  # refuses what is no uint32, too
    except ValueError:
        raise CommandFailed(Exit.USAGE, f"--skills {text!r} must be numbers with commas between, or all") from None
