"""Outermost: HTTP requests in, replies out; the only place that touches connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from aiohttp import web

from qc_adapter.simulator import recordings
from qc_adapter.simulator.damage import Damage
from qc_adapter.simulator.gateway import HEARTBEATS, WITHOUT_GUID, Gateway
from qc_adapter.simulator.polls import Polls
from qc_adapter.simulator.record import KEPT_PARAMETERS, POLLS, RequestRecord
from qc_adapter.simulator.replies import Encoder, Reply, refused
from qc_adapter.simulator.requests import GatewayRequest
from qc_adapter.simulator.routes import Match, Router, query

if TYPE_CHECKING:
    from qc_adapter.simulator.faults import Fault

BODY_TIMEOUT_SECONDS: Final = 30.0
RECORDING: Final = "recordFile"
_PAGE: Final = "<html><head><title>{0}</title></head><body><h1>{0}</h1><hr/>Servlet container</body></html>"

ControlHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class WireHandler:
    """Takes each request through record, faults, gateway and encoder."""

    def __init__(self, gateway: Gateway, control: ControlHandler | None) -> None:
        settings = gateway.settings
        self._settings = settings
        self._gateway = gateway
        self._record = gateway.record
        self._control = control
        self._router = Router(settings.agent_id_max)
        self._encoder = Encoder(settings)
        self._damage = Damage(self._encoder)
        self._polls = Polls(gateway)
        self._active: set[asyncio.Task[object]] = set()
        self._down = False
        # Connections that carried a request for the gateway.
        self._connections: WeakSet[asyncio.Transport] = WeakSet()

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is always handled in a task")
        self._active.add(task)
        try:
            path = http.rel_url.raw_path
            if self._control is not None and path.startswith("/simulator"):
                # Whoever asks for an outage gets his answer.
                if http.transport is not None:
                    self._connections.discard(http.transport)
                return await self._control(http)
            if self._down:
                return self._damage.cut(http)
            if http.transport is not None:
                self._connections.add(http.transport)
            match = self._router.find(http.method, path)
            if not match.operation:
                return self._nowhere(http, match)
            return await self._serve(http, match, path)
        finally:
            self._active.discard(task)

    def go_down(self) -> None:
        """Drop everyone's connection, and answer nobody until `come_back`."""
        self._down = True
        for transport in tuple(self._connections):
            transport.abort()
        self._connections.clear()

    def come_back(self) -> None:
        """Answer again."""
        self._down = False

    async def stop(self, seconds: float) -> None:
        """Let held polls and damaged replies end, and wait for them."""
        self._damage.stop()
        self._polls.stop()
        if self._active:
            await asyncio.wait(tuple(self._active), timeout=seconds)

    async def _serve(self, http: web.BaseRequest, match: Match, path: str) -> web.StreamResponse:
        parameters = query(http.rel_url.raw_query_string) if http.rel_url.raw_query_string else {}
        values = match.values
        if match.operation == "getAllAgentEvent":
            # It names no agent: whoever owns the GUID asks.
            values = {"agentid": self._gateway.roster.owner(http.headers.get("guid"))}
        call = GatewayRequest(
            match.operation,
            http.method,
            values,
            parameters,
            http.headers.get("guid"),
            service_token=http.headers.get("service_token"),
        )
        kept = {name: value for name, value in parameters.items() if name in KEPT_PARAMETERS}
        entry = RequestRecord(
            self._record.received + 1,
            self._gateway.now(),
            call.operation,
            call.verb,
            path,
            call.agent_id,
            call.target,
            kept,
            http.headers.get("traceparent", ""),
        )
        self._record.arrived(entry)
        faults = self._gateway.faults.for_request(call.operation, call.agent_id, call.target)
        try:
            if faults:
                return await self._serve_with_faults(http, call, entry, faults)
            await _read_body(http, call)
            response = await self._respond(http, call, entry, await self._process(http, call, entry))
            if call.operation in WITHOUT_GUID:
                await _write(http, response)
            return response
        finally:
            if call.operation in WITHOUT_GUID:
                # A sign-in's events are pushed once its reply is out.
                self._gateway.pushing.release(self._gateway.roster.agent(call.agent_id))

    async def _process(self, http: web.BaseRequest, call: GatewayRequest, entry: RequestRecord) -> Reply:
        code = self._gateway.check(call)
        entry.guid = call.guid_age
        if code != "0":
            return refused(code)
        if call.operation in POLLS:
            reply = await self._polls.answer(call, lambda: _connected(http))
        else:
            reply = self._gateway.perform(call)
        entry.executed = reply.retcode == "0"
        if entry.executed and call.operation in WITHOUT_GUID and self._settings.push_before_reply:
            await self._gateway.pushing.first_push(self._gateway.roster.agent(call.agent_id))
        if not entry.executed:
            return reply  # whoever was taken over learns nothing of the new GUID
        guid = self._gateway.fresh_guid(call)
        return reply if guid is None else replace(reply, guid=guid)

    async def _respond(
        self, http: web.BaseRequest, call: GatewayRequest, entry: RequestRecord, reply: Reply
    ) -> web.StreamResponse:
        self._polls.settle(reply, carried=_connected(http))
        self._record.answered(entry, reply.retcode, 200)
        if call.operation == RECORDING and reply.retcode == "0":
            return await recordings.send(http, self._gateway, call)
        return web.Response(body=self._encoder.body(reply), headers=self._encoder.headers(reply))

    async def _serve_with_faults(
        self, http: web.BaseRequest, call: GatewayRequest, entry: RequestRecord, faults: tuple[Fault, ...]
    ) -> web.StreamResponse:
        entry.faults = tuple(fault.action for fault in faults)
        ending = next((fault for fault in faults if fault.action not in ("delay", "rotate_now")), None)
        if ending is not None and ending.action == "reset_before":
            self._record.answered(entry, None, None)
            return self._damage.cut(http)
        await self._modify(call, faults, after=False)
        await _read_body(http, call)
        if ending is None or ending.processes:
            reply = await self._process(http, call, entry)
        else:
            reply = refused("000-004" if ending.action == "switch_over" else ending.code)
        rotated = await self._modify(call, faults, after=True)
        if rotated and call.operation in HEARTBEATS:
            reply = replace(reply, guid=self._gateway.fresh_guid(call) or reply.guid)
        if ending is None:
            return await self._respond(http, call, entry, reply)
        return await self._end_badly(http, call, entry, ending, reply)

    async def _modify(self, call: GatewayRequest, faults: tuple[Fault, ...], *, after: bool) -> bool:
        rotated = False
        for fault in faults:
            if fault.after is not after:
                continue
            if fault.action == "delay":
                await self._damage.pause(fault.seconds)
            elif fault.action == "rotate_now":
                self._gateway.rotate(self._gateway.roster.agent(call.agent_id), release_polls=fault.release_polls)
                rotated = True
        return rotated

    async def _end_badly(
        self, http: web.BaseRequest, call: GatewayRequest, entry: RequestRecord, fault: Fault, reply: Reply
    ) -> web.StreamResponse:
        readable = fault.action in ("charset", "slow_drip")
        self._polls.settle(reply, carried=readable and _connected(http))
        if fault.action in ("retcode", "switch_over"):
            if fault.processes:
                reply = refused(fault.code)
            if fault.message is not None:
                reply = replace(reply, message=fault.message)
            self._record.answered(entry, reply.retcode, 200)
            return web.Response(body=self._encoder.body(reply), headers=self._encoder.headers(reply))
        if call.operation == RECORDING and fault.action == "cut_json" and reply.retcode == "0":
            response = await recordings.send(http, self._gateway, call, cut=True)
        else:
            response = await self._damage.reply(http, fault, reply, self._encoder.headers(reply))
        status = None if fault.action in ("reset_after", "hang") else response.status
        self._record.answered(entry, reply.retcode if readable else None, status)
        return response

    def _nowhere(self, http: web.BaseRequest, match: Match) -> web.StreamResponse:
        if match.allowed:
            page = _PAGE.format("405 Method Not Allowed")
            return web.Response(
                status=405, text=page, content_type="text/html", headers={"Allow": ", ".join(match.allowed)}
            )
        if self._settings.bad_path == "000-002" and http.rel_url.raw_path.startswith("/agentgateway/"):
            refusal = refused("000-002")
            return web.Response(body=self._encoder.body(refusal), headers=self._encoder.headers(refusal))
        return web.Response(status=404, text=_PAGE.format("404 Not Found"), content_type="text/html")


def _connected(http: web.BaseRequest) -> bool:
    transport = http.transport
    return transport is not None and not transport.is_closing()


async def _write(http: web.BaseRequest, response: web.StreamResponse) -> None:
    with suppress(ConnectionError):
        await response.prepare(http)
        await response.write_eof()


async def _read_body(http: web.BaseRequest, call: GatewayRequest) -> None:
    if http.headers.get("Expect", "").lower() == "100-continue":
        await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if http.can_read_body:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            call.body = await http.read()
