"""All gateways of the settings behind one door: the session says which of them a request is for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from qc_adapter.model.errors import GatewayMisconfigured
from qc_adapter.model.inspector import gateway_of
from qc_adapter.model.session import NO_SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qc_adapter.gateway.client import GatewayClient, PollReply, Receipt
    from qc_adapter.gateway.observation import GatewayHealth
    from qc_adapter.gateway.requests import GatewayRequest, SignInForm
    from qc_adapter.gateway.signed_in import SignedIn
    from qc_adapter.model.deadline import Deadline
    from qc_adapter.model.session import Renewal, Secret, Session


class Gateways:
    """The clients by the names of their gateways. Methods raise like those of `GatewayClient`."""

    def __init__(self, clients: Mapping[str, GatewayClient], push_token: Secret = NO_SECRET) -> None:
        """Take the clients, and what gateways that push were told to show: heartbeats carry it too."""
        self._clients = dict(clients)
        self._push_token = push_token

    @property
    def names(self) -> frozenset[str]:
        """The names of the gateways."""
        return frozenset(self._clients)

    def health(self) -> Mapping[str, GatewayHealth]:
        """Return how each gateway was last seen."""
        return {name: client.last_seen for name, client in self._clients.items()}

    async def send(
        self, session: Session, request: GatewayRequest, deadline: Deadline, on_send: Callable[[], None]
    ) -> Receipt:
        """Send one command."""
        return await self._of(session.agent_id, request.operation.method).command(session, request, deadline, on_send)

    async def request(self, session: Session, request: GatewayRequest, deadline: Deadline) -> Receipt:
        """Send what is no command of a caller."""
        return await self._of(session.agent_id, request.operation.method).send(session, request, deadline)

    async def sign_in(self, agent_id: str, form: SignInForm, *, force: bool, deadline: Deadline) -> SignedIn:
        """Sign an inspector in."""
        return await self._of(agent_id, "login").sign_in(agent_id, form, force=force, deadline=deadline)

    async def sign_out(self, session: Session, *, force: bool, deadline: Deadline) -> None:
        """Sign an inspector out; being out already is a success."""
        await self._of(session.agent_id, "logout").sign_out(session, force=force, deadline=deadline)

    async def update_guid(self, session: Session, deadline: Deadline) -> Renewal:
        """Have a fresh GUID made."""
        return await self._of(session.agent_id, "updateGuid").update_guid(session, deadline)

    async def poll(self, session: Session, *, hold_seconds: float) -> PollReply:
        """Ask for the next event."""
        return await self._of(session.agent_id, "getAgentEvent").poll(session, hold_seconds=hold_seconds)

    async def heartbeat(self, session: Session) -> Renewal | None:
        """Keep a pushed session alive; returns what the reply changes in it."""
        client = self._of(session.agent_id, "handShake")
        return await client.heartbeat(session, self._push_token)

    def reload_trust(self) -> None:
        """Read the certificates of all anew; those that cannot be used are told in one `ValueError` at the end."""
        refused = []
        for name, client in self._clients.items():
            try:
                client.reload_trust()
            except (OSError, ValueError) as failure:
                why = failure.strerror or type(failure).__name__ if isinstance(failure, OSError) else failure
                refused.append(f"gateway {name}: {why}")
        if refused:
            raise ValueError("; ".join(refused))

    async def close(self) -> None:
        """Close the connections to all of them."""
        await asyncio.gather(*(client.close() for client in self._clients.values()))

    def _of(self, agent_id: str, method: str) -> GatewayClient:
        name = gateway_of(agent_id)
        client = self._clients.get(name)
        if client is None:
            raise GatewayMisconfigured(
                method, f"the session of inspector {agent_id} is at a gateway that the settings do not name: {name}"
            )
        return client
