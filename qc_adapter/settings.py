"""Every setting there is, checked one by one and against each other before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qc_adapter import variables as at
from qc_adapter.environment import (
    InvalidSettings,
    Listen,
    Reading,
    SettingRow,
    SettingsProblem,
    unknown_variables,
)
from qc_adapter.gateway.settings import GatewaySettings
from qc_adapter.model.inspector import DEFAULT_GATEWAY, GATEWAY_NAME
from qc_adapter.model.session import NO_SECRET, EventSource, Secret
from qc_adapter.settings_certificates import check_certificates
from qc_adapter.settings_checks import (
    ANYONE,
    check_audit,
    check_gateways,
    check_pair,
    check_pins,
    check_push,
    check_store,
    check_times,
    check_tokens,
    check_trust,
    open_on_purpose,
)
from qc_adapter.settings_keys import check_keys
from qc_adapter.settings_policy import check_policy
from qc_adapter.settings_tracing import read_tracing
from qc_adapter.variables import GatewayVariables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.telemetry.export import TracingSettings
    from qc_adapter.telemetry.logs import Level

__all__ = ["AuditSettings", "InvalidSettings", "LimitSettings", "Listen", "PushSettings", "ServerTls", "SettingRow",
           "Settings", "SettingsProblem", "TokenSettings", "describe", "read_settings",
           "settings_markdown"]  # fmt: skip

CONNECT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class ServerTls:
    """A server's certificate. With a client CA, callers must show a certificate too."""

    cert_file: str
    key_file: str
    client_ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """
    Whose tokens (JWT) callers may show, and the keys that sign them: in a file, or served at an address.

    `jwks_token_file` holds what is shown to that server; it is read at each request.
    """

    issuer: str
    audience: str
    jwks_file: str | None = None
    jwks_url: str = ""
    jwks_ca_file: str | None = None
    jwks_token_file: str | None = None


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What all callers together may do at this replica; 0 calls a second for any number."""

    calls: int = 10_000
    calls_per_second: int = 0
    streams: int = 10_000
    streams_per_inspector: int = 1_000
    message_bytes: int = 256 * 1024


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Where audit records go: `stderr`, `stdout`, `off` or a path; with a key nobody else can write the chain anew."""

    log: str = "off"
    key: Secret = NO_SECRET


@dataclass(frozen=True, slots=True)
class PushSettings:
    """
    Where gateways push events to.

    `url` is the address as they reach it; one with a name pushes to `url/name`. `token` is what they have to show.
    After `retry_seconds` they push again what failed.
    """

    listen: Listen
    url: str
    token: Secret
    tls: ServerTls | None
    retry_seconds: float = 10.0

    def callback_of(self, gateway: str) -> str:
        """Return the address that a gateway is told at sign-in."""
        return self.url if gateway == DEFAULT_GATEWAY else f"{self.url}/{gateway}"


@dataclass(frozen=True, slots=True)
class Settings:
    """
    What the composition root builds from.

    `gateways` has the default one first, and is empty without QC_GATEWAY_URL. `warnings` are for the log: usable, but
    perhaps not meant.
    """

    gateways: tuple[GatewaySettings, ...]
    store_url: Secret
    seal_keys: tuple[Secret, ...]
    listen: Listen
    ops_listen: Listen
    tls: ServerTls | None
    push: PushSettings | None
    heartbeat_seconds: float
    poll_pause_seconds: float
    poll_hold_seconds: float
    lease_seconds: float
    confirm_within_seconds: float
    bookmark_seconds: float
    limits: LimitSettings
    drain_seconds: float
    grace_seconds: float
    log_level: Level
    reload_seconds: float = 5.0
    tokens: TokenSettings | None = None
    policy_file: str | None = None
    audit: AuditSettings = AuditSettings()
    store_plain: bool = False
    #: Whether records are sealed also beside replicas of a release that reads plain ones only.
    seal_at_once: bool = False
    tracing: TracingSettings | None = None
    warnings: tuple[str, ...] = ()

    @property
    def pushes(self) -> bool:
        """Whether the sign-ins at some gateway are pushed."""
        return any(gateway.event_source is EventSource.PUSH for gateway in self.gateways)

    @property
    def callers(self) -> str:
        """What the gRPC port asks of callers, as the log tells it."""
        asked = []
        if self.tls is not None and self.tls.client_ca_file is not None:
            asked.append("mutual_tls")
        if self.tokens is not None:
            asked.append("tokens")
        return "_and_".join(asked) or ("loopback_only" if self.listen.loopback else ANYONE)


def read_settings(environment: Mapping[str, str], *, gateway_required: bool = True) -> Settings:
    """Return the settings, or raise `InvalidSettings` with everything that is wrong."""
    reading = Reading(environment)
    tracing, doubts = read_tracing(environment, reading)
    settings = Settings(
        gateways=_gateways(reading, required=gateway_required),
        store_url=Secret(reading.value(at.STORE_URL)),
        seal_keys=reading.value(at.SEAL_KEYS),
        listen=reading.value(at.LISTEN),
        ops_listen=reading.value(at.OPS_LISTEN),
        tls=_tls(reading),
        push=_push(reading),
        heartbeat_seconds=reading.value(at.HEARTBEAT),
        poll_pause_seconds=reading.value(at.POLL_PAUSE),
        poll_hold_seconds=reading.value(at.POLL_HOLD),
        lease_seconds=reading.value(at.LEASE),
        confirm_within_seconds=reading.value(at.CONFIRM_WITHIN),
        bookmark_seconds=reading.value(at.BOOKMARK),
        limits=LimitSettings(
            calls=reading.value(at.CALLS_MAX),
            calls_per_second=reading.value(at.CALLS_PER_SECOND),
            streams=reading.value(at.STREAMS_MAX),
            streams_per_inspector=reading.value(at.STREAMS_PER_INSPECTOR),
            message_bytes=reading.value(at.MESSAGE_BYTES),
        ),
        drain_seconds=reading.value(at.DRAIN),
        grace_seconds=reading.value(at.GRACE),
        log_level=reading.value(at.LOG_LEVEL),
        reload_seconds=reading.value(at.RELOAD),
        tokens=_tokens(reading),
        policy_file=reading.value(at.POLICY_FILE),
        audit=AuditSettings(reading.value(at.AUDIT_LOG), reading.value(at.AUDIT_KEY)),
        store_plain=reading.value(at.STORE_PLAIN),
        seal_at_once=bool(reading.text(at.STORE_PLAIN)) and not reading.value(at.STORE_PLAIN),
        tracing=tracing,
        warnings=(*_warnings(environment, reading), *doubts),
    )
    check_trust(reading, settings)
    check_store(reading, settings)
    check_push(reading, settings)
    check_times(reading, settings)
    check_gateways(reading, settings)
    check_certificates(reading, settings)
    check_keys(reading)
    check_policy(reading, settings)
    check_audit(reading, settings)
    if reading.problems:
        raise InvalidSettings(reading.problems)
    return replace(settings, warnings=(*settings.warnings, *open_on_purpose(settings)))


def describe(environment: Mapping[str, str]) -> list[SettingRow]:
    """Return every setting with its value, secrets hidden; works with wrong values too."""
    reading = Reading(environment)
    further = [one for variables in _further(reading) for one in variables.all()]
    return [reading.row(variable) for variable in (*at.VARIABLES, *further)]


def settings_markdown() -> str:
    """Return the settings as a Markdown table, for the documentation."""
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for one in at.VARIABLES:
        also = f" (or `{one.name}_FILE`)" if one.secret else ""
        default = f"`{one.default}`" if one.default else "none"
        lines.append(f"| `{one.name}`{also} | {default} | {one.meaning} |")
    return "\n".join(lines) + "\n"


def _further(reading: Reading) -> list[GatewayVariables]:
    return [GatewayVariables(name) for name in reading.value(at.GATEWAYS)]


def _gateways(reading: Reading, *, required: bool) -> tuple[GatewaySettings, ...]:
    default = _gateway(reading, at.GATEWAY, required=required)
    further = [_gateway(reading, variables, required=True) for variables in _further(reading)]
    return tuple(gateway for gateway in (default, *further) if gateway is not None)


def _gateway(reading: Reading, of: GatewayVariables, *, required: bool) -> GatewaySettings | None:
    url = reading.value(of.url)
    files = {variable: reading.value(variable) for variable in (of.ca_file, of.cert_file, of.key_file)}
    timeout_seconds = reading.value(at.GATEWAY_TIMEOUT)
    check_pair(reading, of.cert_file, of.key_file)
    if not url and required and reading.sound(of.url):
        reading.complain(of.url.name, "", "is required: set it to the gateway, for example https://host:8043")
    agent_id_max, event_source = reading.value(of.agent_id_max), reading.value(of.event_source)
    if not url:
        return None
    for variable, path in files.items():
        if path and url.startswith("http:"):
            reading.complain(variable.name, path, f"is of no use: {of.url.name} is not https")
    pins = check_pins(reading, of)
    usable = reading.sound(of.cert_file, of.key_file)
    return GatewaySettings(
        url=url,
        name=of.name,
        ca_file=files[of.ca_file],
        cert_file=files[of.cert_file] if usable else None,
        key_file=files[of.key_file] if usable else None,
        pins=pins,
        agent_id_max=agent_id_max,
        event_source=event_source,
        request_timeout_seconds=timeout_seconds,
        connect_timeout_seconds=min(CONNECT_SECONDS, timeout_seconds),
        poll_hold_seconds=reading.value(at.POLL_HOLD),
    )


def _tls(reading: Reading) -> ServerTls | None:
    cert_file, key_file = reading.value(at.TLS_CERT_FILE), reading.value(at.TLS_KEY_FILE)
    client_ca_file = reading.value(at.TLS_CLIENT_CA_FILE)
    check_pair(reading, at.TLS_CERT_FILE, at.TLS_KEY_FILE)
    if client_ca_file and not reading.text(at.TLS_CERT_FILE):
        reading.complain(at.TLS_CLIENT_CA_FILE.name, client_ca_file, f"needs {at.TLS_CERT_FILE.name}: set it")
    return ServerTls(cert_file, key_file, client_ca_file) if cert_file and key_file else None


def _tokens(reading: Reading) -> TokenSettings | None:
    issuer, audience = reading.value(at.JWT_ISSUER), reading.value(at.JWT_AUDIENCE)
    found = TokenSettings(
        issuer,
        audience,
        reading.value(at.JWT_JWKS_FILE),
        reading.value(at.JWT_JWKS_URL),
        reading.value(at.JWT_JWKS_CA_FILE),
        reading.value(at.JWT_JWKS_TOKEN_FILE),
    )
    check_tokens(reading)
    return found if issuer and audience and (found.jwks_file or found.jwks_url) else None


def _push(reading: Reading) -> PushSettings | None:
    where, url, token = reading.value(at.PUSH_LISTEN), reading.value(at.PUSH_URL), reading.value(at.PUSH_TOKEN)
    cert_file, key_file = reading.value(at.PUSH_TLS_CERT_FILE), reading.value(at.PUSH_TLS_KEY_FILE)
    check_pair(reading, at.PUSH_TLS_CERT_FILE, at.PUSH_TLS_KEY_FILE)
    if where is None or not url or not token:
        return None
    tls = ServerTls(cert_file, key_file) if cert_file and key_file else None
    return PushSettings(where, url, token, tls, reading.value(at.PUSH_RETRY))


def _unnamed(variable: str) -> str:
    """Return what to say of a variable that looks like one of a gateway that is not named."""
    for suffix in at.GATEWAY_SUFFIXES:
        name = variable.removeprefix("QC_GATEWAY_").removesuffix(f"_{suffix}").lower().replace("_", "-")
        if variable == f"QC_GATEWAY_{name.upper().replace('-', '_')}_{suffix}" and GATEWAY_NAME.fullmatch(name):
            return f"add {name} to {at.GATEWAYS.name}"
    return ""


def _warnings(environment: Mapping[str, str], reading: Reading) -> list[str]:
    further = _further(reading)
    variables = [*at.VARIABLES, *(one for each in further for one in each.all())]
    known = {one.name for one in variables} | {f"{one.name}_FILE" for one in variables if one.secret}
    found = unknown_variables(environment, known, _unnamed)
    for of in (at.GATEWAY, *further):
        url = reading.text(of.url)
        if reading.sound(of.url) and url.startswith("http:") and not _loopback(url):
            found.append(f"{of.url.name} is not https: GUIDs and passwords cross the network unencrypted")
    push_url = reading.text(at.PUSH_URL)
    if reading.sound(at.PUSH_URL) and push_url.startswith("http:") and not _loopback(push_url):
        found.append("QC_PUSH_URL is not https: events and the token cross the network unencrypted")
    if reading.text(at.STORE_URL).startswith("memory:") and not reading.value(at.LISTEN).loopback:
        found.append("QC_STORE_URL is memory://: sessions end with this process, and there can be only one replica")
    return found


def _loopback(url: str) -> bool:
    return Listen(urlsplit(url).hostname or "", 0).loopback
