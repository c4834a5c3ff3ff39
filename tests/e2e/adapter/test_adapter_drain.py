"""Going away: callers lose nothing but the connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import aiohttp
import grpc
import orjson
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from qc_adapter.simulator import Fault
from qc_adapter.v1 import events_pb2, events_pb2_grpc, sessions_pb2, sessions_pb2_grpc
from qc_adapter.v1 import quality_control_pb2 as qc

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVE = """
import asyncio, os
from qc_adapter.app import serve
from qc_adapter.settings import read_settings
from qc_adapter.telemetry import logs
logs.configure("info")
asyncio.run(serve(read_settings(os.environ)))
"""


def assert_draining(ended, cursor, *, retry=True):
    """The caller may go on at another replica, from there; RetryInfo only where a repetition is no second command."""
    assert (ended.code, ended.reason, ended.domain) == (StatusCode.UNAVAILABLE, "DRAINING", "qc-adapter")
    assert ended.retry is retry
    assert ended.metadata["cursor"] == cursor


@contextlib.asynccontextmanager
async def draining(site):
    """Drain the adapter beside the test."""
    task = asyncio.create_task(site.adapter.drain())
    try:
        yield task
    finally:
        await task


async def test_health_comes_first_and_streams_end_with_their_cursor(open_site):
    """NOT_SERVING while calls are still served; then each stream ends with its last cursor, a watch with RetryInfo."""
    site = await open_site(QC_DRAIN_SECONDS="1")
    await site.ending(site.sign_in())
    await site.listening()
    health = site.health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert (await health.read()).status == SERVING
    watch = site.watch()
    assert (await watch.read()).HasField("subscribed")
    async with draining(site) as drain:
        assert (await health.read()).status == NOT_SERVING
        assert '"draining":{"ok":false' in await site.page("/readyz")
        health.cancel()
        followed = site.intercept(follow=qc.FOLLOW_UNTIL_RELEASED)
        while not (update := await followed.read()).HasField("outcome"):
            pass
        assert not drain.done()
        assert not watch.done()
        watched = await site.ending(watch)
        types = ["AgentEvent_Talking", "AgentMediaEvent_Record"]
        assert [one.event.event_type for one in watched.updates] == types
        assert_draining(watched, watched.updates[-1].cursor)
        command = await site.ending(followed)
        assert_draining(command, update.cursor, retry=False)
        assert command.metadata["outcome"] == "confirmed"
    assert site.puts == 1


async def test_no_command_is_begun_when_streams_have_ended(open_site, until):
    """After the drain a call is refused as UNAVAILABLE, and nothing is sent."""
    site = await open_site()
    await site.ending(site.sign_in())
    await site.listening()
    site.simulator.add_fault(Fault("hang", operation="addInsert", seconds=0.5))
    insert = qc.InsertRequest(agent_id="101", work_no="293")
    insert.options.confirm_within.FromMilliseconds(100)
    slow = asyncio.create_task(site.ending(site.commands.Insert(insert, timeout=20)))
    await until(lambda: site.simulator.requests("addInsert"))
    async with draining(site):
        await until(lambda: site.adapter.hub.draining)
        late = await site.ending(site.intercept())
        assert (late.code, late.reason, late.retry) == (StatusCode.UNAVAILABLE, "DRAINING", True)
        assert (await site.ending(site.watch())).code is StatusCode.UNAVAILABLE
        assert (await slow).code in {StatusCode.UNAVAILABLE, StatusCode.UNKNOWN}
    assert site.puts == 0


async def test_what_was_sent_gets_its_reply(open_site, until):
    """A command that is out when the drain begins is not cut off before the gateway answered it."""
    site = await open_site()
    await site.ending(site.sign_in())
    await site.listening()
    site.simulator.add_fault(Fault("delay", operation="intercept", seconds=0.5))
    call = asyncio.create_task(site.ending(site.intercept(follow=qc.FOLLOW_NONE)))
    await until(lambda: site.puts == 1)
    async with draining(site):
        ended = await call
    assert (ended.code, ended.kinds) == (StatusCode.OK, ["accepted"])
    assert [entry.executed for entry in site.simulator.requests("intercept")] == [True]


async def test_a_drain_signs_nobody_out(site):
    """The inspector stays signed in at the gateway: another replica goes on."""
    await site.held_poll()
    await site.adapter.drain()
    assert site.simulator.state_of("101") == "IDLE"
    assert list(site.simulator.record.sign_outs) == []


async def started(process):
    """The ports of a served adapter, from its first log line that has them."""
    async for line in process.stdout:
        told = orjson.loads(line)
        if told["event"] == "started":
            return told
    pytest.fail("the process ended before it had started")


@contextlib.asynccontextmanager
async def served(site, **more):
    """The adapter as a process of its own, before the same gateway."""
    settings = {
        "QC_GATEWAY_URL": site.wire.url,
        "QC_LISTEN": "127.0.0.1:0",
        "QC_OPS_LISTEN": "127.0.0.1:0",
        "QC_POLL_PAUSE_SECONDS": "0.02",
        "QC_POLL_HOLD_SECONDS": "1",
        "QC_DRAIN_SECONDS": "0.2",
        "QC_GRACE_SECONDS": "2",
        "QC_AUDIT_LOG": "off",
    }
    pipe = asyncio.subprocess.PIPE
    environment = dict(os.environ) | settings | more
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, stdout=pipe, stderr=pipe, env=environment
    )
    try:
        told = await started(process)
        async with grpc.aio.insecure_channel(told["listen"]) as channel:
            yield process, channel, told["ops_port"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        site.heard += [part.decode() for part in await process.communicate()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_signal_drains_and_ends_with_0(open_site, password, number):
    """A served process that is told to go: health first, streams with cursor and RetryInfo, exit status 0, no noise."""
    site = await open_site()
    async with served(site) as (process, channel, ops_port):
        request = sessions_pb2.SignInRequest(agent_id="101", password=password, phone_number="1")
        await sessions_pb2_grpc.InspectorSessionsStub(channel).SignIn(request, timeout=20)
        stream = events_pb2_grpc.InspectorEventsStub(channel).Watch(
            events_pb2.WatchRequest(agent_id="101", cursor="oldest"), timeout=20
        )
        last = [await stream.read() for _ in range(3)][-1]
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert (await health.read()).status == SERVING
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{ops_port}/readyz") as ready:
            assert ready.status == 200
        process.send_signal(number)
        assert (await health.read()).status == NOT_SERVING
        assert_draining(await site.ending(stream), last.cursor)
        health.cancel()
        rest, noise = await process.communicate()
        assert process.returncode == 0
    events = [orjson.loads(line)["event"] for line in rest.splitlines()]
    assert events[-4:] == ["draining", "call_finished", "lease_changed", "stopped"]
    assert noise == b""
    assert site.simulator.state_of("101") == "IDLE"


async def test_a_second_signal_ends_at_once(open_site):
    """Who asks twice does not want to wait: the process ends with status 1 in the midst of its drain."""
    site = await open_site()
    async with served(site, QC_DRAIN_SECONDS="60") as (process, channel, _):
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert (await health.read()).status == SERVING
        process.send_signal(signal.SIGTERM)
        assert (await health.read()).status == NOT_SERVING
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 1
        health.cancel()
