"""The real console script as a process of its own, and an adapter with a simulator for it to talk to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
import orjson
import pytest

from qc_adapter.app import Adapter
from qc_adapter.settings import read_settings
from qc_adapter.simulator import Simulator, SimulatorSettings
from qc_adapter.v1 import sessions_pb2, sessions_pb2_grpc

SCRIPT = Path(sys.executable).with_name("qc-adapter")
#: For a machine that is busy with other things; nothing waits longer than it has to.
PATIENCE_SECONDS = 50


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self):
        """Each line of the output, read as JSON."""
        return [orjson.loads(line) for line in self.out.splitlines()]


class Running:
    """A process that was started and has not been waited for."""

    def __init__(self, process):
        self._process = process
        self.out = ""

    async def line_with(self, text):
        """Wait for a line of the output that holds the text, and return it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while line := (await self._process.stdout.readline()).decode():
                self.out += line
                if text in line:
                    return line
        rest = (await self._process.stderr.read()).decode()
        pytest.fail(f"the process ended without {text!r}: {self.out}\n{rest}")

    def send(self, number=signal.SIGINT):
        """Send a signal."""
        self._process.send_signal(number)

    async def end(self):
        """Wait for the end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, err = await self._process.communicate()
        self.out += out.decode()
        return Ended(self._process.returncode, self.out, err.decode())

    async def close(self):
        """Kill what still runs."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()


def clean_environment(extra):
    """The environment without what a developer has set for himself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QC_") and name != "NO_COLOR"}
    return kept | {"COLUMNS": "120"} | extra


@pytest.fixture
def script():
    """Where the console script is."""
    return SCRIPT


@pytest.fixture
async def start():
    """A function that starts `qc-adapter` with arguments; what is left running at the end is killed."""
    running = []

    async def begin(*arguments, **environment):
        process = await asyncio.create_subprocess_exec(
            SCRIPT,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean_environment(environment),
        )
        running.append(Running(process))
        return running[-1]

    yield begin
    for one in running:
        await one.close()


async def run(*arguments, given=None, **environment):
    """Run `qc-adapter` to its end; `given` is its standard input."""
    process = await asyncio.create_subprocess_exec(
        SCRIPT,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL if given is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(environment),
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, err = await process.communicate(None if given is None else given.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture
def qc():
    """A function that runs `qc-adapter` to its end."""
    return run


def adapter_for(simulator, **environment):
    """An adapter on free ports in front of the simulator."""
    defaults = {
        "QC_GATEWAY_URL": simulator.url,
        "QC_LISTEN": "127.0.0.1:0",
        "QC_OPS_LISTEN": "127.0.0.1:0",
        "QC_POLL_PAUSE_SECONDS": "0.02",
        "QC_GRACE_SECONDS": "1",
        "QC_AUDIT_LOG": "off",
    }
    return Adapter(read_settings(defaults | environment))


@pytest.fixture
def make_adapter():
    """`adapter_for`, for tests with settings of their own."""
    return adapter_for


@pytest.fixture
async def simulator():
    """A simulated gateway where agent 292 talks with a customer."""
    async with Simulator(SimulatorSettings(event_delay_seconds=0.01)) as simulator:
        simulator.sign_in("292")
        simulator.start_call("292")
        yield simulator


@pytest.fixture
async def adapter(simulator):
    """An adapter in front of the simulator, with nobody signed in."""
    async with adapter_for(simulator) as adapter:
        yield adapter


@pytest.fixture
def called(adapter):
    """A function that runs `qc-adapter` against the adapter."""

    async def run_against(*arguments, **options):
        return await run(*arguments, QC_TARGET=f"127.0.0.1:{adapter.port}", **options)

    return run_against


@pytest.fixture
async def signed_in(adapter, called):
    """`called`, with inspector 101 signed in."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{adapter.port}") as channel:
        request = sessions_pb2.SignInRequest(agent_id="101", phone_number="40101")
        await sessions_pb2_grpc.InspectorSessionsStub(channel).SignIn(request, timeout=20)
    return called
