"""What a reply means for its request: the one place where HTTP statuses become errors of the domain."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from qc_adapter.gateway.envelope import Envelope, UnreadableReply, read_envelope
from qc_adapter.model.errors import (
    GatewayMisconfigured,
    GatewayRefused,
    OutcomeUnknown,
    PollFailed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qc_adapter.gateway.wire import RawReply
    from qc_adapter.model.session import Renewal, Secret

OK = "0"
# The gateway's router does not know an id outside its version's pattern; 000-002 is its other answer to it.
_UNROUTABLE = "000-002"
_GATEWAY_CODE = re.compile(r"\d{3}-\d{3,}", re.ASCII)


def judge_command(
    method: str, reply: RawReply, renewal: Renewal | None, secrets: Iterable[Secret], max_bytes: int
) -> Envelope:
    """Return the envelope of an accepted command, or raise what the reply means."""
    status = reply.status
    if not 200 <= status < 300:
        _judge_foreign_status(method, reply, renewal, secrets, max_bytes)
        # 502 and 504 come from a proxy that has passed the request on and lost the answer, 500 from a
        # server in the midst of it. Some proxies say 503 for a connection that broke after that, too.
        # So the command may have been executed.
        raise OutcomeUnknown(method, f"{method} was answered with HTTP {status} and no retcode", renewal)
    try:
        envelope = read_envelope(status, reply.headers, reply.body, secrets=secrets, max_bytes=max_bytes)
    except UnreadableReply as unreadable:
        raise OutcomeUnknown(method, f"{method} brought no retcode: {unreadable.why}", renewal) from None
    if not envelope.retcode:
        raise OutcomeUnknown(method, f"{method} brought no retcode: HTTP {status} with events only", renewal)
    if envelope.retcode != OK:
        raise _refusal(method, envelope, renewal)
    return envelope


def judge_poll(
    method: str, reply: RawReply, renewal: Renewal | None, secrets: Iterable[Secret], max_bytes: int
) -> Envelope:
    """
    Return the envelope of a poll, or raise what the reply means.

    A whole page or an empty body was not made from an event, so none is lost with it. What broke off may
    have been one.
    """
    status = reply.status
    if not 200 <= status < 300:
        _judge_foreign_status(method, reply, renewal, secrets, max_bytes)
        raise PollFailed(
            method,
            f"{method} was answered with HTTP {status} and no retcode",
            event_may_be_lost=True,
            still_held=True,
            renewal=renewal,
        )
    try:
        envelope = read_envelope(status, reply.headers, reply.body, secrets=secrets, max_bytes=max_bytes)
    except UnreadableReply as unreadable:
        lost = unreadable.kind not in {"empty", "html"}
        raise PollFailed(
            method, f"{method} brought no event: {unreadable.why}", event_may_be_lost=lost, renewal=renewal
        ) from None
    if envelope.retcode not in {OK, ""}:
        raise _refusal(method, envelope, renewal)
    if not envelope.retcode and not envelope.events and not envelope.unread_events:
        why = f"{method} brought no retcode: HTTP {status} with an empty list"
        raise PollFailed(method, why, event_may_be_lost=False, renewal=renewal)
    return envelope


def _judge_foreign_status(
    method: str, reply: RawReply, renewal: Renewal | None, secrets: Iterable[Secret], max_bytes: int
) -> None:
    """Raise for the statuses that mean the same for commands and polls. The page's text goes nowhere."""
    _raise_refusal(method, reply, renewal, secrets, max_bytes)
    status = reply.status
    if 300 <= status < 400:
        _raise_misconfigured(method, f"HTTP {status} sends {method} elsewhere: the address is not the gateway's own")
    if status in {401, 403, 407}:
        _raise_misconfigured(
            method, f"HTTP {status} bars {method}: put this adapter on the allow list in front of the gateway"
        )
    if status == 404:
        text = "the gateway has no such address (HTTP 404): an id lies outside the range of its version"
        raise GatewayRefused(method, _UNROUTABLE, text, renewal)


def _raise_refusal(
    method: str, reply: RawReply, renewal: Renewal | None, secrets: Iterable[Secret], max_bytes: int
) -> None:
    """Raise when the gateway itself declined, whatever status it chose: the reference names no statuses."""
    try:
        envelope = read_envelope(reply.status, reply.headers, reply.body, secrets=secrets, max_bytes=max_bytes)
    except UnreadableReply:
        return
    if _GATEWAY_CODE.fullmatch(envelope.retcode):
        raise _refusal(method, envelope, renewal)


def _refusal(method: str, envelope: Envelope, renewal: Renewal | None) -> GatewayRefused:
    # The code decides, so events beside it are not handed on: that they were there must not be hidden.
    held = bool(envelope.events or envelope.unread_events)
    return GatewayRefused(method, envelope.retcode, envelope.message, renewal, event_may_be_lost=held)


def _raise_misconfigured(method: str, text: str) -> NoReturn:
    raise GatewayMisconfigured(method, text)
