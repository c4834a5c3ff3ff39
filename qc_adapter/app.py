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

from qc_adapter.access.policy_file import read_policy
from qc_adapter.audit.log import AuditLog
from qc_adapter.audit.output import output_to
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
from qc_adapter.model.errors import StoreUnavailable
from qc_adapter.model.session import NO_SECRET
from qc_adapter.model.version import version
from qc_adapter.ops import Check, OpsServer
from qc_adapter.own_certificates import watch_own_certificates
from qc_adapter.push import PushServer
from qc_adapter.rpc.audit import CallAudit
from qc_adapter.rpc.call_traces import CallTraces
from qc_adapter.rpc.callers import KnownCallers
from qc_adapter.rpc.calls import CallInterceptor, CallObserver
from qc_adapter.rpc.gate import Gate
from qc_adapter.rpc.inspector_events import InspectorEvents
from qc_adapter.rpc.inspector_sessions import InspectorSessions
from qc_adapter.rpc.observers import CallLog, CallMetrics
from qc_adapter.rpc.parse import Parser
from qc_adapter.rpc.quality_control import QualityControl
from qc_adapter.rpc.rights import PolicyRights
from qc_adapter.rpc.room import LimitedRoom, no_limits
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
    from collections.abc import Sequence
    from types import TracebackType

    from qc_adapter.access.keys_url import ServedKeys
    from qc_adapter.gateway.circuit import CircuitChange
    from qc_adapter.gateway.observation import GatewayCall
    from qc_adapter.sessions.store import SessionStore
    from qc_adapter.settings import Settings

#: Rpcs that are no single operation of the gateway go by their own name in metrics and logs.
_OWN_METHODS: Final = ("Watch", "Feed", "Adopt", "Get", "List")
_RPC_METHODS: Final = {operation.rpc: operation.method for operation in operations.ALL} | {
    "SignIn": operations.SIGN_IN.method,
    "SignOut": operations.SIGN_OUT.method,
    "UpdateGuid": operations.UPDATE_GUID.method,
}
_HEALTH_SECONDS: Final = 1.0


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
            pace=Pace(settings.poll_pause_seconds, settings.poll_hold_seconds, settings.heartbeat_seconds),
        )
        self._records = self._open_records()
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
        self._keys: ServedKeys | None = None
        self._export = Export(settings.tracing, self._replica)
        self._parser = Parser(
            {one.name: one.agent_id_max for one in settings.gateways}, settings.confirm_within_seconds
        )
        self._rights = self._open_rights(names)
        limits_of = no_limits if self._rights is None else self._rights.limits_of
        self.gate = Gate(self._callers(), LimitedRoom(settings.limits, limits_of), self._rights, self._records)
        self._server = GrpcServer(self._services(), self._interceptor(), settings.limits, settings.tls)
        self._ops = OpsServer(
            settings.ops_listen,
            registry,
            {"store": self._store_check, "gateway": self._gateway_check, "draining": self._draining_check},
            lagged=self.metrics.loop_lagged,
        )
        self._push = (
            None
            if settings.push is None
            else PushServer(settings.push, self.gateways.names, self.shared.inlet, self.metrics)
        )
        self.metrics.poll_age(self.readers.oldest_poll_seconds)
        self.metrics.sessions(self.readers.counts)
        self.metrics.store_up(lambda: self._store_problem is None)
        self.metrics.gateway_up(self._reachable)
        watch_own_certificates(settings, self.watched, self.metrics, self._server.certificates, self._push)
        files = [path for one in settings.gateways for path in (one.ca_file, one.cert_file, one.key_file)]
        self.watched.add("gateway", files, self._reload_gateways)
        self.metrics.runs(version())
        self._store_problem: str | None = "not asked yet"
        self._store_lost = False
        self._watching: asyncio.Task[None] | None = None
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

    def _open_records(self) -> CallAudit | None:
        """Return what keeps records, of sessions as well; None if there are to be none."""
        log, key = self._settings.audit.log, self._settings.audit.key
        if log == "off":
            return None
        audit = AuditLog(output_to(log), key, self.metrics, replica=self._replica, version=version())
        self.shared.changes.tell(audit)
        return CallAudit(audit)

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
        if self._rights is not None:
            observers.append(self._rights)
        if self._records is not None:
            observers.append(self._records)
        return CallInterceptor(_RPC_METHODS, observers, self.gate)

    def _callers(self) -> KnownCallers:
        settings, tokens = self._settings, None
        if settings.tokens is not None:
            from qc_adapter.access.opening import open_tokens  # noqa: PLC0415 - without tokens nobody needs it

            tokens, self._keys = open_tokens(settings.tokens, self.watched, self.metrics)
        mutual = settings.tls is not None and settings.tls.client_ca_file is not None
        return KnownCallers(tokens, self.metrics, certificates=mutual)

    def _open_rights(self, gateways: Sequence[str]) -> PolicyRights | None:
        """Return what judges calls by the policy, which is read anew when its file changes; None without one."""
        path = self._settings.policy_file
        if path is None:
            return None
        rights = PolicyRights(read_policy(path, gateways), self._parser, self.metrics)
        self.watched.add("policy", [path], lambda: rights.take(read_policy(path, gateways)))
        return rights

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
        await self._look()
        self._watching = asyncio.create_task(self._watch_health(), name="health")
        listen = f"{settings.listen.host}:{self.port}"
        self._log.info(
            "started",
            version=version(),
            listen=listen,
            callers=settings.callers,
            tls=settings.tls is not None,
            ops_port=self.ops_port,
            replica=self.shared.replica or "only",
        )

    async def drain(self) -> None:
        """Take the replica out of service so that callers lose nothing but the connection."""
        settings = self._settings
        self._log.info("draining", streams_end_in_seconds=settings.drain_seconds)
        await self.recovery.stop()  # others go on with it
        # Load balancers stop sending; until they have, calls are still served.
        await self._end_health()
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
        await self._end_health()
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

    async def _end_health(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
            await self._server.serving(serving=False)

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_SECONDS)
            try:
                await self._look()
            except Exception as defect:  # noqa: BLE001 - a health that is not looked at any more must not say "well"
                self._log.error("health_check_failed", exc_info=defect)
                await self._server.serving(serving=False)

    async def _look(self) -> None:
        try:
            await self.store.ping()
        except StoreUnavailable as failure:
            if not self._store_lost:
                self._log.warning("store_lost", detail=failure.message)
            self._store_problem, self._store_lost = failure.message, True
        else:
            if self._store_lost:
                self._log.info("store_found")
            self._store_problem, self._store_lost = None, False
        await self._server.serving(serving=self._store_problem is None and not self.hub.draining)

    def _store_check(self) -> Check:
        return Check(self._store_problem is None, self._store_problem or "answers")

    def _reachable(self, gateway: str) -> bool:
        # Before the first request nothing speaks against a gateway.
        return self.gateways.health()[gateway].reachable is not False

    def _gateway_check(self) -> Check:
        seen = self.gateways.health()
        reachable = any(map(self._reachable, seen))  # with one that is away the others are served
        if len(seen) == 1:
            return Check(reachable, *(health.why for health in seen.values()))
        return Check(reachable, "; ".join(f"{name}: {health.why}" for name, health in seen.items()))

    def _draining_check(self) -> Check:
        leaving = self._watching is None
        return Check(not leaving, "going away" if leaving else "no")


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
