"""One typed builder for each operation: what goes onto the wire, before headers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import orjson

from qc_adapter.gateway import operations
from qc_adapter.model.errors import InvalidRequest
from qc_adapter.model.inspector import number_of
from qc_adapter.model.session import NO_SECRET, Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qc_adapter.gateway.operations import Operation


@dataclass(frozen=True, slots=True)
class Condition:
    """What an event of that type has to say to be an effect of a request; "" stands for a field that is not there."""

    event_type: str
    field: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """
    A request below the base address; `path` and `query` are quoted.

    Body and headers of its own are hidden: they may hold a password or token. Of the events that prove its operation
    only those count that fulfil its `conditions`. `releases` is the call that it ends, if it ends one by its id.
    """

    operation: Operation
    path: str
    query: str = ""
    body: bytes | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    conditions: tuple[Condition, ...] = ()
    releases: str = ""


class Mode(IntEnum):
    """How an inspector takes part in a call; the numbers are the gateway's (cec_07_2414)."""

    LISTEN = 0
    INSERT = 1
    WHISPER = 2


#: What the inspected agent is told, by mode (cec_07_0542).
_QC_TYPES: Final = {
    Mode.LISTEN: frozenset({"8"}),
    Mode.INSERT: frozenset({"9"}),
    Mode.WHISPER: frozenset({"20172", "20173"}),
}


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
    # Ids are digits, and `quote` takes longer than all the rest of a request.
    return text if text.isascii() and text.isalnum() else quote(text, safe="")


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


def switch_mode(agent_id: str, work_no: str, mode: Mode) -> GatewayRequest:
    """Go over to another way of taking part, by its name."""
    query = f"whisperagentid={_part('work_no', work_no)}&switchtype={int(mode)}"
    path = f"{_qc(agent_id)}/requestswitchinsertwhisperagent"
    conditions = _begun_by(agent_id, work_no, _QC_TYPES[mode])
    return GatewayRequest(operations.SWITCH_MODE, path, query, conditions=conditions)


def toggle_listen_insert(agent_id: str, work_no: str) -> GatewayRequest:
    """Go from listening to inserting or back."""
    path = f"{_qc(agent_id)}/switch/{_part('work_no', work_no)}"
    conditions = _begun_by(agent_id, work_no, _QC_TYPES[Mode.LISTEN] | _QC_TYPES[Mode.INSERT])
    return GatewayRequest(operations.TOGGLE_LISTEN_INSERT, path, conditions=conditions)


def force_busy(agent_id: str, work_no: str) -> GatewayRequest:
    """Make the agent busy."""
    by_inspector = Condition(operations.SET_NOT_READY, "reason", frozenset({"3"}))
    path = f"{_qc(agent_id)}/forcebusy/{_part('work_no', work_no)}"
    return GatewayRequest(operations.FORCE_BUSY, path, conditions=(by_inspector,))


def force_idle(agent_id: str, work_no: str) -> GatewayRequest:
    """Make the agent idle."""
    return GatewayRequest(operations.FORCE_IDLE, f"{_qc(agent_id)}/forceidle/{_part('work_no', work_no)}")


def force_rest(agent_id: str, work_no: str, seconds: int, cause: int) -> GatewayRequest:
    """Send the agent to rest."""
    path = f"{_qc(agent_id)}/forcerest/{_part('work_no', work_no)}/{seconds}/{cause}"
    return GatewayRequest(operations.FORCE_REST, path)


def force_sign_out(agent_id: str, work_no: str) -> GatewayRequest:
    """Sign another agent out."""
    return GatewayRequest(operations.FORCE_SIGN_OUT_AGENT, f"{_qc(agent_id)}/forcelogout/{_part('work_no', work_no)}")


def force_drop_call(agent_id: str, call_id: str) -> GatewayRequest:
    """Release a call, whoever has it."""
    that_call = frozenset({call_id})
    return GatewayRequest(
        operations.FORCE_DROP_CALL,
        f"{_qc(agent_id)}/forcedropcall/{_part('call_id', call_id)}",
        conditions=tuple(
            Condition(event_type, "call_id", that_call)
            for event_type in (operations.CALL_RELEASE, operations.CUSTOMER_RELEASE)
        ),
        releases=call_id,
    )


def adjust_skills(agent_id: str, work_no: str, skill_ids: Sequence[int]) -> GatewayRequest:
    """Set the agent's skill queues; the only inspection with a body."""
    body = orjson.dumps({"workNo": work_no, "skills": list(skill_ids)})
    return GatewayRequest(operations.ADJUST_SKILLS, f"{_qc(agent_id)}/adjustskill", body=body)


def monitor(agent_id: str, work_nos: Sequence[str]) -> GatewayRequest:
    """Begin to be told of these agents."""
    return GatewayRequest(operations.MONITOR, f"{_qc(agent_id)}/beginmonitor", _agents(work_nos))


def stop_monitoring(agent_id: str, work_nos: Sequence[str]) -> GatewayRequest:
    """Be told of these agents no more."""
    return GatewayRequest(operations.STOP_MONITORING, f"{_qc(agent_id)}/endmonitor", _agents(work_nos))


def _begun_by(agent_id: str, work_no: str, qc_types: frozenset[str]) -> tuple[Condition, ...]:
    """Return what tells our inspection from another inspector's; the pages differ on whose id the event carries."""
    return (
        Condition(operations.BE_QC_START, "qc_type", qc_types),
        Condition(operations.BE_QC_START, "qc_agent_id", frozenset({number_of(agent_id), work_no, ""})),
    )


def _agents(work_nos: Sequence[str]) -> str:
    # The semicolon is data here, not a separator of parameters (WIRE S9).
    return "agents=" + ";".join(quote(work_no, safe="") for work_no in work_nos)


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


def update_guid(agent_id: str) -> GatewayRequest:
    """Ask for a fresh GUID; it comes in the body of the reply."""
    return GatewayRequest(operations.UPDATE_GUID, f"{_online(agent_id)}/updateGuid")


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
