"""One typed builder for each operation: what goes onto the wire, before headers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from qc_adapter.gateway import operations
from qc_adapter.model.errors import InvalidRequest
from qc_adapter.model.inspector import number_of
from qc_adapter.model.session import NO_SECRET, Secret

if TYPE_CHECKING:
    from qc_adapter.gateway.operations import Operation


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """
    A request below the base address; `path` and `query` are quoted.

    Body and headers of its own are hidden: they may hold a password or token.
    """

    operation: Operation
    path: str
    query: str = ""
    body: bytes | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class SignInForm:
    """
    The fields of a sign-in (cec_07_1202); `None` is not sent, so the gateway's default holds.

    Events are pushed when both `callback_uri` and `service_token` are given, and polled otherwise.
    """

    password: Secret = NO_SECRET
    phone_number: str | None = None
    auto_answer: bool | None = None
    auto_enter_idle: bool | None = None
    release_phone: bool | None = None
    agent_type: int | None = None
    status: int | None = None
    ip: str | None = None
    entry_ip: str | None = None
    phone_linkage: bool | None = None
    check_in_webm: bool | None = None
    check_in_mailm: bool | None = None
    vc_phone_number: str | None = None
    listen_status: bool | None = None
    callback_uri: str | None = None
    service_token: Secret | None = None

    @property
    def pushed(self) -> bool:
        """Whether the gateway will push the events: one of the two fields alone still means polling."""
        return bool(self.callback_uri) and bool(self.service_token)

    def to_json(self) -> bytes:
        """Return the body under the gateway's field names."""
        fields: dict[str, Any] = {
            "password": self.password.reveal(),
            "phonenum": self.phone_number,
            "autoanswer": self.auto_answer,
            "autoenteridle": self.auto_enter_idle,
            "releasephone": self.release_phone,
            "agenttype": self.agent_type,
            "status": self.status,
            "ip": self.ip,
            "entryIp": self.entry_ip,
            "phonelinkage": self.phone_linkage,
            "checkInWebm": self.check_in_webm,
            "checkInMailm": self.check_in_mailm,
            "vcPhoneNumber": self.vc_phone_number,
            "listenStatus": self.listen_status,
            "callBackUri": self.callback_uri,
            "serviceToken": None if self.service_token is None else self.service_token.reveal(),
        }
        return orjson.dumps({name: value for name, value in fields.items() if value is not None})


@dataclass(frozen=True, slots=True)
class SkillReset:
    """Which skill queues the agent takes part in: all configured ones, or the listed ones among them."""

    automatic: bool = True
    skill_ids: tuple[int, ...] = ()
    phone_linkage: bool | None = None


def _part(name: str, text: str) -> str:
    """Return one path part, quoted. Dots would climb out of the path at the far end."""
    if text in {"", ".", ".."}:
        raise InvalidRequest([(name, "must not be empty or dots")])
    return quote(text, safe="")


def _qc(agent_id: str) -> str:
    return f"/qualitycontrol/{_part('agent_id', number_of(agent_id))}"


def _online(agent_id: str) -> str:
    return f"/onlineagent/{_part('agent_id', number_of(agent_id))}"


def intercept(agent_id: str, work_no: str, call_id: str | None = None) -> GatewayRequest:
    """Take over the agent's call, or that call of the agent."""
    path = f"{_qc(agent_id)}/intercept/{_part('work_no', work_no)}"
    if not call_id:
        return GatewayRequest(operations.INTERCEPT, path)
    return GatewayRequest(operations.INTERCEPT_CALL, f"{path}/{_part('call_id', call_id)}")


def listen(agent_id: str, work_no: str) -> GatewayRequest:
    """Hear the agent's call."""
    return GatewayRequest(operations.LISTEN, f"{_qc(agent_id)}/addsupervise/{_part('work_no', work_no)}")


def insert(agent_id: str, work_no: str) -> GatewayRequest:
    """Join the agent's call as a third voice."""
    return GatewayRequest(operations.INSERT, f"{_qc(agent_id)}/addinsert/{_part('work_no', work_no)}")


def stop_inspecting(agent_id: str, work_no: str) -> GatewayRequest:
    """End listening or inserting."""
    return GatewayRequest(operations.STOP_INSPECTING, f"{_qc(agent_id)}/{_part('work_no', work_no)}")


def whisper(agent_id: str, work_no: str) -> GatewayRequest:
    """Speak to the agent alone. The agent is always named, though the page calls the parameter optional."""
    query = f"whisperagentid={_part('work_no', work_no)}"
    return GatewayRequest(operations.WHISPER, f"{_qc(agent_id)}/requestwhisperagent", query)


def stop_whispering(agent_id: str, work_no: str) -> GatewayRequest:
    """End whispering."""
    query = f"whisperagentid={_part('work_no', work_no)}"
    return GatewayRequest(operations.STOP_WHISPERING, f"{_qc(agent_id)}/requeststopwhisperagent", query)


def sign_in(agent_id: str, form: SignInForm, *, force: bool) -> GatewayRequest:
    """Sign the agent in; with `force` also when another client holds its session."""
    if force:
        return GatewayRequest(operations.FORCE_SIGN_IN, f"{_online(agent_id)}/forcelogin", body=form.to_json())
    return GatewayRequest(operations.SIGN_IN, _online(agent_id), body=form.to_json())


def sign_out(agent_id: str, *, force: bool) -> GatewayRequest:
    """Sign the agent out; with `force` also during a call, which it releases."""
    if force:
        return GatewayRequest(operations.FORCE_SIGN_OUT, f"{_online(agent_id)}/forcelogout")
    return GatewayRequest(operations.SIGN_OUT, f"{_online(agent_id)}/logout")


def reset_skills(agent_id: str, reset: SkillReset) -> GatewayRequest:
    """Set the skill queues: without this step after a sign-in an agent gets no calls."""
    pairs = []
    if reset.skill_ids:
        # The semicolon is data here, not a separator of parameters (WIRE S9).
        pairs.append("skillid=" + ";".join(str(skill) for skill in reset.skill_ids))
    if reset.phone_linkage is not None:
        pairs.append(f"phonelinkage={int(reset.phone_linkage)}")
    path = f"{_online(agent_id)}/resetskill/{'true' if reset.automatic else 'false'}"
    return GatewayRequest(operations.RESET_SKILLS, path, "&".join(pairs))


def poll(agent_id: str) -> GatewayRequest:
    """Ask for the next event; the gateway holds the answer until there is one or its hold time ends."""
    return GatewayRequest(operations.POLL, f"/agentevent/{_part('agent_id', number_of(agent_id))}")


def heartbeat(agent_id: str, token: Secret) -> GatewayRequest:
    """Keep a pushed session alive; the reply brings the new GUID. The token is the one of the sign-in (cec_07_1204)."""
    headers = (("service_token", token.reveal()),) if token else ()
    return GatewayRequest(operations.HANDSHAKE, f"{_online(agent_id)}/handshake", headers=headers)
