"""Simulated gateways on real ports, and clients of theirs."""

import aiohttp
import pytest

from qc_adapter.simulator import Simulator, SimulatorSettings
from tests.support.simulated import Client


@pytest.fixture
async def simulators():
    """Starts simulators with the settings asked for; all are stopped at the end."""
    running = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        # aiohttp sends a PUT, GET or DELETE a second time by itself when its connection is reset.
        session._retry_connection = False

        async def start(**choices):
            simulator = Simulator(SimulatorSettings(**{"poll_hold_seconds": 0.05, "event_delay_seconds": 0} | choices))
            await simulator.start()
            running.append(simulator)
            return Client(simulator, session)

        yield start
    for simulator in running:
        await simulator.stop()


@pytest.fixture
async def client(simulators):
    """A client of a simulator with the defaults, but short holds and no event delay."""
    return await simulators()
