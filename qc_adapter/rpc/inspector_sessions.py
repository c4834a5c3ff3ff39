"""The service InspectorSessions: sign-ins, adopted sessions, and what is known of them."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

from qc_adapter.gateway import operations
from qc_adapter.gateway.requests import SignInForm, SkillReset
from qc_adapter.model.errors import InvalidRequest, SessionUnreadable, StoreUnavailable
from qc_adapter.model.inspector import gateway_of, is_inspector_id, number_of
from qc_adapter.model.session import EventSource, Secret, bare_guid
from qc_adapter.rpc.call import current_call, deadline_of
from qc_adapter.rpc.convert import session_message
from qc_adapter.rpc.values import skill_problems
from qc_adapter.sessions.orders import NOTHING_KEPT, Orders
from qc_adapter.v1 import sessions_pb2 as pb
from qc_adapter.v1 import sessions_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import grpc

    from qc_adapter.events.leases import PollStatus
    from qc_adapter.model.session import Session
    from qc_adapter.rpc.parse import Parser
    from qc_adapter.sessions.orders import Kept
    from qc_adapter.sessions.recovery_book import KeptOrders
    from qc_adapter.sessions.service import SessionService

    Context = grpc.aio.ServicerContext[Any, Any]

_Flag = Literal[
    "auto_answer",
    "auto_enter_idle",
    "release_phone",
    "phone_linkage",
    "check_in_webm",
    "check_in_mailm",
    "listen_status",
]
_PAGE: Final = 100
_LARGEST_PAGE: Final = 1000
#: Longest texts of a sign-in (cec_07_1202).
_LENGTHS: Final = {"password": 32, "phone_number": 24, "entry_ip": 64, "vc_phone_number": 24}
_FLAGS: Final[tuple[_Flag, ...]] = get_args(_Flag)
_SOURCES: Final = {
    pb.EVENT_SOURCE_UNSPECIFIED: None,
    pb.EVENT_SOURCE_POLL: EventSource.POLL,
    pb.EVENT_SOURCE_PUSH: EventSource.PUSH,
    pb.EVENT_SOURCE_NONE: EventSource.NONE,
}


class Statuses(Protocol):
    """Knows how polling for an inspector goes."""

    async def statuses(self, agent_ids: Sequence[str]) -> dict[str, PollStatus]: ...


class InspectorSessions(pb_grpc.InspectorSessionsServicer):
    """Answers for sessions; no reply holds a GUID or a password."""

    def __init__(self, parser: Parser, service: SessionService, statuses: Statuses, orders: KeptOrders) -> None:
        self._parser = parser
        self._service = service
        self._statuses = statuses
        self._orders = orders

    async def SignIn(self, request: pb.SignInRequest, context: Context) -> pb.SignInResponse:
        """Sign an inspector in."""
        agent_id = self._inspector(request.agent_id)
        if request.force:
            current_call().method = operations.FORCE_SIGN_IN.method
        orders = Orders(_form(request), force=request.force, skills=_skills(request))
        again = request.re_sign_in == pb.RE_SIGN_IN_SAME_CREDENTIALS
        signed_in = await self._service.sign_in(agent_id, orders, again=again, deadline=deadline_of(context))
        response = pb.SignInResponse(
            session=await self._message(signed_in.session), password_change_required=signed_in.must_change_password
        )
        if signed_in.password_days_left is not None:
            response.password_days_left = signed_in.password_days_left
        return response

    async def SignOut(self, request: pb.SignOutRequest, context: Context) -> pb.SignOutResponse:
        """Sign an inspector out."""
        agent_id = self._inspector(request.agent_id)
        if request.force:
            current_call().method = operations.FORCE_SIGN_OUT.method
        await self._service.sign_out(agent_id, force=request.force, deadline=deadline_of(context))
        return pb.SignOutResponse()

    async def Adopt(self, request: pb.AdoptRequest, context: Context) -> pb.AdoptResponse:
        """Take over a session that another system opened."""
        agent_id = self._inspector(request.agent_id)
        source = _SOURCES.get(request.event_source)
        guid = bare_guid(request.guid)
        problems = []
        if request.event_source not in _SOURCES:
            problems.append(("event_source", f"has no value {int(request.event_source)}"))
        if not guid:
            problems.append(("guid", "is required: the present GUID of the session at the gateway"))
        elif len(guid) > 256 or not guid.isascii() or not guid.isprintable() or " " in guid:
            problems.append(("guid", "must be at most 256 printable ASCII characters"))
        if problems:
            raise InvalidRequest(problems)
        session = await self._service.adopt(agent_id, Secret(guid), source)
        return pb.AdoptResponse(session=await self._message(session))

    async def UpdateGuid(self, request: pb.UpdateGuidRequest, context: Context) -> pb.UpdateGuidResponse:
        """Have the gateway make a fresh GUID."""
        session = await self._service.update_guid(self._inspector(request.agent_id), deadline_of(context))
        return pb.UpdateGuidResponse(session=await self._message(session))

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.GetResponse:
        """Return one session."""
        session = await self._service.get(self._inspector(request.agent_id))
        return pb.GetResponse(session=await self._message(session))

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:
        """Return a page of sessions."""
        if not 0 <= request.page_size <= _LARGEST_PAGE:
            raise InvalidRequest([("page_size", f"must be 0 to {_LARGEST_PAGE}")])
        token = request.page_token
        if token and not is_inspector_id(token):
            raise InvalidRequest([("page_token", "must be empty or the next_page_token of the page before")])
        found, last = await self._service.list(token, request.page_size or _PAGE, current_call().may_see)
        agent_ids = [one.agent_id for one in found]
        statuses, kept = await self._statuses.statuses(agent_ids), await self._kept(agent_ids)
        listed = [_listed(one, statuses.get(one.agent_id), kept.get(one.agent_id, NOTHING_KEPT)) for one in found]
        return pb.ListResponse(sessions=listed, next_page_token=last)

    def _inspector(self, agent_id: str) -> str:
        current_call().about(agent_id)
        return self._parser.agent_id(agent_id)

    async def _message(self, session: Session) -> pb.Session:
        agent_id = session.agent_id
        statuses, kept = await self._statuses.statuses([agent_id]), await self._kept([agent_id])
        return session_message(session, statuses.get(agent_id), kept.get(agent_id, NOTHING_KEPT))

    async def _kept(self, agent_ids: Sequence[str]) -> Mapping[str, Kept]:
        try:
            return await self._orders.kept(agent_ids)
        except StoreUnavailable:
            return {}


def _listed(found: Session | SessionUnreadable, status: PollStatus | None, kept: Kept) -> pb.Session:
    if isinstance(found, SessionUnreadable):
        return pb.Session(
            agent_id=number_of(found.agent_id),
            gateway=gateway_of(found.agent_id),
            state=pb.SESSION_STATE_LOST,
            detail=found.message,
        )
    return session_message(found, status, kept)


def _form(request: pb.SignInRequest) -> SignInForm:
    problems = [
        (field, f"must be at most {longest} characters")
        for field, longest in _LENGTHS.items()
        if len(getattr(request, field)) > longest
    ]
    if request.ip and not _is_ipv4(request.ip):
        problems.append(("ip", "must be an IPv4 address, as 10.1.2.3"))
    if request.status not in (0, 3, 4, 5):
        problems.append(("status", f"has no value {int(request.status)}"))
    if request.re_sign_in not in pb.ReSignIn.values():
        problems.append(("re_sign_in", f"has no value {int(request.re_sign_in)}"))
    if request.skills.automatic and request.skills.skill_ids:
        problems.append(("skills.skill_ids", "must be empty with automatic, which takes all"))
    else:
        problems += skill_problems("skills.skill_ids", request.skills.skill_ids, fewest=0)
    if problems:
        raise InvalidRequest(problems)
    flags: dict[str, Any] = {name: getattr(request, name) for name in _FLAGS if request.HasField(name)}
    return SignInForm(
        password=Secret(request.password),
        phone_number=request.phone_number or None,
        agent_type=request.agent_type if request.HasField("agent_type") else None,
        status=int(request.status) or None,
        ip=request.ip or None,
        entry_ip=request.entry_ip or None,
        vc_phone_number=request.vc_phone_number or None,
        **flags,
    )


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _skills(request: pb.SignInRequest) -> SkillReset | None:
    if not request.HasField("skills"):
        return None
    skills = request.skills
    return SkillReset(
        automatic=skills.automatic,
        skill_ids=tuple(skills.skill_ids),
        phone_linkage=skills.phone_linkage if skills.HasField("phone_linkage") else None,
    )
