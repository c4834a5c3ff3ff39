"""
The least that a grpc.aio server can cost: handlers that do nothing but yield messages which were made before.

`Intercept` has the four messages of a confirmed one, or the one of FOLLOW_NONE; `Get` has a session. The library finds
the handlers by their path, as it does in the adapter: methods that are registered cost more.
"""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, Final

import grpc
import uvloop
from google.protobuf import timestamp_pb2

from bench.answers import answer
from qc_adapter.cli.collector import rarely_collected
from qc_adapter.v1 import events_pb2, quality_control_pb2_grpc, sessions_pb2, sessions_pb2_grpc
from qc_adapter.v1 import quality_control_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CALL_ID: Final = "1456401416-1234"
_NOW: Final = timestamp_pb2.Timestamp(seconds=1_790_000_000, nanos=123_456_000)
#: As long as the adapter's own with the store in its memory.
_CURSOR: Final = "AAAAAAAA-1234"
_SESSION: Final = sessions_pb2.Session(
    agent_id="1000",
    event_source=sessions_pb2.EVENT_SOURCE_POLL,
    state=sessions_pb2.SESSION_STATE_ACTIVE,
    signed_in_time=_NOW,
    last_poll_time=_NOW,
    gateway="default",
)


def _event(event_type: str, **details: Any) -> pb.CommandUpdate:
    event = events_pb2.AgentEvent(cursor=_CURSOR, event_type=event_type, work_no="1000", received_time=_NOW, **details)
    fields = {"callid": CALL_ID, "recordID": f"record-{CALL_ID}", "agentid": "1000", "currentTime": 0}
    if event_type == "AgentEvent_Talking":
        fields = {"callid": CALL_ID, "caller": "13800000000", "called": "70092", "callFeature": 0}
    event.content.struct_value.update(fields)
    return pb.CommandUpdate(cursor=_CURSOR, event=event)


_ACCEPTED: Final = pb.CommandUpdate(cursor=_CURSOR, accepted=pb.CommandAccepted(method="intercept", time=_NOW))
UPDATES: Final = (
    _ACCEPTED,
    _event("AgentEvent_Talking", talking=events_pb2.Call(call_id=CALL_ID, caller="13800000000", called="70092")),
    _event(
        "AgentMediaEvent_Record",
        record=events_pb2.Recording(phase=events_pb2.Recording.STARTED, call_id=CALL_ID, record_id=f"record-{CALL_ID}"),
    ),
    pb.CommandUpdate(cursor=_CURSOR, outcome=pb.CommandOutcome(state=pb.CommandOutcome.CONFIRMED, call_id=CALL_ID)),
)


class QualityControl(quality_control_pb2_grpc.QualityControlServicer):
    """Yields what is there."""

    async def Intercept(  # noqa: N802 - named by the contract
        self, request: pb.InterceptRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.CommandUpdate]:
        """Yield the messages of an intercept."""
        if request.options.follow == pb.FOLLOW_NONE:
            yield _ACCEPTED
            return
        for update in UPDATES:
            yield update


class InspectorSessions(sessions_pb2_grpc.InspectorSessionsServicer):
    """Returns what is there."""

    async def Get(  # noqa: N802 - named by the contract
        self, _request: sessions_pb2.GetRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> sessions_pb2.GetResponse:
        """Return a session."""
        return sessions_pb2.GetResponse(session=_SESSION)


class ByPath:
    """A server that takes handlers by their path only."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Leave it out."""


async def serve() -> None:
    """Serve until the parent closes the pipe."""
    server = grpc.aio.server()
    by_path: Any = ByPath(server)
    quality_control_pb2_grpc.add_QualityControlServicer_to_server(QualityControl(), by_path)
    sessions_pb2_grpc.add_InspectorSessionsServicer_to_server(InspectorSessions(), by_path)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gc.freeze()
    async with rarely_collected():
        await answer({"ports": lambda: [port, 0]})
    await server.stop(0)


def main() -> None:
    """Run on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
