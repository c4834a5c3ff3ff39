"""What is known of one gRPC call of ours, for whoever handles it or looks on."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from grpc import StatusCode

from qc_adapter.access.caller import ANONYMOUS
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.inspector import gateway_of
from qc_adapter.rpc.revocation import Revocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import grpc

    from qc_adapter.access.caller import Caller
    from qc_adapter.rpc.audit import Noted
    from qc_adapter.telemetry.tracing import CallTrace

OURS: Final = "/qc_adapter.v1."
#: Kept of the caller's time so that our status arrives before the caller gives up by itself.
_RESERVE_PART: Final = 0.1
_RESERVE_SECONDS: Final = 0.25
_LONGEST_SHOWN: Final = 20
#: Clients round a timeout up by as much on the wire: 100 s arrive as 101 s.
_ROUNDED_PART: Final = 0.01


def _may_see_all(_agent_id: str) -> bool:
    return True


@dataclass(slots=True)
class Call:
    """
    What is known of one call.

    `method` is the gateway's name of the operation, the rpc's own name where there is none. `caller_name` is the
    caller's name in the policy, `limit` the limit that refused the call, `passed` says that the gate let it through.
    `code` is final when the observers are told of the end. An observer may set a `listener`, which is then given each
    message of the stream once that is written, or a `witness`, which is given it before.
    """

    rpc: str
    service: str
    method: str
    streaming: bool
    peer: str
    metadata: Mapping[str, str]
    #: Tells what the connection has proven, as gRPC has it: names and values of its certificate.
    proofs: Callable[[], Mapping[str, Iterable[bytes]]] = dict
    caller: Caller = ANONYMOUS
    #: The caller's name in the policy; empty if it has none.
    caller_name: str = ""
    #: Whether a list may show an inspector to the caller.
    may_see: Callable[[str], bool] = _may_see_all
    #: The limit that refused the call.
    limit: str = ""
    #: Whether observers were told of its begin.
    begun: bool = False
    started_at: float = field(default_factory=time.monotonic)
    code: StatusCode = StatusCode.OK
    reason: str = ""
    retcode: str = ""
    detail: str = ""
    agent_id: str = ""
    work_no: str = ""
    request_id: str = ""
    trace_id: str = ""
    outcome: str = ""
    gateway: str = ""
    trace: CallTrace | None = None
    listener: Callable[[Any], None] | None = None
    witness: Callable[[Any], None] | None = None
    passed: bool = False
    noted: Noted | None = field(default=None, repr=False)
    revocation: Revocation = field(default_factory=Revocation)

    def about(self, agent_id: str, work_no: str = "") -> None:
        """Note whom the call is about, as the caller wrote it, in a form that is safe and short enough for a log."""
        self.agent_id, self.work_no = shown(agent_id), shown(work_no)
        self.gateway = gateway_of(agent_id)

    @property
    def seconds(self) -> float:
        """How long the call has taken so far."""
        return time.monotonic() - self.started_at


class CallObserver(Protocol):
    """
    Is told of the begin and the end of each call.

    One that the limits refuse has no begin, only an end: nothing was done for it, and there may be very many.
    """

    def began(self, call: Call) -> None: ...

    def ended(self, call: Call) -> None: ...


def shown(text: str) -> str:
    """Return a text of the caller as it may stand in a log or a message."""
    if len(text) <= _LONGEST_SHOWN and text.isascii() and text.isprintable():
        return text
    return ascii(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")


_current: ContextVar[Call] = ContextVar("qc_adapter_call")


def enter(call: Call) -> None:
    """Note that this task handles the call."""
    _current.set(call)


def current_call() -> Call:
    """Return the call that is being handled, for a handler to note what it is about."""
    return _current.get()


def deadline_of(context: grpc.aio.ServicerContext[Any, Any]) -> Deadline:
    """Return the caller's deadline, less what our answer needs to arrive in time."""
    remaining = context.time_remaining()
    if remaining is None:
        return Deadline.never()
    reserve = min(_RESERVE_SECONDS, _RESERVE_PART * remaining) + _ROUNDED_PART * remaining
    return Deadline.after(remaining - reserve)
