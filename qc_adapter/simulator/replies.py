"""Last before the wire: a reply as a value, and its bytes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from multidict import CIMultiDict

if TYPE_CHECKING:
    from qc_adapter.simulator.mailbox import Letter
    from qc_adapter.simulator.settings import SimulatorSettings

ABSENT: Final[Any] = object()

# The misspelt words are the gateway's own; clients have been seen to know them.
MESSAGES: Final = {
    "000-001": "event method is wrong",
    "000-002": "request parameter error",
    "000-003": "no right to invite resouce",
    "000-004": "agent is switching to another server",
    "000-005": "inspector and agent are the same",
    "100-001": "login parameter is null",
    "100-002": "agent has logged in",
    "100-003": "resource unavailable",
    "100-004": "account or password error",
    "100-006": "agent not login",
    "100-008": "agent has logged out",
    "100-009": "agent state error",
    "100-011": "login parameter error",
    "100-015": "agent has logged in and can not be forced",
    "100-020": "password has expired",
    "104-002": "no right to the recording",
    "104-003": "record file name is wrong",
    "110-016": "account is locked",
    "200-025": "no call can be droped",
    "900-002": "no qc right",
    "900-003": "resource unavailable",
    "900-004": "no agent information",
    "900-005": "qc state error",
}

CONTENT_TYPES: Final = {
    "json": (("Content-Type", "application/json"),),
    "utf8": (("Content-Type", "application/json;charset=UTF-8"),),
    "gbk": (("Content-Type", "application/json;charset=GBK"),),
    "text": (("Content-Type", "text/plain"), ("JSON-Type", "application/json")),
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way in a reply, and whose it is."""

    agent_id: str
    letter: Letter


@dataclass(frozen=True, slots=True)
class Reply:
    """What the gateway answers to one request."""

    retcode: str = "0"
    message: str = ""
    result: Any = ABSENT
    event: Any = ABSENT
    raw: bytes | None = None
    guid: str | None = None
    cookies: bool = False
    deliveries: tuple[Delivery, ...] = ()

    def __repr__(self) -> str:
        return f"Reply(retcode={self.retcode!r})"


ACCEPTED: Final = Reply(result={})
DONE: Final = Reply(message="success")
EMPTY_POLL: Final = Reply(event=None)


def refused(retcode: str) -> Reply:
    """Return the refusal with the words that belong to the code."""
    return Reply(retcode, MESSAGES.get(retcode, "request failed"), result="")


class Encoder:
    """Turns replies into bytes in the way the site's settings say."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._bare_errors = settings.error_result == "missing"
        self._charset = "gbk" if settings.content_type == "gbk" else None
        empty = b'{"message":"","retcode":"0"}'
        self._empty_poll = empty if settings.empty_poll == "missing" else empty[:-1] + b',"event":null}'
        self._settings = settings
        self._content_type = CONTENT_TYPES[settings.content_type]

    def body(self, reply: Reply) -> bytes:
        """Return the body; its key order is the real gateway's."""
        if reply.raw is not None:
            return reply.raw
        if reply.event is None:
            return self._empty_poll
        fields: dict[str, Any] = {"message": reply.message}
        if reply.retcode == "0":
            fields["retcode"] = "0"
            if reply.result is not ABSENT:
                fields["result"] = reply.result
            if reply.event is not ABSENT:
                fields["event"] = reply.event
        else:
            if not self._bare_errors:
                fields["result"] = reply.result if reply.result is not ABSENT else ""
            fields["retcode"] = reply.retcode
        body = orjson.dumps(fields)
        return body if self._charset is None else body.decode().encode(self._charset, "replace")

    def headers(self, reply: Reply) -> CIMultiDict[str]:
        """Return the headers; the cookies come first, as they do on the wire."""
        headers: CIMultiDict[str] = CIMultiDict()
        if reply.cookies:
            if self._settings.session_cookie:
                headers.add("Set-Cookie", f"JSESSIONID={secrets.token_hex(16).upper()}; Path=/agentgateway; HttpOnly")
            if self._settings.balancer_cookie != "none":
                headers.add("Set-Cookie", f"{self._settings.balancer_cookie}={secrets.token_hex(16)}; path=/; HttpOnly")
        if reply.guid is not None:
            headers.add("Set-GUID", f"JSESSIONID={reply.guid}")
        headers.extend(self._content_type)
        return headers
