"""
The composition root: builds every part once, starts them in order, and takes them down in order.

No other module knows more than its neighbours.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final, Self

import structlog

from qc_adapter.admission import admission, records_of_calls
from qc_adapter.commands.journal import Journal
from qc_adapter.commands.keeping import Keeping
from qc_adapter.commands.runner import CommandRunner
from qc_adapter.events.catalogue import EVENT_TYPES
from qc_adapter.events.hub import Hub
from qc_adapter.events.reader import Pace
from qc_adapter.events.readers import Readers
from qc_adapter.gateway import operations
from qc_adapter.gateway.client import GatewayClient
from qc_adapter.gateway.gateways import Gateways
from qc_adapter.gateway.observation import Outcome
from qc_adapter.gateway.retcodes import RETCODES
from qc_adapter.gateway.transport import GatewayTransport
from qc_adapter.health import Health
from qc_adapter.model.session import NO_SECRET
from qc_adapter.model.version import version
from qc_adapter.ops import OpsServer
from qc_adapter.own_certificates import watch_own_certificates
from qc_adapter.push import PushServer
from qc_adapter.rpc.call_traces import CallTraces
from qc_adapter.rpc.calls import CallInterceptor
from qc_adapter.rpc.inspector_events import InspectorEvents
from qc_adapter.rpc.inspector_sessions import InspectorSessions
from qc_adapter.rpc.observers import CallLog, CallMetrics
from qc_adapter.rpc.parse import Parser
from qc_adapter.rpc.quality_control import QualityControl
from qc_adapter.rpc.server import GrpcServer, Services
from qc_adapter.sessions.keeper import GuidKeeper
from qc_adapter.sessions.opening import open_store
from qc_adapter.sessions.traced import TracedSessions
from qc_adapter.settings_certificates import certificate_files
from qc_adapter.shared import in_memory, in_redis
from qc_adapter.signing import records_of, signing
from qc_adapter.store.opening import open_link
from qc_adapter.telemetry.export import Export
from qc_adapter.telemetry.labels import NO_GATEWAY, label_sets
from qc_adapter.telemetry.metrics import Metrics, open_registry
from qc_adapter.telemetry.tracing import Tracing
from qc_adapter.watched import WatchedFiles

if TYPE_CHECKING:
    from types import TracebackType

    from qc_adapter.gateway.circuit import CircuitChange
    from qc_adapter.gateway.observation import GatewayCall
    from qc_adapter.rpc.call import CallObserver
    from qc_adapter.sessions.store import SessionStore
    from qc_adapter.settings import Settings

#: Rpcs that are no single operation of the gateway go by their own name in metrics and logs.
_OWN_METHODS: Final = ("Watch", "Feed", "Adopt", "Get", "List")
_RPC_METHODS: Final = {operation.rpc: operation.method for operation in operations.ALL} | {
    "SignIn": operations.SIGN_IN.method,
    "SignOut": operations.SIGN_OUT.method,
    "UpdateGuid": operations.UPDATE_GUID.method,
}


class Adapter:
    """One replica of the service; also `async with Adapter(settings) as adapter`."""

    def __init__(self, settings: Settings) -> None:
        if not settings.gateways:
            raise ValueError("QC_GATEWAY_URL is required")
        self._settings = settings
        self._log = structlog.get_logger()
        methods = {*operations.METHODS, *_RPC_METHODS.values(), *_OWN_METHODS}
        registry = open_registry()
        names = [gateway.name for gateway in settings.gateways]
        self.metrics = Metrics(
            registry, label_sets(names, methods, RETCODES, EVENT_TYPES, operations.INSPECTION_METHODS)
        )
        self.watched = WatchedFiles(settings.reload_seconds, self.metrics)
        files = [path for one in settings.gateways for path in (one.ca_file, one.cert_file, one.key_file)]
        self.watched.add("gateway", files, self._reload_gateways)
        link = open_link(settings.store_url.reveal(), on_error=self.metrics.store_error)
        self.gateways = Gateways(
            {
                one.name: GatewayClient(GatewayTransport(one), one, self._count_request, self._tell_of_circuit)
                for one in settings.gateways
            },
            settings.push.token if settings.push else NO_SECRET,
        )
        self.hub = Hub()
        self.store: SessionStore
        if link is None:
            self.store = memory = open_store(None)
            self.shared = in_memory(memory, self.hub)
        else:
            records = records_of(settings)
            self.store = open_store(link, records)
            self.shared = in_redis(
                link, self.store, self.hub, self.metrics, records, lease_seconds=settings.lease_seconds
            )
        self.readers = Readers(
            gateway=self.gateways,
            rota=self.shared.rota,
            counts=self.metrics,
            pace=Pace(
                settings.poll_pause_seconds,
                settings.poll_hold_seconds,
                settings.heartbeat_seconds,
                most_polls=settings.gateways[0].poll_slots,
            ),
        )
        self._records = records_of_calls(settings.audit, self.metrics, self._replica, version())
        if self._records is not None:
            self.shared.changes.tell(self._records.log)
        self.keeper = GuidKeeper(self.store)
        self.runner = CommandRunner(
            gateway=self.gateways,
            sessions=TracedSessions(self.shared.sessions),
            keeper=self.keeper,
            hub=self.hub,
            journal=Journal(),
            counts=self.metrics,
            follows=self.shared.follows,
            ledger=self.shared.ledger,
            receipts=self.shared.receipts,
            keeping=Keeping(self.shared.monitored, self.shared.recoveries),
            unheard=None if self._records is None else self._records.settled,
        )
        self.shared.generation.when_forgotten(self.runner.enter_anew)
        made = signing(
            settings,
            gateways=self.gateways,
            store=self.store,
            shared=self.shared,
            readers=self.readers,
            keeper=self.keeper,
        )
        self.sessions, self.recovery = made.sessions, made.recovery
        self._export = Export(settings.tracing, self._replica)
        self._parser = Parser(
            {one.name: one.agent_id_max for one in settings.gateways}, settings.confirm_within_seconds
        )
        self._admission = admission(settings, self._parser, self.watched, self.metrics, self._records)
        self.gate, self._rights, self._keys = self._admission.gate, self._admission.rights, self._admission.keys
        self._server = GrpcServer(self._services(), self._interceptor(), settings.limits, settings.tls)
        self._health = Health(self.store, self.gateways, self.hub, self._server)
        self._ops = OpsServer(
            settings.ops_listen,
            registry,
            self._health.checks,
            lagged=self.metrics.loop_lagged,
            counted=self.readers.take_census,
        )
        self._push = (
            None
            if settings.push is None
            else PushServer(settings.push, self.gateways.names, self.shared.inlet, self.metrics)
        )
        self.metrics.poll_age(self.readers.oldest_poll_seconds)
        self.metrics.sessions(self.readers.counted)
        self.metrics.store_up(self._health.store_up)
        self.metrics.gateway_up(self._health.reachable)
        watch_own_certificates(settings, self.watched, self.metrics, self._server.certificates, self._push)
        self.metrics.runs(version())
        self.port = 0
        margin_seconds = settings.gateways[0].poll_margin_seconds
        self._longest_poll_seconds = settings.poll_hold_seconds + min(margin_seconds, settings.grace_seconds)

    @property
    def ops_port(self) -> int:
        """The port of /metrics, /livez and /readyz."""
        return self._ops.port

    @property
    def push_port(self) -> int:
        """The port that gateways push to; 0 without one."""
        return 0 if self._push is None else self._push.port

    @property
    def _replica(self) -> str:
        return self.shared.replica or socket.gethostname()

    def _count_request(self, call: GatewayCall) -> None:
        # What a caller gave up before it left, and a poll that a sign-out ended, are no failures of the transport.
        if call.outcome not in (Outcome.CANCELLED, Outcome.NOT_SENT):
            self.metrics.gateway_call(call)

    def _tell_of_circuit(self, change: CircuitChange) -> None:
        self.metrics.circuit(change.gateway, opened=change.opened)
        if change.opened:
            self._log.warning("circuit_opened", gateway=change.gateway, detail=change.why)
        else:
            self._log.info("circuit_closed", gateway=change.gateway)

    def _reload_gateways(self) -> None:
        self.gateways.reload_trust()
        # Of our own ports' files another may lie there than is in use.
        self.metrics.certificates_loaded(
            file for file in certificate_files(self._settings) if file.gateway != NO_GATEWAY
        )

    def _services(self) -> Services:
        settings, parser = self._settings, self._parser
        return Services(
            QualityControl(parser, self.runner, self.metrics),
            InspectorSessions(parser, self.sessions, self.readers, self.shared.recoveries),
            InspectorEvents(
                parser,
                sessions=self.sessions,
                follows=self.shared.follows,
                hub=self.hub,
                inlet=self.shared.inlet,
                counts=self.metrics,
                bookmark_seconds=settings.bookmark_seconds,
            ),
        )

    def _interceptor(self) -> CallInterceptor:
        """The chain: each observer's end runs in the reverse order, so the log line comes first."""
        observers: list[CallObserver] = [
            CallTraces(Tracing(self._export.provider)),
            CallMetrics(self.metrics),
            CallLog(),
        ]
        return CallInterceptor(_RPC_METHODS, [*observers, *self._admission.observers], self.gate)

    async def start(self) -> None:
        """Open the ports and begin to poll. The store and the gateway may be away; health says so."""
        settings = self._settings
        if self._records is not None:
            self._records.log.start()
        self._export.start()
        await self._ops.start()
        if self._keys is not None:
            self._keys.start()
        self.port = await self._server.start(str(settings.listen))
        if self._push is not None:
            await self._push.start()
        self.shared.start(self.readers, self.recovery)
        self.readers.start()
        self.recovery.start()
        self.watched.start()
        await self._health.start()
        listen = f"{settings.listen.host}:{self.port}"
        self._log.info(
            "started",
            version=version(),
            listen=listen,
            callers=settings.callers,
            tls=settings.tls is not None,
            policy=settings.policy_file is not None,
            audit=settings.audit.log,
            ops_port=self.ops_port,
            replica=self.shared.replica or "only",
        )

    async def drain(self) -> None:
        """Take the replica out of service so that callers lose nothing but the connection."""
        settings = self._settings
        self._log.info("draining", streams_end_in_seconds=settings.drain_seconds)
        await self.recovery.stop()  # others go on with it
        # Load balancers stop sending; until they have, calls are still served.
        await self._health.end()
        # A poll that is under way ends by itself, and with it the lease: to cut it would lose its event.
        handing_over = asyncio.create_task(self.readers.hand_over(self._longest_poll_seconds), name="hand over")
        try:
            await asyncio.sleep(settings.drain_seconds)
            await self._end_streams()
        finally:
            await handing_over

    async def _end_streams(self) -> None:
        settings = self._settings
        # Open streams end with their last cursor; what was sent to the gateway gets its reply.
        self.hub.drain()
        await self.runner.stop(settings.grace_seconds)
        await self._server.stop(settings.grace_seconds)

    async def stop(self) -> None:
        """End everything that is left and wait for it."""
        settings = self._settings
        await self.watched.stop()
        if self._keys is not None:
            await self._keys.stop()
        await self._health.end()
        self.hub.drain()
        await self.recovery.stop()
        await self.sessions.close(settings.grace_seconds)
        await self.runner.stop(0)
        await self._server.stop(0)
        if self._push is not None:
            await self._push.stop()
        await self.readers.stop()
        await self.shared.stop()
        await self.keeper.close()
        await self.gateways.close()
        await self.store.close()
        await self._ops.stop()
        await self._export.stop()
        if self._records is not None:
            await self._records.log.stop()
        self._log.info("stopped")

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, drain, and return. A second signal ends the process at once."""
    leave = asyncio.Event()

    def on_signal() -> None:
        if leave.is_set():
            sys.stdout.flush()
            os._exit(1)
        leave.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    adapter = Adapter(settings)
    try:
        await adapter.start()
        # What was built lives as long as the process: the collector need not look at it again.
        gc.freeze()
        await leave.wait()
        await adapter.drain()
    finally:
        await adapter.stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)
