"""The gRPC server: services, interceptors, health, reflection, and the options that normal clients survive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from qc_adapter.rpc.credentials import PortCertificates
from qc_adapter.rpc.health import Health
from qc_adapter.rpc.open_services import MOST_OPEN
from qc_adapter.v1 import (
    events_pb2,
    events_pb2_grpc,
    quality_control_pb2,
    quality_control_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)
from qc_adapter.watched import Unusable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.rpc.calls import CallInterceptor
    from qc_adapter.rpc.inspector_events import InspectorEvents
    from qc_adapter.rpc.inspector_sessions import InspectorSessions
    from qc_adapter.rpc.quality_control import QualityControl
    from qc_adapter.settings import LimitSettings, ServerTls

SERVICES: Final = tuple(
    descriptor.services_by_name[name].full_name
    for descriptor, name in (
        (quality_control_pb2.DESCRIPTOR, "QualityControl"),
        (sessions_pb2.DESCRIPTOR, "InspectorSessions"),
        (events_pb2.DESCRIPTOR, "InspectorEvents"),
    )
)

#: For the last status to leave the process.
_LAST_SECONDS: Final = 0.5
#: Strangers cannot be told from callers before they call. An idle connection costs 17 KiB, so it takes many of them,
#: and for good, to lock callers out.
MOST_CONNECTIONS: Final = 10_000
#: Calls that one connection may have at a time; calls that it takes back count until they are cleared away. Whoever
#: needs more opens another connection, as a client's library waits in silence for a place on this one.
STREAMS_OF_A_CONNECTION: Final = 1000
#: Calls that wait to be taken up: up to here the core of gRPC queues them, beyond it they are CANCELLED, whosever they
#: are. Between two different numbers it would do so by chance; by itself it begins at 1000.
_MOST_WAITING: Final = 20_000
#: A token and what proxies add; more is answered by the library.
_METADATA_BYTES: Final = 16 * 1024
#: Calls that neither of our limits counts: of health and reflection, and those that are not let in yet.
_SPARE_CALLS: Final = 2 * MOST_OPEN + 1000
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # two processes on one port would share callers by chance
    # Dead callers are found within half a minute, and clients may ping as often as every 10 s without a call.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 3),
    # Whoever connects has to go on with it: TLS and the first frames, and then calls.
    ("grpc.max_allowed_incoming_connections", MOST_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.http2.settings_timeout", 20_000),
    ("grpc.max_connection_idle_ms", 60_000),
    ("grpc.max_concurrent_streams", STREAMS_OF_A_CONNECTION),
    ("grpc.server.max_pending_requests", _MOST_WAITING),
    ("grpc.server.max_pending_requests_hard_limit", _MOST_WAITING),
    # The same twice: between a lower and a higher one the library would refuse by chance.
    ("grpc.max_metadata_size", _METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
)


@dataclass(frozen=True, slots=True)
class Services:
    """The servicers of one replica."""

    quality_control: QualityControl
    inspector_sessions: InspectorSessions
    inspector_events: InspectorEvents


class GrpcServer:
    """A grpc.aio server with everything that a caller or a cluster expects of one."""

    def __init__(
        self, services: Services, interceptor: CallInterceptor, limits: LimitSettings, tls: ServerTls | None = None
    ) -> None:
        self.certificates = None if tls is None else PortCertificates(tls)
        calls_at_once = limits.calls + limits.streams
        options = (
            *_OPTIONS,
            # What is a little too long gets our own answer, what is more is not read.
            ("grpc.max_receive_message_length", 2 * limits.message_bytes),
        )
        self._server = grpc.aio.server(
            interceptors=[interceptor], options=options, maximum_concurrent_rpcs=calls_at_once + _SPARE_CALLS
        )
        self._calls = interceptor
        self._health = Health()
        self._serving: bool | None = None
        by_path = cast("grpc.aio.Server", _ByPath(self._server))
        quality_control_pb2_grpc.add_QualityControlServicer_to_server(services.quality_control, by_path)
        sessions_pb2_grpc.add_InspectorSessionsServicer_to_server(services.inspector_sessions, by_path)
        events_pb2_grpc.add_InspectorEventsServicer_to_server(services.inspector_events, by_path)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, by_path)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        # By the library's own function it would be the one for threads, each of which an idle stream keeps: with a few
        # of them no name of a host is looked up any more.
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(names), by_path)

    async def start(self, address: str) -> int:
        """Listen on `host:port`, port 0 for a free one; returns the port. Raises OSError when it is taken."""
        try:
            credentials = None if self.certificates is None else self.certificates.credentials()
        except Unusable as unusable:
            raise OSError(f"cannot listen on {address}: {unusable}") from unusable
        try:
            if credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as failure:
            raise OSError(f"cannot listen on {address}: is the port in use?") from failure
        self.serving(serving=False)
        await self._server.start()
        return port

    def serving(self, *, serving: bool) -> None:
        """Say by grpc.health.v1 whether callers should come."""
        if serving == self._serving:
            return
        self._serving = serving
        state = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *SERVICES):
            self._health.set(name, state)

    async def stop(self, grace_seconds: float) -> None:
        """
        Refuse new calls, give open ones of ours that time, and end.

        Watchers of the health have no end of their own, so they are not waited for.
        """
        await self._calls.idle(grace_seconds)
        await self._server.stop(_LAST_SECONDS if grace_seconds else 0)


class _ByPath:
    """
    The server for code that adds services to it, less their registration method by method.

    For each method that is registered, the library's loop waits for a call of its own, and sets up all of these waits
    anew at every call: with ours that is 0.1 ms. Without that it finds handlers by their path.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Leave it out."""
