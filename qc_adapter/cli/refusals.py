"""From the status of a failed call to what a person has to know, and to an exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grpc import StatusCode

from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.output import printable
from qc_adapter.client.failure import OUTCOME_UNKNOWN, SENT, TOKEN_UNUSABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.client import CallFailed

_BY_CODE: Final = {
    StatusCode.UNAVAILABLE: Exit.UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED: Exit.UNKNOWN,
    StatusCode.INTERNAL: Exit.UNEXPECTED,
    StatusCode.DATA_LOSS: Exit.UNEXPECTED,
    StatusCode.CANCELLED: Exit.UNEXPECTED,
}
_AGAIN: Final = "try again"
_HANDSHAKE: Final = ("ssl", "tls", "handshake", "certificate")
_ADVICE: Final[Mapping[str, str]] = {
    "CALLER_UNKNOWN": "give --token-file with a token for this adapter, or --cert-file and --key-file",
    "CALLER_NOT_ALLOWED": "have a rule for this caller put into the adapter's policy (QC_POLICY_FILE)",
    TOKEN_UNUSABLE: "give --token-file with the file that the token is in",
    "INSPECTOR_NOT_SIGNED_IN": "sign in: qc-adapter sign-in AGENT_ID",
    "INSPECTOR_SESSION_LOST": "sign in again: qc-adapter sign-in AGENT_ID --force",
    "INSPECTOR_RECOVERING": "wait until it is signed in again: qc-adapter sessions AGENT_ID",
    "SESSION_CONFLICT": "let one system sign the inspector in; then qc-adapter sign-in AGENT_ID --force",
    "EVENTS_READ_HERE": "feed sessions only that were adopted with --event-source none",
    "CURSOR_EXPIRED": "begin at the oldest event kept with --oldest, or accept the gap with --on-expired gap",
    OUTCOME_UNKNOWN: "look at the inspector's events and state before you repeat the command",
    "GATEWAY_MISCONFIGURED": "have the way from the adapter to the gateway checked: address, allow list, certificate",
}


def exit_code_of(failure: CallFailed) -> Exit:
    """Return the exit code for a failed call."""
    if failure.outcome in SENT:
        return Exit.UNKNOWN
    if failure.retry_after_seconds is not None:
        return Exit.UNAVAILABLE
    if failure.code is StatusCode.UNKNOWN:
        # The adapter also answers UNKNOWN for a refusal with a return code that nobody knows.
        return Exit.REFUSED if failure.ours and failure.reason != OUTCOME_UNKNOWN else Exit.UNKNOWN
    if failure.code is StatusCode.DEADLINE_EXCEEDED and failure.outcome == "not_sent":
        return Exit.UNAVAILABLE
    return _BY_CODE.get(failure.code, Exit.REFUSED)


def to_failed(failure: CallFailed, target: str, *, may_have_run: bool = False) -> CommandFailed:
    """Return the error to end with. With `may_have_run` a broken connection leaves the outcome open."""
    details = {"code": failure.code.name, "reason": failure.reason, **failure.metadata}
    details = {name: value for name, value in details.items() if value}
    message = printable(failure.message)
    if failure.ours:
        exit_code = exit_code_of(failure)
        if may_have_run and failure.reason == "DRAINING" and failure.cursor:
            # The replica went away while the command was under way.
            exit_code = Exit.UNKNOWN
        known = OUTCOME_UNKNOWN if exit_code is Exit.UNKNOWN else failure.reason
        again = exit_code is Exit.UNAVAILABLE and not message.endswith(_AGAIN)
        advice = _ADVICE.get(known, _AGAIN if again else "")
        name = failure.code.name if failure.code.name == failure.reason else f"{failure.code.name} {failure.reason}"
        what = f"{name}: {message}"
        return CommandFailed(exit_code, what, advice=advice, details=details)
    if failure.code is not StatusCode.UNAVAILABLE:
        advice = _ADVICE.get(failure.reason, "")
        return CommandFailed(exit_code_of(failure), f"{failure.code.name}: {message}", advice=advice, details=details)
    if failure.outcome in SENT or (may_have_run and failure.may_have_run and not _untrusted(message)):
        what = f"the connection to {target} broke: {message}"
        return CommandFailed(Exit.UNKNOWN, what, advice=_ADVICE[OUTCOME_UNKNOWN], details=details)
    what, advice = _unreached(message, target)
    return CommandFailed(Exit.UNAVAILABLE, what, advice=advice, details=details)


def _unreached(message: str, target: str) -> tuple[str, str]:
    """Return what to say, and to do, when no connection could be made."""
    if "hostname verification" in message.lower():
        advice = "give --target with a name that stands in the server's certificate"
        return f"the certificate of {target} is for other names", advice
    if _untrusted(message):
        advice = "give --ca-file with the CA of the server's certificate, and --cert-file if it asks for one"
        return f"no trusted connection to {target}: {message}", advice
    if "connection refused" in message.lower():
        return f"nothing listens at {target}", "start it with qc-adapter serve, or give --target"
    advice = (
        "check --target, whether the server expects TLS (--ca-file), and whether it asks for a certificate that its "
        "authority signed for clients (--cert-file, --key-file)"
    )
    return f"cannot reach {target}: {message}", advice


def _untrusted(message: str) -> bool:
    text = message.lower()
    return any(part in text for part in _HANDSHAKE)
