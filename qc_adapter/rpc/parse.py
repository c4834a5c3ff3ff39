"""Checks requests and makes them values of the domain. Every problem of a request is named at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from qc_adapter.commands.model import Command, Follow
from qc_adapter.model.errors import InvalidRequest
from qc_adapter.model.inspector import gateway_of, inspector_id, number_of
from qc_adapter.rpc.values import Problems, first_of
from qc_adapter.v1 import quality_control_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from google.protobuf.duration_pb2 import Duration

    from qc_adapter.gateway.requests import GatewayRequest

AGENT_ID_MIN: Final = 101
LONGEST_CONFIRMATION_SECONDS: Final = 300
MOST_MONITORED: Final = 10_000
_ID = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_FOLLOW = {
    pb.FOLLOW_UNTIL_CONFIRMED: Follow.UNTIL_CONFIRMED,
    pb.FOLLOW_NONE: Follow.NONE,
    pb.FOLLOW_UNTIL_RELEASED: Follow.UNTIL_RELEASED,
}


class HasInspector(Protocol):
    """What the requests of all commands have in common."""

    @property
    def agent_id(self) -> str: ...

    @property
    def options(self) -> pb.CommandOptions: ...


class HasTarget(HasInspector, Protocol):
    """The request of a command about another agent."""

    @property
    def work_no(self) -> str: ...


class HasGroup(HasInspector, Protocol):
    """The request of a command about several agents."""

    @property
    def work_nos(self) -> Sequence[str]: ...


class Parser:
    """Checks against the gateways' ranges; the highest agent id depends on the edition of each (CONTRACT 8)."""

    def __init__(self, agent_id_max: Mapping[str, int], confirm_within_seconds: float) -> None:
        """Take the highest agent id by the gateway's name."""
        self._agent_id_max = agent_id_max
        #: Where nobody knows which gateway is meant.
        self._highest = max(agent_id_max.values())
        self._confirm_within_seconds = confirm_within_seconds

    def agent_id(self, text: str) -> str:
        """Return an inspector's id as the adapter uses it; raises `InvalidRequest`."""
        problem = self._inspector_problem(text)
        if problem:
            raise InvalidRequest([("agent_id", problem)], "INVALID_AGENT_ID")
        return inspector_id(gateway_of(text), number_of(text))

    def pair(self, request: HasTarget) -> str:
        """Check inspector and target, and return the inspector's id; raises `InvalidRequest`."""
        gateway, number = gateway_of(request.agent_id), number_of(request.agent_id)
        problems = [
            ("agent_id", self._inspector_problem(request.agent_id)),
            ("work_no", self._number_problem(request.work_no, gateway)),
        ]
        if found := [(field, problem) for field, problem in problems if problem]:
            raise InvalidRequest(found, "INVALID_AGENT_ID")
        if number == request.work_no:
            raise InvalidRequest([("work_no", "must be another agent than the inspector")], "SELF_INSPECTION")
        return inspector_id(gateway, number)

    def inspector(self, request: HasInspector) -> str:
        """Return the inspector's id of a request that names nobody else; raises `InvalidRequest`."""
        return self.agent_id(request.agent_id)

    def group(self, request: HasGroup) -> str:
        """Check inspector and agents, and return the inspector's id; raises `InvalidRequest`."""
        gateway, number = gateway_of(request.agent_id), number_of(request.agent_id)
        problem = self._inspector_problem(request.agent_id)
        found = [("agent_id", problem)] if problem else []
        if not 1 <= len(request.work_nos) <= MOST_MONITORED:
            found.append(("work_nos", f"must be 1 to {MOST_MONITORED} agents, got {len(request.work_nos)}"))
            raise InvalidRequest(found, "INVALID_AGENT_ID" if problem else "INVALID_ARGUMENT")
        known: set[str] = set()
        ids, others = [], []
        for place, work_no in enumerate(request.work_nos):
            field = f"work_nos[{place}]"
            if problem := self._number_problem(work_no, gateway):
                ids.append((field, problem))
            elif work_no == number:
                others.append((field, "must be another agent than the inspector"))
            elif work_no in known:
                others.append((field, f"repeats {work_no}"))
            known.add(work_no)
        found += first_of("work_nos", ids + others)
        if not found:
            return inspector_id(gateway, number)
        if len(found) > len(others):
            raise InvalidRequest(found, "INVALID_AGENT_ID")
        raise InvalidRequest(found, "SELF_INSPECTION" if number in known else "INVALID_ARGUMENT")

    def command(
        self, request: HasInspector, check: Callable[[], str], build: Callable[[str], GatewayRequest]
    ) -> Command:
        """
        Return the command of a request; raises `InvalidRequest`, which names everything that is wrong with it.

        `check` looks at the ids and returns the inspector's, `build` looks at the rest.
        """
        problems = Problems()
        agent_id = problems.of(check)
        gateway_request = problems.of(lambda: build(agent_id or request.agent_id))
        how = problems.of(lambda: self._how(request.options))
        if agent_id is None or gateway_request is None or how is None:
            raise problems.error()
        follow, seconds = how
        return Command(
            agent_id=agent_id,
            work_no=getattr(request, "work_no", ""),
            request=gateway_request,
            request_id=request.options.request_id,
            follow=follow,
            confirm_within_seconds=seconds,
        )

    def _how(self, options: pb.CommandOptions) -> tuple[Follow, float]:
        """Return how a command is followed, and for how many seconds."""
        problems = []
        if options.request_id and not _REQUEST_ID.fullmatch(options.request_id):
            problems.append(("options.request_id", "must be 1 to 128 printable ASCII characters without spaces"))
        follow = _FOLLOW.get(options.follow)
        if follow is None:
            problems.append(("options.follow", f"has no value {int(options.follow)}"))
        seconds = self._confirm_within_seconds
        if options.HasField("confirm_within"):
            seconds = _seconds(options.confirm_within)
            if not 0 < seconds <= LONGEST_CONFIRMATION_SECONDS:
                problems.append(
                    ("options.confirm_within", f"must be over 0 and at most {LONGEST_CONFIRMATION_SECONDS} s")
                )
        if problems or follow is None:
            raise InvalidRequest(problems)
        return follow, seconds

    def _inspector_problem(self, text: str) -> str:
        gateway = gateway_of(text)
        if gateway not in self._agent_id_max or text.startswith("/"):
            known = ", ".join(sorted(self._agent_id_max))
            return f"must name a gateway of the settings ({known}) before the slash, got {_shown(text)}"
        return self._number_problem(number_of(text), gateway)

    def _number_problem(self, text: str, gateway: str) -> str:
        if not text:
            return "is required"
        highest = self._agent_id_max.get(gateway, self._highest)
        if not _ID.fullmatch(text) or not AGENT_ID_MIN <= int(text) <= highest:
            return f"must be a decimal number from {AGENT_ID_MIN} to {highest} without leading zero, got {_shown(text)}"
        return ""


def _seconds(duration: Duration) -> float:
    return float(duration.seconds) + duration.nanos / 1e9


def _shown(text: str) -> str:
    """Return a text of the caller in a form that is safe and short enough for a message."""
    return ascii(text if len(text) <= 20 else text[:20] + "…")
