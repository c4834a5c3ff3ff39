"""Says by grpc.health.v1 whether callers should come; whoever can connect may ask."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package has no types
    """
    The state of each service.

    The library's own servicer writes to its watchers with a lock in its hand: one of them that does not read keeps
    everybody from changing the state, and from stopping.
    """

    def __init__(self) -> None:
        self._states: dict[str, int] = {}
        self._changed = asyncio.Event()

    def set(self, service: str, state: int) -> None:
        """Set the state, and let the watchers look."""
        self._states[service] = state
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Any:  # noqa: N802
        """Return the state of a service."""
        state = self._states.get(request.service)
        if state is None:
            await context.abort(StatusCode.NOT_FOUND, "there is no such service")
        return health_pb2.HealthCheckResponse(status=state)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:  # noqa: N802
        """Tell the state of a service now and whenever it is another one; who reads slowly misses some."""
        told = None
        while True:
            changed = self._changed
            state = self._states.get(request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if state == told:
                await changed.wait()
                continue
            told = state
            await context.write(health_pb2.HealthCheckResponse(status=state))
