"""What the pods of the local overlay would run, run here: the rendered settings, probes and times, hosts replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import aiohttp
import grpc
import pytest

from bench.ports import free_port
from bench.redis_server import RedisServer
from deploy.tests.manifests import overlay
from qc_adapter.simulator import Simulator, SimulatorSettings
from qc_adapter.v1 import events_pb2, events_pb2_grpc, sessions_pb2, sessions_pb2_grpc
from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import quality_control_pb2_grpc as qc_grpc

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
PROGRAM = shutil.which("qc-adapter", path=str(Path(sys.executable).parent))


class Pod:
    """A process with the settings of the overlay, and what the kubelet would ask of it."""

    def __init__(self, process, container, grace_seconds, ports):
        self.process = process
        self.container = container
        self.grace_seconds = grace_seconds
        self.ports = ports

    async def probed(self, probe):
        """The status that a probe gets; 0 without an answer."""
        asked = self.container[probe]["httpGet"]
        return await self.status(asked["path"], asked["port"])

    async def status(self, path, port="ops"):
        """The status of a page."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as client,
                client.get(f"http://127.0.0.1:{self.ports[port]}{path}") as reply,
            ):
                return reply.status
        except aiohttp.ClientError:
            return 0

    async def becomes(self, probe, status):
        """Wait until a probe gets that status."""
        async with asyncio.timeout(30):
            while await self.probed(probe) != status:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.05)

    async def ended(self):
        """Send SIGTERM as the kubelet does, wait as long as it would, and return the exit status and the lines."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(self.grace_seconds):
            told, noise = await self.process.communicate()
        assert noise == b""
        return self.process.returncode, [json.loads(line)["event"] for line in told.splitlines()]


@contextlib.asynccontextmanager
async def running(gateway_url, store_url):
    """Start what the container of the overlay starts."""
    manifests = overlay("local")
    [container] = manifests.adapter.pod["containers"]
    ports = {name: free_port() for name in manifests.adapter.ports}
    environment = dict(manifests.environment)
    assert environment["QC_GATEWAY_URL"] == "http://simulator:8043"
    assert environment["QC_STORE_URL"] == "redis://redis:6379/0"
    environment |= {"QC_GATEWAY_URL": gateway_url, "QC_STORE_URL": store_url}
    for name, variable in (("grpc", "QC_LISTEN"), ("ops", "QC_OPS_LISTEN")):
        assert environment[variable] == f"0.0.0.0:{manifests.adapter.ports[name]}"
        environment[variable] = f"127.0.0.1:{ports[name]}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QC_")}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *container["args"], stdout=pipe, stderr=pipe, env=inherited | environment
    )
    try:
        yield Pod(process, container, manifests.adapter.pod["terminationGracePeriodSeconds"], ports)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.fixture
def store_url(tmp_path):
    """A Redis of the test's own."""
    server = RedisServer(tmp_path)
    server.start()
    yield server.url
    server.stop()


async def sign_in(channel):
    """Sign inspector 101 in."""
    request = sessions_pb2.SignInRequest(agent_id="101", password="x", phone_number="40101")
    await sessions_pb2_grpc.InspectorSessionsStub(channel).SignIn(request, timeout=20)


async def read_to_the_end(stream):
    """Read until the stream ends."""
    while await stream.read() is not grpc.aio.EOF:
        pass


@pytest.mark.timeout(120)
async def test_sigterm_during_calls_ends_in_time_with_0(store_url):
    """Probes answer; after SIGTERM the pod is alive but not ready, a command still works, then streams are told."""
    settings = SimulatorSettings(port=0, poll_hold_seconds=10.0)
    async with Simulator(settings) as simulator, running(simulator.url, store_url) as pod:
        await pod.becomes("readinessProbe", 200)
        assert [await pod.probed(probe) for probe in PROBES] == [200, 200, 200]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{pod.ports['grpc']}") as channel:
            await sign_in(channel)
            watch = events_pb2_grpc.InspectorEventsStub(channel).Watch(events_pb2.WatchRequest(agent_id="101"))
            assert (await watch.read()).HasField("subscribed")
            ending = asyncio.create_task(pod.ended())
            await pod.becomes("readinessProbe", 503)
            assert await pod.probed("livenessProbe") == 200
            simulator.start_call("292")
            request = qc.ListenRequest(agent_id="101", work_no="292")
            request.options.follow = qc.FOLLOW_NONE
            updates = [one async for one in qc_grpc.QualityControlStub(channel).Listen(request, timeout=20)]
            assert updates[0].HasField("accepted")
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await read_to_the_end(watch)
            assert told.value.code() is grpc.StatusCode.UNAVAILABLE
            status, events = await ending
        assert not simulator.record.sign_outs
    assert status == 0
    assert events[-1] == "stopped"


@pytest.mark.timeout(120)
async def test_a_gateway_that_is_away_takes_no_pod_out_of_service(store_url):
    """Calls are to get a clear answer, so the probe is content where the page for people is not; the end is 0 too."""
    async with running(f"http://127.0.0.1:{free_port()}", store_url) as pod:
        await pod.becomes("readinessProbe", 200)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{pod.ports['grpc']}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await sign_in(channel)
        assert told.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await pod.status("/readyz"), await pod.probed("readinessProbe")) == (503, 200)
        status, events = await pod.ended()
    assert status == 0
    assert events[-1] == "stopped"
