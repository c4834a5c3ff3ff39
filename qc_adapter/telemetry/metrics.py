"""The metrics of one process: the other parts say what happened, this one counts it."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from qc_adapter.telemetry import catalogue
from qc_adapter.telemetry.certificates import CertificateEnds
from qc_adapter.telemetry.labels import GRPC_CODES, NO_CALLER, NO_GATEWAY, NO_RETCODE, OTHER
from qc_adapter.telemetry.process import ProcessNumbers
from qc_adapter.telemetry.tallies import Tally, TimeTally, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client.metrics_core import Metric

    from qc_adapter.telemetry.catalogue import MetricRow
    from qc_adapter.telemetry.certificates import CertificateFile
    from qc_adapter.telemetry.labels import LabelSets


class GatewayCallLike(Protocol):
    """One finished request to the gateway, as `gateway` reports it."""

    @property
    def gateway(self) -> str:
        """The gateway's name."""
        ...

    @property
    def method(self) -> str:
        """The gateway's name of the operation."""
        ...

    @property
    def retcode(self) -> str:
        """The gateway's retcode, or `NO_RETCODE`."""
        ...

    @property
    def seconds(self) -> float:
        """How long it took."""
        ...

    @property
    def exemplar(self) -> dict[str, str] | None:
        """The trace that it is part of, if that is kept."""
        ...


class _Gauges:
    """A gauge for each place of closed sets; what is in none of them has one as `other`, once it is set."""

    def __init__(self, metric: Gauge, *allowed: frozenset[str]) -> None:
        self._metric = metric
        self._allowed = allowed
        self._bound = {place: metric.labels(*place) for place in product(*allowed)}

    def of(self, *place: str) -> Gauge:
        return self._bound.get(place) or self._metric.labels(*listed(place, self._allowed))


class _Refusals:
    """Refused calls by caller; the names are those of the policy, and those that it no longer has are dropped."""

    def __init__(self, metric: Counter, whys: frozenset[str]) -> None:
        self._metric = metric
        self._whys = whys
        self._names = frozenset[str]()
        self.take(frozenset({NO_CALLER}))

    def take(self, names: frozenset[str]) -> None:
        for name, why in product(self._names - names, self._whys):
            self._metric.remove(name, why)
        for name, why in product(names - self._names, self._whys):
            self._metric.labels(name, why)  # at 0: the first refusal must be seen as an increase
        self._names = names

    def count(self, name: str, why: str) -> None:
        if why in self._whys:
            self._metric.labels(name if name in self._names else NO_CALLER, why).inc()


class _Census(Collector):
    """A gauge that is counted at each scrape, all of it at once; a place that is not counted has none."""

    def __init__(self, row: MetricRow, gateways: frozenset[str], states: frozenset[str]) -> None:
        self._row = row
        self._places = frozenset(product(gateways, states))
        self.count: Callable[[], Mapping[tuple[str, str], int]] = dict

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._row.name, self._row.help, labels=self._row.labels)
        counts = self.count()
        for place in self._places:
            family.add_metric(place, counts.get(place, 0))
        unlisted = sum(count for place, count in counts.items() if place not in self._places)
        family.add_metric((OTHER, OTHER), unlisted)
        yield family


class Metrics:
    """The catalogue on a registry. Every method is cheap, never fails and never waits."""

    def __init__(self, registry: CollectorRegistry, labels: LabelSets) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        methods, gateways = labels.methods, labels.gateways
        self._gateways = gateways
        callers = gateways | {NO_GATEWAY}

        tally, times = partial(Tally, registry=registry), partial(TimeTally, registry=registry)

        def gauge(row: MetricRow) -> Gauge:
            return Gauge(row.name, row.help, row.labels, registry=registry)

        self._requests = tally(catalogue.REQUESTS, GRPC_CODES, callers, methods)
        self._request_seconds = times(catalogue.REQUEST_SECONDS, callers, methods)
        self._gateway_requests = tally(
            catalogue.GATEWAY_REQUESTS, gateways, methods, labels.retcodes | {NO_RETCODE, "0"}
        )
        self._gateway_seconds = times(catalogue.GATEWAY_REQUEST_SECONDS, gateways, methods)
        self._events = tally(catalogue.EVENTS, labels.event_types, gateways)
        self._foreign = tally(catalogue.EVENTS_FOREIGN, gateways).shown()
        self._pushes = tally(catalogue.PUSHES, gateways, labels.push_outcomes).shown()
        self._delivery_seconds = times(catalogue.EVENT_DELIVERY_SECONDS, gateways).shown()
        self._outcomes = tally(catalogue.COMMAND_OUTCOMES, gateways, methods, labels.outcomes)
        self._outcomes.show(product(gateways, labels.commands, labels.outcomes))
        self._confirmation_seconds = times(catalogue.COMMAND_CONFIRMATION_SECONDS, gateways, methods)
        self._streams = _Gauges(gauge(catalogue.STREAMS_ACTIVE), labels.services)
        self._sessions = _Census(catalogue.SESSIONS, gateways, labels.session_states)
        registry.register(self._sessions)
        self._poll_age = _Gauges(gauge(catalogue.POLL_AGE_SECONDS), gateways)
        self._leases = _Gauges(gauge(catalogue.LEASES_HELD), gateways)
        self._unread = _Gauges(gauge(catalogue.SESSIONS_UNREAD), gateways)
        self._lease_changes = tally(catalogue.LEASE_CHANGES, gateways, labels.lease_reasons).shown()
        self._gaps = tally(catalogue.EVENT_GAPS, gateways, labels.gap_reasons).shown()
        self._store_errors = tally(catalogue.STORE_ERRORS, labels.store_operations).shown()
        self._store_up = gauge(catalogue.STORE_UP)
        self._gateway_up = _Gauges(gauge(catalogue.GATEWAY_UP), gateways)
        self._certificates = CertificateEnds(catalogue.CERTIFICATE_EXPIRY, callers, labels.certificate_uses)
        registry.register(self._certificates)
        self._refusals = _Refusals(
            Counter(
                catalogue.CALLS_REFUSED.name,
                catalogue.CALLS_REFUSED.help,
                catalogue.CALLS_REFUSED.labels,
                registry=registry,
            ),
            labels.refusals,
        )
        self._reloads = tally(catalogue.RELOADS, labels.reload_outcomes, labels.reloaded).shown()
        self._reload_refused = _Gauges(gauge(catalogue.RELOAD_REFUSED), labels.reloaded)
        self._circuit_open = _Gauges(gauge(catalogue.CIRCUIT_OPEN), gateways)
        self._audit_records = tally(catalogue.AUDIT_RECORDS, labels.audit_outcomes).shown()
        self._loop_lag = times(catalogue.EVENT_LOOP_LAG_SECONDS).shown()
        self._build = gauge(catalogue.BUILD_INFO)

    def request_finished(
        self, gateway: str, method: str, code: str, seconds: float, exemplar: dict[str, str] | None = None
    ) -> None:
        """Count a gRPC call that ended with the status code of that name; `gateway` is empty when it is about none."""
        name = gateway or NO_GATEWAY
        self._requests.count(code, name, method)
        self._request_seconds.observe((name, method), seconds, exemplar)

    def gateway_call(self, call: GatewayCallLike) -> None:
        """Count a request to the gateway."""
        self._gateway_requests.count(call.gateway, call.method, call.retcode)
        self._gateway_seconds.observe((call.gateway, call.method), call.seconds, call.exemplar)

    def event_read(self, gateway: str, event_type: str) -> None:
        """Count an event that the gateway gave us."""
        self._events.count(event_type, gateway)

    def event_foreign(self, gateway: str) -> None:
        """Count an event that named another agent than the one that was polled for."""
        self._foreign.count(gateway)

    def push_received(self, gateway: str, outcome: str) -> None:
        """Count a push of the gateway by what came of it."""
        self._pushes.count(gateway, outcome)

    def event_delivered(self, gateway: str, seconds: float) -> None:
        """Note how long an event took from the gateway to a stream."""
        self._delivery_seconds.observe((gateway,), seconds)

    def command_outcome(self, gateway: str, method: str, outcome: str) -> None:
        """Count what came of a command."""
        self._outcomes.count(gateway, method, outcome)

    def command_confirmed(self, gateway: str, method: str, seconds: float) -> None:
        """Note how long after it was sent a command was confirmed."""
        self._confirmation_seconds.observe((gateway, method), seconds)

    def stream_opened(self, service: str) -> None:
        """Note a stream that begins."""
        self._streams.of(service).inc()

    def stream_closed(self, service: str) -> None:
        """Note a stream that ended."""
        self._streams.of(service).dec()

    def sessions(self, count: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        """Ask that function at each scrape how many sessions of each gateway are in each state."""
        self._sessions.count = count

    def poll_age(self, seconds: Callable[[str], float]) -> None:
        """Ask that function for the age of the oldest poll of a gateway at each scrape."""
        for gateway in self._gateways:
            self._poll_age.of(gateway).set_function(partial(seconds, gateway))

    def leases_held(self, counts: Mapping[str, int]) -> None:
        """Note how many leases this replica holds by gateway."""
        for gateway in self._gateways:
            self._leases.of(gateway).set(counts.get(gateway, 0))

    def sessions_unread(self, counts: Mapping[str, int]) -> None:
        """Note how many sessions of each gateway have no reader although they should have one."""
        for gateway in self._gateways:
            self._unread.of(gateway).set(counts.get(gateway, 0))

    def lease_changed(self, gateway: str, reason: str) -> None:
        """Count a lease won or lost."""
        self._lease_changes.count(gateway, reason)

    def gap(self, gateway: str, reason: str) -> None:
        """Count a reported gap."""
        self._gaps.count(gateway, reason)

    def store_error(self, operation: str) -> None:
        """Count an operation on the session store that failed."""
        self._store_errors.count(operation)

    def store_up(self, up: Callable[[], bool]) -> None:
        """Ask that function at each scrape whether the store answers."""
        self._store_up.set_function(up)

    def gateway_up(self, up: Callable[[str], bool]) -> None:
        """Ask that function at each scrape whether a gateway can be reached."""
        for gateway in self._gateways:
            self._gateway_up.of(gateway).set_function(partial(up, gateway))

    def certificates_loaded(self, files: Iterable[CertificateFile]) -> None:
        """Tell when the certificates in those files end, which were taken into use just now."""
        self._certificates.loaded(files)

    def callers(self, names: Iterable[str]) -> None:
        """Take the callers of the policy: no other ones are counted by name."""
        self._refusals.take(frozenset(names) | {NO_CALLER})

    def call_refused(self, caller: str, why: str) -> None:
        """Count a call that was refused to a caller of that name in the policy, empty for none."""
        self._refusals.count(caller or NO_CALLER, why)

    def reloaded(self, what: str, *, refused: bool) -> None:
        """Count files that changed, and tell whether those on disk are in use."""
        self._reloads.count("refused" if refused else "loaded", what)
        self._reload_refused.of(what).set(refused)

    def circuit(self, gateway: str, *, opened: bool) -> None:
        """Tell whether commands to a gateway fail at once."""
        self._circuit_open.of(gateway).set(opened)

    def audited(self, *, failed: bool) -> None:
        """Count an audit record."""
        self._audit_records.count("failed" if failed else "written")

    def loop_lagged(self, seconds: float) -> None:
        """Note how late a tick of the event loop came."""
        self._loop_lag.observe((), seconds)

    def runs(self, version: str) -> None:
        """Tell which release runs."""
        self._build.labels(version).set(1)


def open_registry() -> CollectorRegistry:
    """Return a registry of its own, with the numbers of this process: memory, CPU, files, garbage collections."""
    registry = CollectorRegistry()
    registry.register(ProcessNumbers())
    GCCollector(registry=registry)
    return registry
