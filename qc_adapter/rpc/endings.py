"""What a call ends with when it fails: noted on the call for those who look on, and what its caller is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from grpc import StatusCode

from qc_adapter.model.errors import AdapterError, InternalFault
from qc_adapter.rpc.errors import outcome_of, to_status

if TYPE_CHECKING:
    from google.rpc import status_pb2

    from qc_adapter.rpc.call import Call


def judged(call: Call, context: grpc.aio.ServicerContext[Any, Any], failure: BaseException) -> status_pb2.Status | None:
    """Note how the call failed; return the answer, None if nobody is there to read one."""
    # gRPC fails so when it has nobody to write to any more, and has not come to cancel the call.
    gone = isinstance(failure, (asyncio.CancelledError, GeneratorExit, grpc.aio.InternalError))
    if gone and call.revocation.cut is not None:
        return _note(call, call.revocation.cut)
    if gone:
        remaining = context.time_remaining()
        late = remaining is not None and remaining <= 0
        call.code = StatusCode.DEADLINE_EXCEEDED if late else StatusCode.CANCELLED
        return None
    if not isinstance(failure, Exception):
        return None
    if isinstance(failure, AdapterError):
        error = failure
    else:
        error = InternalFault()
        structlog.get_logger().error("call_failed", rpc=call.rpc, agent_id=call.agent_id, exc_info=failure)
    return _note(call, error)


def _note(call: Call, error: AdapterError) -> status_pb2.Status:
    answer, status = to_status(error, "" if call.method == call.rpc else call.method)
    call.code, call.reason, call.detail = answer.code, answer.reason, error.message
    call.retcode = getattr(error, "retcode", "") or call.retcode
    call.limit = getattr(error, "limit", "")
    call.outcome = outcome_of(error) or call.outcome
    return status
