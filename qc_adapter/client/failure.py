"""
How a call ended, taken apart: the errors that callers of the helper branch on.

CallFailed                 a call ended with a status that the helper could not get over
└── OutcomeUnknown         a command that may have been executed; look before repeating it under a new request id
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc

_DOMAIN: Final = "qc-adapter"
_DETAILS: Final = "grpc-status-details-bin"
#: What the gRPC core says when no byte of the request was sent.
_NOT_CONNECTED: Final = (
    "failed to connect",
    "connection refused",
    "dns resolution failed",
    "name resolution",
    "connections to all backends failing",
)
#: With one of these, not told by the adapter, the way to it broke or something on that way gave up.
_BROKEN: Final = frozenset(
    {
        StatusCode.UNAVAILABLE,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.CANCELLED,
        StatusCode.INTERNAL,
        StatusCode.UNKNOWN,
    }
)
_PASSING: Final = frozenset({StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED})
#: What the metadata `outcome` says of a command that went out; the call ended before its own end.
SENT: Final = frozenset({"unknown", "accepted", "confirmed"})
_LIMIT_REACHED: Final = "LIMIT_REACHED"
OUTCOME_UNKNOWN: Final = "OUTCOME_UNKNOWN"
#: Reasons of the helper itself; `ours` is False with them.
STREAM_SILENT: Final = "STREAM_SILENT"
STREAM_ENDED: Final = "STREAM_ENDED"
CLIENT_CLOSED: Final = "CLIENT_CLOSED"
TOKEN_UNUSABLE: Final = "TOKEN_UNUSABLE"  # noqa: S105 - a reason


class CallFailed(Exception):
    """
    A call failed: branch on `reason`, or on `code` where `ours` is False.

    `ours` says whether the adapter answered, or something before it. With `retry_after_seconds` nothing was executed
    and the same call may be repeated after that time. `cursor` is where the inspector's events go on.
    """

    def __init__(
        self,
        code: StatusCode,
        message: str,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        *,
        ours: bool = False,
        retry_after_seconds: float | None = None,
        cursor: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(f"{code.name} {reason}: {message}" if reason else f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.ours = ours
        self.retry_after_seconds = retry_after_seconds
        self.cursor = cursor or self.metadata.get("cursor", "")
        self.request_id = request_id

    @property
    def outcome(self) -> str:
        """What is known of a command's effect: `not_sent`, `unknown`, `accepted`, `confirmed`, or nothing."""
        return self.metadata.get("outcome", "")

    @property
    def retcode(self) -> str:
        """The gateway's return code, if it refused."""
        return self.metadata.get("retcode", "")

    @property
    def never_sent(self) -> bool:
        """Whether it is certain that the request did not leave this machine."""
        text = self.message.lower()
        return not self.ours and self.code is StatusCode.UNAVAILABLE and any(part in text for part in _NOT_CONNECTED)

    @property
    def may_have_run(self) -> bool:
        """Whether a command that ended so may have been executed."""
        if self.ours:
            return self.outcome in SENT or self.reason == OUTCOME_UNKNOWN
        return not self.never_sent and (self.code in _BROKEN or self.code is StatusCode.DEADLINE_EXCEEDED)

    @property
    def passing(self) -> bool:
        """Whether the same stream may stand again in a while, here or on another replica."""
        if self.reason == CLIENT_CLOSED:
            return False
        if self.reason == _LIMIT_REACHED:
            return self.retry_after_seconds is not None  # a request that is too long stays too long
        if self.ours:
            return self.code in _PASSING or self.retry_after_seconds is not None
        return self.code in _BROKEN

    def located(self, cursor: str, request_id: str = "", outcome: str = "") -> CallFailed:
        """Return the same failure with the place where the events go on, and what is known of the command."""
        unknown = outcome == "unknown"
        kind = OutcomeUnknown if unknown else CallFailed
        return kind(
            self.code,
            self.message,
            self.reason,
            {**self.metadata, "outcome": outcome} if outcome else self.metadata,
            ours=self.ours,
            # An invitation to repeat would be wrong where the command may have run.
            retry_after_seconds=None if unknown else self.retry_after_seconds,
            cursor=cursor or self.cursor,
            request_id=request_id,
        )


class OutcomeUnknown(CallFailed):
    """The command may have been executed and nobody can tell: look at the events from `cursor` before repeating it."""


def take_apart(error: grpc.aio.AioRpcError) -> CallFailed:
    """Return what the error says."""
    message = error.details() or "no details"
    info, retry_after_seconds = error_details_pb2.ErrorInfo(), None
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                detail.Unpack(info)
                retry = error_details_pb2.RetryInfo()
                if detail.Unpack(retry):
                    retry_after_seconds = retry.retry_delay.ToNanoseconds() / 1e9
    if info.domain != _DOMAIN:
        return CallFailed(error.code(), message)
    return CallFailed(
        error.code(), message, info.reason, info.metadata, ours=True, retry_after_seconds=retry_after_seconds
    )
