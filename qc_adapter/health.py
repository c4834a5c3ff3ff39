"""Whether this replica can serve, as it tells callers (grpc.health.v1) and the probes of a cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from qc_adapter.model.errors import StoreUnavailable
from qc_adapter.ops import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qc_adapter.events.hub import Hub
    from qc_adapter.gateway.gateways import Gateways
    from qc_adapter.rpc.server import GrpcServer
    from qc_adapter.sessions.store import SessionStore

_LOOK_SECONDS: Final = 1.0


class Health:
    """Asks the store every second, from `start` until `end`; of gateways it knows how they answered last."""

    def __init__(self, store: SessionStore, gateways: Gateways, hub: Hub, server: GrpcServer) -> None:
        self._store = store
        self._gateways = gateways
        self._hub = hub
        self._server = server
        self._store_problem: str | None = "not asked yet"
        self._store_lost = False
        self._watching: asyncio.Task[None] | None = None
        self._log = structlog.get_logger()

    @property
    def checks(self) -> Mapping[str, Callable[[], Check]]:
        """What /readyz asks, by name."""
        return {"store": self._store_check, "gateway": self._gateway_check, "draining": self._draining_check}

    def store_up(self) -> bool:
        """Whether the store answered last."""
        return self._store_problem is None

    def reachable(self, gateway: str) -> bool:
        """Whether the gateway answered last; before the first request nothing speaks against it."""
        return self._gateways.health()[gateway].reachable is not False

    async def start(self) -> None:
        """Look for the first time, and go on in the running loop."""
        await self._look()
        self._watching = asyncio.create_task(self._watch(), name="health")

    async def end(self) -> None:
        """Say that nobody should come any more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
            self._server.serving(serving=False)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._look()
            except Exception as defect:  # noqa: BLE001 - a health that is not looked at any more must not say "well"
                self._log.error("health_check_failed", exc_info=defect)
                self._server.serving(serving=False)

    async def _look(self) -> None:
        try:
            await self._store.ping()
        except StoreUnavailable as failure:
            if not self._store_lost:
                self._log.warning("store_lost", detail=failure.message)
            self._store_problem, self._store_lost = failure.message, True
        else:
            if self._store_lost:
                self._log.info("store_found")
            self._store_problem, self._store_lost = None, False
        self._server.serving(serving=self._store_problem is None and not self._hub.draining)

    def _store_check(self) -> Check:
        return Check(self._store_problem is None, self._store_problem or "answers")

    def _gateway_check(self) -> Check:
        seen = self._gateways.health()
        reachable = any(map(self.reachable, seen))  # with one that is away the others are served
        if len(seen) == 1:
            return Check(reachable, *(health.why for health in seen.values()))
        return Check(reachable, "; ".join(f"{name}: {health.why}" for name, health in seen.items()))

    def _draining_check(self) -> Check:
        leaving = self._watching is None
        return Check(not leaving, "going away" if leaving else "no")
