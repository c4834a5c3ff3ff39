"""The calls that are measured: what they ask for, and what has to come back."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from qc_adapter.v1 import quality_control_pb2 as pb
from qc_adapter.v1 import sessions_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

AGENT: Final = "292"
PEER_SERVICE: Final = "qc_adapter.bench.Peer"
PEER_METHOD: Final = f"/{PEER_SERVICE}/Intercept"


@dataclass(frozen=True, slots=True)
class Kind:
    """A method, the request of an inspector, the number of messages in the answer, and what stands in the last."""

    path: str
    request: Callable[[str], bytes]
    messages: int
    proof: bytes = b""


def _intercept(agent_id: str, follow: pb.Follow = pb.FOLLOW_UNTIL_CONFIRMED) -> bytes:
    options = pb.CommandOptions(follow=follow)
    return pb.InterceptRequest(agent_id=agent_id, work_no=AGENT, options=options).SerializeToString()


def _accepted_only(agent_id: str) -> bytes:
    return _intercept(agent_id, pb.FOLLOW_NONE)


def _bare(agent_id: str) -> bytes:
    return pb.InterceptRequest(agent_id=agent_id, work_no=AGENT).SerializeToString()


def _get(agent_id: str) -> bytes:
    return sessions_pb2.GetRequest(agent_id=agent_id).SerializeToString()


_INTERCEPT: Final = "/qc_adapter.v1.QualityControl/Intercept"
#: How the fields of an outcome begin that says CONFIRMED and names a call.
_CONFIRMED: Final = b"\x08\x01\x1a"
KINDS: Final = MappingProxyType(
    {
        # accepted, two events, outcome
        "confirm": Kind(_INTERCEPT, _intercept, 4, _CONFIRMED),
        "accept": Kind(_INTERCEPT, _accepted_only, 1),
        # The request to the gateway and its receipt, of a peer that can do no more.
        "receipt": Kind(PEER_METHOD, _bare, 1, b"\x12\x010"),
        "get": Kind("/qc_adapter.v1.InspectorSessions/Get", _get, 1),
    }
)
