"""From the status of a failed call to what a person has to know, and to an exit code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc

_DOMAIN: Final = "qc-adapter"
_OUTCOME_UNKNOWN: Final = "OUTCOME_UNKNOWN"
_BY_CODE: Final = {
    StatusCode.UNAVAILABLE: Exit.UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED: Exit.UNKNOWN,
    StatusCode.INTERNAL: Exit.UNEXPECTED,
    StatusCode.DATA_LOSS: Exit.UNEXPECTED,
    StatusCode.CANCELLED: Exit.UNEXPECTED,
}
#: What the gRPC core says when no byte of the request was sent.
_NOT_CONNECTED: Final = ("failed to connect", "connection refused", "dns resolution failed", "name resolution")
_HANDSHAKE: Final = ("ssl", "tls", "handshake", "certificate")
#: What the metadata `outcome` says of a command that went out; the call ended before its own end.
_SENT: Final = frozenset({"unknown", "accepted", "confirmed"})
_ADVICE: Final[Mapping[str, str]] = {
    "INSPECTOR_NOT_SIGNED_IN": "sign in: qc-adapter sign-in AGENT_ID",
    "INSPECTOR_SESSION_LOST": "sign in again: qc-adapter sign-in AGENT_ID --force",
    "CURSOR_EXPIRED": "begin at the oldest event kept with --oldest, or accept the gap with --on-expired gap",
    "OUTCOME_UNKNOWN": "look at the inspector's events and state before you repeat the command",
    "GATEWAY_MISCONFIGURED": "have the way from the adapter to the gateway checked: address, allow list, certificate",
    "NOT_BUILT_YET": "this version cannot do it",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """
    A failed call, taken apart.

    `ours` says whether the adapter answered, or something before it; `retry` whether it says that nothing was done.
    """

    code: StatusCode
    message: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    ours: bool = False
    retry: bool = False

    @property
    def cursor(self) -> str:
        """Where a stream can be resumed, if the adapter told."""
        return self.metadata.get("cursor", "")

    @property
    def never_sent(self) -> bool:
        """Whether it is certain that the request did not leave this machine."""
        text = self.message.lower()
        return not self.ours and self.code is StatusCode.UNAVAILABLE and any(part in text for part in _NOT_CONNECTED)


def take_apart(error: grpc.aio.AioRpcError) -> Failure:
    """Return what the error says."""
    message = printable(error.details() or "no details")
    info, retry = error_details_pb2.ErrorInfo(), False
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                detail.Unpack(info)
                retry = retry or detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR)
    if info.domain != _DOMAIN:
        return Failure(error.code(), message)
    return Failure(error.code(), message, info.reason, dict(info.metadata), ours=True, retry=retry)


def exit_code_of(failure: Failure) -> Exit:
    """Return the exit code for a failed call."""
    if failure.metadata.get("outcome") in _SENT:
        return Exit.UNKNOWN
    if failure.retry:
        return Exit.UNAVAILABLE
    if failure.code is StatusCode.UNKNOWN:
        # The adapter also answers UNKNOWN for a refusal with a return code that nobody knows.
        return Exit.REFUSED if failure.ours and failure.reason != _OUTCOME_UNKNOWN else Exit.UNKNOWN
    if failure.code is StatusCode.DEADLINE_EXCEEDED and failure.metadata.get("outcome") == "not_sent":
        return Exit.UNAVAILABLE
    return _BY_CODE.get(failure.code, Exit.REFUSED)


def to_failed(failure: Failure, target: str, *, may_have_run: bool = False) -> CommandFailed:
    """Return the error to end with. With `may_have_run` a broken connection leaves the outcome open."""
    details = {"code": failure.code.name, "reason": failure.reason, **failure.metadata}
    details = {name: value for name, value in details.items() if value}
    if failure.ours:
        exit_code = exit_code_of(failure)
        if may_have_run and failure.reason == "DRAINING" and failure.cursor:
            # The replica went away while the command was under way.
            exit_code = Exit.UNKNOWN
        advice = _ADVICE.get(failure.reason, "try again" if exit_code is Exit.UNAVAILABLE else "")
        what = f"{failure.code.name} {failure.reason}: {failure.message}"
        return CommandFailed(exit_code, what, advice=advice, details=details)
    if failure.code is not StatusCode.UNAVAILABLE:
        return CommandFailed(exit_code_of(failure), f"{failure.code.name}: {failure.message}", details=details)
    text = failure.message.lower()
    if any(part in text for part in _HANDSHAKE):
        what = f"no trusted connection to {target}: {failure.message}"
        advice = "give --ca-file with the CA of the server's certificate, and --cert-file if it asks for one"
        return CommandFailed(Exit.UNAVAILABLE, what, advice=advice, details=details)
    if "connection refused" in text:
        advice = "start it with qc-adapter serve, or give --target"
        return CommandFailed(Exit.UNAVAILABLE, f"nothing listens at {target}", advice=advice, details=details)
    if may_have_run and not failure.never_sent:
        what = f"the connection to {target} broke: {failure.message}"
        return CommandFailed(Exit.UNKNOWN, what, advice=_ADVICE[_OUTCOME_UNKNOWN], details=details)
    advice = "check --target, and whether the server expects TLS (--ca-file)"
    return CommandFailed(Exit.UNAVAILABLE, f"cannot reach {target}: {failure.message}", advice=advice, details=details)
