"""The callers of a load run: one command is one gRPC stream, and every one of them ends in a `Result`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from qc_adapter.v1 import quality_control_pb2 as pb
from qc_adapter.v1 import quality_control_pb2_grpc as pb_grpc
from qc_adapter.v1 import sessions_pb2, sessions_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

#: Our name of the command -> the gateway's, as in the simulator's record and in the metrics.
METHODS: Final = MappingProxyType(
    {"Listen": "addSupervise", "Intercept": "intercept", "StopInspecting": "stopSuperviseOrInsert"}
)
CONFIRM_SECONDS: Final = 30
DEADLINE_SECONDS: Final = 60.0
SIGN_INS_AT_ONCE: Final = 50
_REQUESTS: Final[MappingProxyType[str, Callable[..., Any]]] = MappingProxyType(
    {"Listen": pb.ListenRequest, "Intercept": pb.InterceptRequest, "StopInspecting": pb.StopInspectingRequest}
)


@dataclass(frozen=True, slots=True)
class Order:
    """One command; no two orders of a run name the same rpc, inspector and agent, but for repeated request ids."""

    rpc: str
    inspector: str
    agent: str
    request_id: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """How the simulator knows the command."""
        return METHODS[self.rpc], self.inspector, self.agent


@dataclass(frozen=True, slots=True)
class Result:
    """
    How a call ended.

    `ending` is confirmed, unconfirmed, cancelled, refused or failed; `detail` the retcode or the error.
    """

    ending: str
    detail: str = ""
    accepted: bool = False
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Leaving:
    """When a caller cancels its call: after a time, after that many messages, or not at all."""

    after_seconds: float | None = None
    after_messages: int = 0


STAYS: Final = Leaving()


class Callers:
    """All calls of a run, on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._sessions = sessions_pb2_grpc.InspectorSessionsStub(channel)
        control = pb_grpc.QualityControlStub(channel)
        self._calls: dict[str, Any] = {name: getattr(control, name) for name in METHODS}

    async def sign_in(self, inspectors: list[str], *, again: bool = False) -> None:
        """Sign all of them in, a few at once; with `again` so that a gateway which forgets them costs nothing."""
        re_sign_in = sessions_pb2.RE_SIGN_IN_SAME_CREDENTIALS if again else sessions_pb2.RE_SIGN_IN_UNSPECIFIED
        slots = asyncio.Semaphore(SIGN_INS_AT_ONCE)

        async def one(agent_id: str) -> None:
            async with slots:
                request = sessions_pb2.SignInRequest(
                    agent_id=agent_id, password="", phone_number=f"4{agent_id}", re_sign_in=re_sign_in
                )
                await self._sessions.SignIn(request, timeout=DEADLINE_SECONDS)

        async with asyncio.TaskGroup() as group:
            for agent_id in inspectors:
                group.create_task(one(agent_id))

    async def run(self, order: Order, leaving: Leaving = STAYS) -> Result:
        """Give the order and read its stream to the end, or until the caller leaves."""
        request = _REQUESTS[order.rpc](
            agent_id=order.inspector,
            work_no=order.agent,
            options=pb.CommandOptions(request_id=order.request_id, confirm_within=Duration(seconds=CONFIRM_SECONDS)),
        )
        call = self._calls[order.rpc](request, timeout=DEADLINE_SECONDS)
        timer = None
        if leaving.after_seconds is not None:
            timer = asyncio.get_running_loop().call_later(leaving.after_seconds, call.cancel)
        accepted, messages, ending = False, 0, ""
        try:
            async for update in call:
                messages += 1
                accepted = accepted or update.HasField("accepted")
                if update.HasField("outcome"):
                    ending = pb.CommandOutcome.State.Name(update.outcome.state).lower()
                if messages == leaving.after_messages:
                    call.cancel()
        except asyncio.CancelledError:
            # grpc.aio raises this in the reader when the call is cancelled here, task or not.
            if not call.cancelled() or _being_cancelled():
                raise
            return Result("cancelled", "", accepted, messages)
        except grpc.aio.AioRpcError as error:
            return _refusal(error, accepted=accepted, messages=messages)
        finally:
            if timer is not None:
                timer.cancel()
        return Result(ending or "failed", "" if ending else "no outcome", accepted, messages)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _refusal(error: grpc.aio.AioRpcError, *, accepted: bool, messages: int) -> Result:
    if error.code() is grpc.StatusCode.CANCELLED:
        return Result("cancelled", "", accepted, messages)
    info = error_details_pb2.ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                detail.Unpack(info)
    retcode = info.metadata.get("retcode", "")
    if retcode and not accepted:
        return Result("refused", retcode, accepted, messages)
    return Result("failed", f"{error.code().name} {info.reason}: {error.details()}", accepted, messages)
