"""One request on its way: what it carries for its session and what is noted about it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from qc_adapter.gateway.observation import NO_RETCODE
from qc_adapter.gateway.renewal import NOTHING_READ, RenewalReading
from qc_adapter.gateway.wire import NotSent, NotSentWhy, carriable
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import DeadlineExceeded, GatewayError, GatewayMisconfigured, GatewayUnavailable
from qc_adapter.model.session import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span

    from qc_adapter.gateway.requests import GatewayRequest
    from qc_adapter.model.session import Session

# Content-Type is required even without a body (cec_07_0005); nothing asks for a compressed reply.
COMMON_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Type": "application/json; charset=UTF-8",
        "Accept": "application/json",
        "User-Agent": "qc-adapter",
    }
)


_NONE: Mapping[str, str] = MappingProxyType({})
_NEVER: Final = Deadline.never()


@dataclass(slots=True)
class Trip:
    """One request on its way; collects what its observer is told."""

    method: str
    guid: Secret
    cookies: Secret
    secrets: tuple[Secret, ...]
    full_wait: bool = True  # false when the caller's deadline was shorter than our own patience
    deadline: Deadline = _NEVER
    started: float = field(default_factory=time.monotonic)
    reading: RenewalReading = NOTHING_READ
    retcode: str = NO_RETCODE
    status: int = 0  # of HTTP, 0 without a reply
    span: Span | None = None
    exemplar: dict[str, str] | None = None


def trip_of(request: GatewayRequest, session: Session) -> Trip:
    """Return the trip of a request that a session signs."""
    secrets = (session.guid, session.cookies, *(Secret(value) for _, value in request.headers))
    return Trip(request.operation.method, session.guid, session.cookies, secrets)


def session_headers(method: str, session: Session) -> dict[str, str]:
    """Return the headers that speak for the session. A stored value that would break out of its line is not sent."""
    guid, cookies = session.guid.reveal(), session.cookies.reveal()
    if not guid or not carriable(guid) or not carriable(cookies):
        raise GatewayMisconfigured(
            method,
            f"the stored session of inspector {session.agent_id} has a GUID or cookie that no header may carry: "
            f"sign in again, or correct what the other system stored",
        )
    headers = {**COMMON_HEADERS, "Guid": guid}
    if cookies:
        headers["Cookie"] = cookies
    return headers


def own_headers(request: GatewayRequest) -> Mapping[str, str]:
    """Return the headers that only this request has; one that would break out of its line is not sent."""
    if not request.headers:
        return _NONE
    for name, value in request.headers:
        if not carriable(value):
            method = request.operation.method
            raise GatewayMisconfigured(method, f"{method} was not sent: its header {name} has what no header may carry")
    return dict(request.headers)


def unsent(trip: Trip, failure: NotSent) -> GatewayError | DeadlineExceeded:
    """Say why a request was not sent. The deadline is to blame only if it is over and the network was not at fault."""
    if failure.why is NotSentWhy.TRUST:
        return GatewayMisconfigured(trip.method, f"{trip.method} was not sent: {failure.text}")
    if failure.why is not NotSentWhy.CONNECT and trip.deadline.over:
        return DeadlineExceeded(f"the deadline came before {trip.method} was sent: {failure.text}", "not_sent")
    return GatewayUnavailable(trip.method, f"{trip.method} was not sent: {failure.text}")
