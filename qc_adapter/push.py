"""
The port that gateways push events to (cec_07_1275).

A push is answered with success only when its events are in the log: until then the gateway keeps them and pushes them
again every 10 s, and after 120 s of failures it signs the agent out (development guide 1407).
"""

from __future__ import annotations

import asyncio
import hmac
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

import orjson
import structlog
from aiohttp import web

from qc_adapter.events.inlet import MOST_EVENTS, batch_of
from qc_adapter.gateway.envelope import UnreadableReply, read_envelope
from qc_adapter.gateway.wire import ReplyHeaders
from qc_adapter.http_listener import HttpListener
from qc_adapter.model.errors import AdapterError, NotSignedIn, StoreUnavailable
from qc_adapter.model.inspector import DEFAULT_GATEWAY, inspector_id, is_inspector_id
from qc_adapter.model.session import EventSource
from qc_adapter.push_certificate import PushCertificate

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from qc_adapter.events.inlet import Inlet
    from qc_adapter.gateway.envelope import Envelope, RawEvent
    from qc_adapter.settings import PushSettings

#: The name of the header, not its value.
TOKEN_HEADER: Final = "service_token"  # noqa: S105
_LARGEST_BODY: Final = 1 << 20
_BODY_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 2.0
#: Whoever is not known is told of once in that many pushes of his, and each kind of refusal likewise.
_TOLD_EVERY: Final = 100
_MOST_STRANGERS: Final = 1000
#: Outcomes before it is known whom a push is for.
_OF_WHOM_UNKNOWN: Final = frozenset({"refused", "unreadable"})
_SUCCESS: Final = b'{"message":"success","retcode":"0"}'


class Counts(Protocol):
    """What is counted of pushes."""

    def event_read(self, gateway: str, event_type: str) -> None: ...

    def event_foreign(self, gateway: str) -> None: ...

    def push_received(self, gateway: str, outcome: str) -> None: ...

    def gap(self, gateway: str, reason: str) -> None: ...


class _Refused(Exception):
    """The push is not taken; `outcome` is its label in the metric, `what` is told to whoever pushes."""

    def __init__(self, status: int, outcome: str, what: str) -> None:
        super().__init__(what)
        self.status = status
        self.outcome = outcome
        self.what = what


class _Stranger(_Refused):
    """Nobody takes the events of this agent."""


class PushServer:
    """Takes pushes of the gateways with these names into the logs."""

    def __init__(self, settings: PushSettings, gateways: Iterable[str], inlet: Inlet, counts: Counts) -> None:
        self._settings = settings
        self._token = settings.token.reveal().encode()
        #: The gateways by the path of their callback.
        self._gateways = {urlsplit(settings.callback_of(name)).path or "/": name for name in gateways}
        self._inlet = inlet
        self._counts = counts
        self._strangers: dict[str, int] = {}
        self._refusals: Counter[int] = Counter()
        self._certificate: PushCertificate | None = None
        self._listener = HttpListener(
            settings.listen, stop_seconds=_STOP_SECONDS, tls=self._tls, malformed=self._malformed
        )
        self._log = structlog.get_logger()

    @property
    def port(self) -> int:
        """The port that is listened on; known after `start`."""
        return self._listener.port

    async def start(self) -> None:
        """Listen; raises `OSError` when the address cannot be had, or the certificate cannot be used."""
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._answer)
        await self._listener.start(app)

    async def stop(self) -> None:
        """Stop listening; pushes under way get two seconds to end, and what is not answered comes again."""
        await self._listener.stop()

    def load(self) -> None:
        """Show the certificate that lies on disk now to whoever connects from now on; raises `Unusable`, `OSError`."""
        if self._certificate is not None:
            self._certificate.load()

    def _tls(self) -> ssl.SSLContext | None:
        if self._settings.tls is None:
            return None
        self._certificate = PushCertificate(self._settings.tls)
        return self._certificate.context

    def _malformed(self) -> None:
        self._counts.push_received(DEFAULT_GATEWAY, "unreadable")

    async def _answer(self, request: web.Request) -> web.Response:
        gateway = self._gateways.get(request.path.rstrip("/") or "/", "")
        try:
            self._check(gateway, request)
            self._listener.know(request)
            outcome = await self._take(gateway, request)
        except _Refused as refused:
            self._counts.push_received(gateway or DEFAULT_GATEWAY, refused.outcome)
            if refused.outcome in _OF_WHOM_UNKNOWN:
                self._tell_of_refusal(gateway, request.remote, refused)
            return _failure(refused.status, refused.what)
        self._counts.push_received(gateway, outcome)
        return web.Response(body=_SUCCESS, content_type="application/json", charset="UTF-8")

    def _check(self, gateway: str, request: web.Request) -> None:
        """Refuse what is no push of a gateway, before its body is read."""
        shown = request.headers.get(TOKEN_HEADER, "").encode("utf-8", "replace")
        if not hmac.compare_digest(shown, self._token):
            raise _Refused(401, "refused", "the service_token is not the one of the sign-in")
        if not gateway:
            raise _Refused(404, "refused", "no gateway of the settings pushes to this path")
        if request.method != "POST":
            raise _Refused(405, "refused", "events are pushed with POST")

    async def _take(self, gateway: str, request: web.Request) -> str:
        """Log the events of a push; returns what to count it as."""
        envelope = await self._read(request)
        by_inspector: dict[str, list[RawEvent]] = {}
        for raw in envelope.events:
            by_inspector.setdefault(inspector_id(gateway, raw.work_no), []).append(raw)
        unread = envelope.unread_events
        if unread:
            # What cannot be read is told where something of the same push can be.
            self._log.warning("push_unreadable_in_part", gateway=gateway, count=unread)
            if not by_inspector:
                raise _Refused(400, "unreadable", "no entry of eventList is an event")
        new, strangers = 0, dict[str, _Refused]()
        for agent_id, events in by_inspector.items():
            try:
                new += await self._log_events(gateway, agent_id, events, unread)
            except _Stranger as stranger:
                strangers[agent_id] = stranger
        if strangers and len(strangers) == len(by_inspector):
            raise next(iter(strangers.values()))
        # The gateway signs out whose pushes fail: one inspector must not pay for an event that names another.
        for agent_id in strangers:
            for _ in by_inspector[agent_id]:
                self._counts.event_foreign(gateway)
        return "taken" if new or not by_inspector else "repeated"

    async def _read(self, request: web.Request) -> Envelope:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await request.read()
        except TimeoutError:
            raise _Refused(408, "unreadable", f"the body did not come within {_BODY_SECONDS:g} s") from None
        except web.HTTPRequestEntityTooLarge:
            raise _Refused(413, "unreadable", f"the body is longer than {_LARGEST_BODY} bytes") from None
        except (web.RequestPayloadError, ConnectionError):
            raise _Refused(400, "unreadable", "the body breaks off, or cannot be unpacked") from None
        try:
            envelope = read_envelope(
                200,
                ReplyHeaders(request.raw_headers),
                body,
                secrets=(self._settings.token,),
                max_bytes=_LARGEST_BODY,
            )
        except UnreadableReply as unreadable:
            raise _Refused(400, "unreadable", f"the body is no push: {unreadable.why}") from None
        if len(envelope.events) > MOST_EVENTS:
            raise _Refused(413, "unreadable", f"more than {MOST_EVENTS} events at once")
        return envelope

    async def _log_events(self, gateway: str, agent_id: str, events: list[RawEvent], unread: int) -> int:
        """Log the events of one inspector; returns how many were new."""
        if not is_inspector_id(agent_id):
            raise _Stranger(400, "unreadable", "an event names no agent")
        try:
            batch = batch_of(agent_id, events, unread=unread, repeats_after_seconds=self._settings.retry_seconds / 2)
            logged = await self._inlet.take(agent_id, EventSource.PUSH, batch)
        except StoreUnavailable as failure:
            raise _Refused(503, "store_unavailable", failure.message) from None
        except AdapterError as failure:
            self._tell_of_stranger(agent_id, failure)
            raise _Stranger(404 if isinstance(failure, NotSignedIn) else 409, "unknown", failure.message) from None
        self._strangers.pop(agent_id, None)
        for raw in events[logged.repeated :]:
            self._counts.event_read(gateway, raw.event_type)
        if unread and logged.new:
            self._counts.gap(gateway, "poll_reply_lost")
        return logged.new

    def _tell_of_stranger(self, agent_id: str, failure: AdapterError) -> None:
        """Log that events come for whom they should not, now and then: the gateway tries for two minutes."""
        if len(self._strangers) >= _MOST_STRANGERS:
            self._strangers.clear()
        times = self._strangers.get(agent_id, 0)
        self._strangers[agent_id] = times + 1
        if times % _TOLD_EVERY == 0:
            self._log.warning("push_not_taken", agent_id=agent_id, detail=failure.message)

    def _tell_of_refusal(self, gateway: str, peer: str | None, refused: _Refused) -> None:
        """Log from where it came, now and then: a gateway with an old token, or somebody who is none."""
        if self._refusals[refused.status] % _TOLD_EVERY == 0:
            self._log.warning("push_refused", gateway=gateway, peer=peer, status=refused.status, detail=refused.what)
        self._refusals[refused.status] += 1


def _failure(status: int, what: str) -> web.Response:
    """Return a refusal: whatever else the gateway reads of it, its retcode is not "0"."""
    body = orjson.dumps({"message": what, "retcode": str(status)})
    return web.Response(status=status, body=body, content_type="application/json", charset="UTF-8")
