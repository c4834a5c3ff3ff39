"""
The adapter as a competent team would write it in a day, from the same packages and for the same contract.

A grpc.aio server; one shared `httpx.AsyncClient`; redis.asyncio for the GUIDs; prometheus metrics by `labels()`;
structlog as it comes; a task for each inspector that polls for events and puts them into the inspector's
`asyncio.Queue`; and an `Intercept` that sends its request and reads that queue until both events came. It is not made
slow on purpose: the HTTP client may keep as many connections as it has polls, without which it would stand still.

What it lacks and the adapter has, all of which costs something: recovery of sessions, leases and more than one
replica, cursors and replay, gaps, errors with details, deadlines, a bound for anything, admission, access control,
audit, traces, drain. Nothing should be run on it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import grpc
import httpx
import structlog
import uvloop
from google.protobuf import json_format
from prometheus_client import Counter, Histogram
from redis.asyncio import Redis

from bench.answers import answer
from qc_adapter.v1 import events_pb2, quality_control_pb2_grpc, sessions_pb2, sessions_pb2_grpc
from qc_adapter.v1 import quality_control_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Context = grpc.aio.ServicerContext[Any, Any]

_GATEWAY: Final = "/agentgateway/resource"
#: The gateway holds a poll for 10 s, which is longer than the client would wait by itself.
_POLL_SECONDS: Final = 15.0
_EXPECTED: Final = ("AgentEvent_Talking", "AgentMediaEvent_Record")
_CONFIRM_SECONDS: Final = 10.0
CALLS: Final = Counter("naive_calls_total", "Calls.", ["method", "code"])
SECONDS: Final = Histogram("naive_call_seconds", "Duration of calls.", ["method"])
EVENTS: Final = Counter("naive_events_total", "Events.", ["event_type"])
log: Final = structlog.get_logger()


class Inspectors:
    """GUIDs in Redis, and a queue of events for each inspector, filled by a task that polls."""

    def __init__(self, http: httpx.AsyncClient, redis: Redis) -> None:
        self._http = http
        self._redis = redis
        self._queues: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def adopt(self, agent_id: str, guid: str, *, polled: bool) -> None:
        """Keep a GUID, and begin to poll."""
        await self._redis.set(f"guid:{agent_id}", guid)
        if polled and agent_id not in self._queues:
            self._queues[agent_id] = asyncio.Queue()
            self._tasks.add(asyncio.create_task(self._poll(agent_id)))

    async def headers(self, agent_id: str) -> dict[str, str]:
        """Return what an inspector's requests carry."""
        guid = await self._redis.get(f"guid:{agent_id}")
        if guid is None:
            raise KeyError(agent_id)
        return {"guid": guid.decode()}

    def queue(self, agent_id: str) -> asyncio.Queue[dict[str, Any]]:
        """Return the inspector's events."""
        return self._queues[agent_id]

    async def close(self) -> None:
        """End all polls."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _poll(self, agent_id: str) -> None:
        while True:
            try:
                headers = await self.headers(agent_id)
                reply = await self._http.get(
                    f"{_GATEWAY}/agentevent/{agent_id}", headers=headers, timeout=_POLL_SECONDS
                )
                event = reply.json().get("event")
            except (httpx.HTTPError, ValueError) as error:
                log.warning("poll failed", agent_id=agent_id, error=repr(error))
                await asyncio.sleep(1)
                continue
            if event:
                EVENTS.labels(event_type=event["eventType"]).inc()
                self._queues[agent_id].put_nowait(event)


class QualityControl(quality_control_pb2_grpc.QualityControlServicer):
    """Runs Intercept."""

    def __init__(self, http: httpx.AsyncClient, inspectors: Inspectors) -> None:
        self._http = http
        self._inspectors = inspectors

    async def Intercept(  # noqa: N802 - named by the contract
        self, request: pb.InterceptRequest, context: Context
    ) -> AsyncIterator[pb.CommandUpdate]:
        """Send the request; yield the receipt, the events and the outcome."""
        began, code = time.perf_counter(), "OK"
        try:
            path = f"{_GATEWAY}/qualitycontrol/{request.agent_id}/intercept/{request.work_no}"
            reply = await self._http.put(path, headers=await self._inspectors.headers(request.agent_id))
            receipt = reply.raise_for_status().json()
            if receipt["retcode"] != "0":
                code = "FAILED_PRECONDITION"
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{receipt['retcode']} {receipt['message']}")
            accepted = pb.CommandAccepted(method="intercept", gateway_message=receipt["message"])
            accepted.time.GetCurrentTime()
            yield pb.CommandUpdate(accepted=accepted)
            if request.options.follow != pb.FOLLOW_NONE:
                async for update in self._events(request.agent_id):
                    yield update
        except httpx.HTTPError as error:
            code = "UNAVAILABLE"
            await context.abort(grpc.StatusCode.UNAVAILABLE, repr(error))
        finally:
            seconds = time.perf_counter() - began
            CALLS.labels(method="Intercept", code=code).inc()
            SECONDS.labels(method="Intercept").observe(seconds)
            log.info("call", method="Intercept", code=code, agent_id=request.agent_id, seconds=round(seconds, 4))

    async def _events(self, agent_id: str) -> AsyncIterator[pb.CommandUpdate]:
        queue, missing, call_id = self._inspectors.queue(agent_id), set(_EXPECTED), ""
        async with asyncio.timeout(_CONFIRM_SECONDS):
            while missing:
                event = await queue.get()
                missing.discard(event["eventType"])
                call_id = event["content"].get("callid", call_id)
                yield pb.CommandUpdate(event=_event(event))
        outcome = pb.CommandOutcome(state=pb.CommandOutcome.CONFIRMED, call_id=call_id)
        yield pb.CommandUpdate(outcome=outcome)


def _event(event: dict[str, Any]) -> events_pb2.AgentEvent:
    content = event["content"]
    message = events_pb2.AgentEvent(event_type=event["eventType"], work_no=event["workNo"])
    message.received_time.GetCurrentTime()
    json_format.ParseDict(content, message.content.struct_value)
    if event["eventType"] == "AgentEvent_Talking":
        message.talking.call_id = content["callid"]
        message.talking.caller = content.get("caller", "")
        message.talking.called = content.get("called", "")
    elif event["eventType"] == "AgentMediaEvent_Record":
        message.record.phase = events_pb2.Recording.STARTED
        message.record.call_id = content["callid"]
        message.record.record_id = content.get("recordID", "")
    return message


class InspectorSessions(sessions_pb2_grpc.InspectorSessionsServicer):
    """Takes sessions over, and shows them."""

    def __init__(self, inspectors: Inspectors) -> None:
        self._inspectors = inspectors

    async def Adopt(  # noqa: N802 - named by the contract
        self, request: sessions_pb2.AdoptRequest, _context: Context
    ) -> sessions_pb2.AdoptResponse:
        """Keep a session."""
        polled = request.event_source != sessions_pb2.EVENT_SOURCE_NONE
        await self._inspectors.adopt(request.agent_id, request.guid, polled=polled)
        return sessions_pb2.AdoptResponse(session=sessions_pb2.Session(agent_id=request.agent_id))

    async def Get(  # noqa: N802 - named by the contract
        self, request: sessions_pb2.GetRequest, context: Context
    ) -> sessions_pb2.GetResponse:
        """Show a session."""
        began, code = time.perf_counter(), "OK"
        try:
            await self._inspectors.headers(request.agent_id)
        except KeyError:
            code = "FAILED_PRECONDITION"
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not signed in")
        finally:
            seconds = time.perf_counter() - began
            CALLS.labels(method="Get", code=code).inc()
            SECONDS.labels(method="Get").observe(seconds)
            log.info("call", method="Get", code=code, agent_id=request.agent_id, seconds=round(seconds, 4))
        session = sessions_pb2.Session(agent_id=request.agent_id, event_source=sessions_pb2.EVENT_SOURCE_POLL)
        return sessions_pb2.GetResponse(session=session)


async def serve(gateway_url: str, redis_url: str) -> None:
    """Serve until the parent closes the pipe."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=gateway_url, limits=limits) as http, Redis.from_url(redis_url) as redis:
        inspectors = Inspectors(http, redis)
        server = grpc.aio.server()
        quality_control_pb2_grpc.add_QualityControlServicer_to_server(QualityControl(http, inspectors), server)
        sessions_pb2_grpc.add_InspectorSessionsServicer_to_server(InspectorSessions(inspectors), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await answer({"ports": lambda: [port, 0]})
        await server.stop(0)
        await inspectors.close()


def main() -> None:
    """Run on uvloop, as one line more is worth it to anybody."""
    # The parent reads standard output, so the lines go where a container's do as well.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    main()
