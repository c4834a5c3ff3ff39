"""Judges each request by the policy, and open streams again when the policy is read anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from qc_adapter.access.asked import Asked, read_asked
from qc_adapter.access.policy_methods import METHODS, QUALITY_CONTROL, Names
from qc_adapter.model.errors import CallerNotAllowed, InvalidRequest
from qc_adapter.rpc.call import shown
from qc_adapter.rpc.parse import MOST_MONITORED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qc_adapter.access.caller import Caller
    from qc_adapter.access.limit_values import Limits
    from qc_adapter.access.policy import Policy
    from qc_adapter.rpc.call import Call
    from qc_adapter.rpc.parse import Parser

_WHY: Final = "not_allowed"


class Counts(Protocol):
    """What is counted of callers."""

    def callers(self, names: Iterable[str]) -> None: ...

    def call_refused(self, caller: str, why: str) -> None: ...


class PolicyRights:
    """Allows what the policy allows. As an observer of calls it knows which streams are still open."""

    def __init__(self, policy: Policy, parser: Parser, counts: Counts) -> None:
        self._policy = policy
        self._parser = parser
        self._counts = counts
        self._open: dict[int, tuple[Call, Asked]] = {}
        counts.callers(policy.names)

    def name_of(self, caller: Caller) -> str:
        """Return the caller's name in the policy, empty if it has none."""
        return self._policy.name_of(caller)

    def limits_of(self, caller: Caller) -> Limits:
        """Return the caller's limits as the policy in force has them."""
        return self._policy.limits_of(caller)

    def allow(self, call: Call, request: Any) -> None:
        """
        Raise `CallerNotAllowed` if no rule allows it.

        A request whose ids are none passes where the method may be used at all: the handler says what is wrong.
        """
        method = METHODS.get(call.rpc)
        if method is None:
            raise self._refused(call, "")
        if method.names is Names.NOBODY:
            if not self._policy.knows(call.caller, call.rpc):
                raise self._refused(call, "")
            call.may_see = self._policy.shown(call.caller, call.rpc)
            return
        asked = _read(call.rpc, method.names, request)
        if asked is None:
            if not self._policy.knows(call.caller, call.rpc) or self._is_taken(method.names, request):
                raise self._refused(call, _said(method.names, request), request)
        elif self._policy.decide(call.caller, asked) is None:
            raise self._refused(call, _said(method.names, request), request)
        elif call.streaming:
            self._open[id(call)] = call, asked

    def began(self, call: Call) -> None:
        """Nothing is known of a call yet."""

    def ended(self, call: Call) -> None:
        """Forget a stream."""
        if call.streaming:
            self._open.pop(id(call), None)

    def take(self, policy: Policy) -> None:
        """Judge by another policy from now on; streams whose callers have lost the right to them end."""
        self._policy = policy
        self._counts.callers(policy.names)
        for call, asked in list(self._open.values()):
            if policy.decide(call.caller, asked) is None:
                self._counts.call_refused(policy.name_of(call.caller), _WHY)
                what = f"{call.rpc} for {call.agent_id}, since the policy was changed"
                call.revocation.revoke(CallerNotAllowed(call.caller.name, what, _done(call)))

    def _is_taken(self, names: Names, request: Any) -> bool:
        """Whether the checks of requests would take ids that we could not read: then the two do not agree."""
        try:
            if names is Names.AGENT:
                self._parser.pair(request)
            elif names is Names.AGENTS:
                self._parser.group(request)
            else:
                self._parser.agent_id(request.agent_id)
        except InvalidRequest:
            return False
        return True

    def _refused(self, call: Call, about: str, request: Any = None) -> CallerNotAllowed:
        if request is not None:
            call.about(request.agent_id, getattr(request, "work_no", ""))
        self._counts.call_refused(call.caller_name, _WHY)
        return CallerNotAllowed(call.caller.name, call.rpc + about)


def _read(rpc: str, names: Names, request: Any) -> Asked | None:
    """Return what a request asks for, None if the handler refuses its ids anyway."""
    match names:
        case Names.AGENT:
            # With the id of a call the gateway may go by that alone.
            return read_asked(rpc, request.agent_id, (request.work_no,), unnamed=bool(getattr(request, "call_id", "")))
        case Names.AGENTS:
            if not 1 <= len(request.work_nos) <= MOST_MONITORED:
                return None
            return read_asked(rpc, request.agent_id, request.work_nos)
        case Names.CALL:
            return read_asked(rpc, request.agent_id, unnamed=True)
        case _:
            return read_asked(rpc, request.agent_id)


def _said(names: Names, request: Any) -> str:
    """Return whom the request names, in its own words."""
    about = f" for {shown(request.agent_id)}"
    match names:
        case Names.AGENT:
            call = f" (call {shown(request.call_id)})" if getattr(request, "call_id", "") else ""
            return f"{about}, to {shown(request.work_no)}{call}"
        case Names.AGENTS:
            return f"{about}, to {_listed(request.work_nos)}"
        case Names.CALL:
            return f"{about}, to call {shown(request.call_id)}"
        case _:
            return about


def _listed(work_nos: Sequence[str]) -> str:
    more = len(work_nos) - 1
    return (shown(work_nos[0]) if work_nos else "nobody") + (f" and {more} more" if more > 0 else "")


def _done(call: Call) -> str:
    """Return what is known of the command whose stream is ended."""
    if call.service != QUALITY_CONTROL:
        return ""
    if call.outcome == "confirmed":
        return "confirmed"
    return "accepted" if call.retcode else "unknown"
