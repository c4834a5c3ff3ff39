"""An inspector's sign-in: whose it is, the GUID that proves it, how its events come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from qc_adapter.model.inspector import gateway_of


class Secret:
    """A text that may be sent to the gateway and stored, and never shown."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; only for the wire and the store."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "<hidden>"


NO_SECRET = Secret("")


def bare_guid(text: str) -> str:
    """
    Return a GUID as it is sent, without the `JSESSIONID=` that `Set-GUID` puts before it in any letter case.

    However often it stands there: who takes it off once more must not find another GUID.
    """
    prefix, start = "jsessionid=", 0
    while text[start : start + len(prefix)].lower() == prefix:
        start += len(prefix)
    return text[start:]


class EventSource(StrEnum):
    """How the events of a session reach the adapter."""

    POLL = "poll"
    PUSH = "push"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Renewal:
    """
    What a reply of the gateway changes in a session.

    `guid` comes from `Set-GUID` without its `JSESSIONID=` prefix (cec_07_0005); `cookies` is a ready
    `Cookie` header value of the load balancer. `None` means that the reply did not carry it.
    """

    guid: Secret | None = None
    cookies: Secret | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """
    One inspector's sign-in.

    `agent_id` is the inspector's id as in `qc_adapter.model.inspector`. `signed_in_at` is seconds since the epoch, 0
    when another system signed in. A session that is `recovering` is one that the gateway no longer knows: there will be
    another one.
    """

    agent_id: str
    guid: Secret
    event_source: EventSource = EventSource.POLL
    cookies: Secret = NO_SECRET
    server_name: str = ""
    signed_in_at: float = 0.0
    recovering: bool = False

    @property
    def gateway(self) -> str:
        """The name of the gateway that it is a sign-in at."""
        return gateway_of(self.agent_id)

    def renewed(self, renewal: Renewal) -> Session:
        """Return the session with what a reply brought."""
        return replace(
            self,
            guid=self.guid if renewal.guid is None else renewal.guid,
            cookies=self.cookies if renewal.cookies is None else renewal.cookies,
        )
