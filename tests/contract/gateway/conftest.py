"""Clients of the gateway side by side with a gateway of scripted bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from qc_adapter.gateway.client import GatewayClient
from qc_adapter.gateway.settings import GatewaySettings
from qc_adapter.gateway.transport import GatewayTransport
from qc_adapter.model.session import Secret, Session
from tests.support.scripted import ScriptedGateway


@pytest.fixture
async def gateway():
    """A scripted gateway without TLS."""
    server = ScriptedGateway()
    await server.start()
    yield server
    await server.stop()


@dataclass
class Bench:
    """Builds clients that are closed after the test, and keeps what their observers were told."""

    calls: list = field(default_factory=list)
    changes: list = field(default_factory=list)
    clients: list = field(default_factory=list)

    def client(self, url, **changes):
        """A client for that address."""
        settings = GatewaySettings(
            **{"url": url, "connect_timeout_seconds": 1.0, "request_timeout_seconds": 5.0} | changes
        )
        made = GatewayClient(GatewayTransport(settings), settings, self.calls.append, self.changes.append)
        self.clients.append(made)
        return made


@pytest.fixture
async def bench():
    made = Bench()
    yield made
    for client in made.clients:
        await client.close()


@pytest.fixture
async def client(bench, gateway):
    """A client of the scripted gateway."""
    return bench.client(gateway.url)


@pytest.fixture
def session():
    """A session as a sign-in left it."""
    return Session("117", Secret("0a" * 24 + ".AgentGateway0"))
