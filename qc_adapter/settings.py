"""Every setting there is, checked one by one and against each other before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from qc_adapter.environment import (
    InvalidSettings,
    Listen,
    Reading,
    SettingRow,
    SettingsProblem,
    Variable,
    flag,
    listen,
    readable_file,
    seconds,
    seconds_or_none,
    unknown_variables,
    whole_number,
)
from qc_adapter.gateway.settings import GatewaySettings
from qc_adapter.model.session import Secret
from qc_adapter.store.opening import parse_store_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.telemetry.logs import Level

__all__ = ["VARIABLES", "InvalidSettings", "Listen", "ServerTls", "SettingRow", "Settings", "SettingsProblem",
           "describe", "read_settings", "settings_markdown"]  # fmt: skip

# The gateway signs an inspector out after that long without a poll.
SIGN_OUT_SECONDS = 120.0
CONNECT_SECONDS = 3.0
# A lease is renewed between two polls, and both the poll and the renewal take their way.
LEASE_SPARE_SECONDS = 2.0


def _gateway_url(text: str) -> str:
    if text:
        GatewaySettings(url=text)  # its own check; says what is wrong
    return text


def _store_url(text: str) -> str:
    parse_store_url(text)
    return text


def _level(text: str) -> Level:
    if text.lower() not in {"debug", "info", "warning", "error"}:
        raise ValueError("must be debug, info, warning or error")
    return cast("Level", text.lower())


GATEWAY_URL = Variable("QC_GATEWAY_URL", "", "the CC-Gateway, as https://host:8043; required by serve", _gateway_url)
GATEWAY_CA_FILE = Variable("QC_GATEWAY_CA_FILE", "", "CAs that sign the gateway; else the system's", readable_file)
GATEWAY_CERT_FILE = Variable("QC_GATEWAY_CERT_FILE", "", "client certificate for the gateway", readable_file)
GATEWAY_KEY_FILE = Variable("QC_GATEWAY_KEY_FILE", "", "key of the client certificate", readable_file)
GATEWAY_TIMEOUT = Variable("QC_GATEWAY_TIMEOUT_SECONDS", "10", "longest wait for the reply to a command", seconds)
STORE_URL = Variable(
    "QC_STORE_URL",
    "memory://",
    "session store: memory://, redis://, rediss:// or redis+sentinel://host:port,host:port/name/db",
    _store_url,
    secret=True,
)
LISTEN = Variable("QC_LISTEN", "127.0.0.1:50051", "gRPC", listen)
OPS_LISTEN = Variable("QC_OPS_LISTEN", "127.0.0.1:8080", "HTTP: /metrics, /livez, /readyz", listen)
TLS_CERT_FILE = Variable("QC_TLS_CERT_FILE", "", "certificate of the gRPC server", readable_file)
TLS_KEY_FILE = Variable("QC_TLS_KEY_FILE", "", "key of the gRPC server's certificate", readable_file)
TLS_CLIENT_CA_FILE = Variable("QC_TLS_CLIENT_CA_FILE", "", "CAs that sign callers: mutual TLS", readable_file)
POLICY_FILE = Variable("QC_POLICY_FILE", "", "who may call what; not supported yet, refused when set", str)
ALLOW_INSECURE = Variable("QC_ALLOW_INSECURE", "0", "1: let anyone who reaches QC_LISTEN call", flag)
AGENT_ID_MAX = Variable("QC_AGENT_ID_MAX", "59999", "highest agent id; 999999 for newer gateways",
                        whole_number(101, 999_999))  # fmt: skip
POLL_PAUSE = Variable("QC_POLL_PAUSE_SECONDS", "0.2", "between a reply and the next poll", seconds_or_none)
POLL_HOLD = Variable("QC_POLL_HOLD_SECONDS", "10", "how long the gateway holds a poll without events", seconds)
LEASE = Variable("QC_LEASE_SECONDS", "30", "after that long without a word others poll on for a replica", seconds)
CONFIRM_WITHIN = Variable("QC_CONFIRM_WITHIN_SECONDS", "10", "wait for a command's events, unless it says", seconds)
BOOKMARK = Variable("QC_BOOKMARK_SECONDS", "15", "between bookmarks on an idle Watch stream", seconds)
STREAMS_MAX = Variable("QC_STREAMS_MAX", "10000", "streams open at once", whole_number(1, 1_000_000))
DRAIN = Variable("QC_DRAIN_SECONDS", "5", "after SIGTERM, until load balancers stopped sending", seconds_or_none)
GRACE = Variable("QC_GRACE_SECONDS", "10", "after that, for calls to end", seconds_or_none)
LOG_LEVEL = Variable("QC_LOG_LEVEL", "info", "debug, info, warning or error", _level)

VARIABLES: tuple[Variable[Any], ...] = (
    GATEWAY_URL, GATEWAY_CA_FILE, GATEWAY_CERT_FILE, GATEWAY_KEY_FILE, GATEWAY_TIMEOUT, STORE_URL, LISTEN, OPS_LISTEN,
    TLS_CERT_FILE, TLS_KEY_FILE, TLS_CLIENT_CA_FILE, POLICY_FILE, ALLOW_INSECURE, AGENT_ID_MAX, POLL_PAUSE, POLL_HOLD,
    LEASE, CONFIRM_WITHIN, BOOKMARK, STREAMS_MAX, DRAIN, GRACE, LOG_LEVEL,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServerTls:
    """The gRPC server's certificate. With a client CA, callers must show a certificate too."""

    cert_file: str
    key_file: str
    client_ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What the composition root builds from. `warnings` are for the log: usable, but perhaps not meant."""

    gateway: GatewaySettings | None
    store_url: Secret
    listen: Listen
    ops_listen: Listen
    tls: ServerTls | None
    agent_id_max: int
    poll_pause_seconds: float
    lease_seconds: float
    confirm_within_seconds: float
    bookmark_seconds: float
    streams_max: int
    drain_seconds: float
    grace_seconds: float
    log_level: Level
    warnings: tuple[str, ...] = ()


def read_settings(environment: Mapping[str, str], *, gateway_required: bool = True) -> Settings:
    """Return the settings, or raise `InvalidSettings` with everything that is wrong."""
    reading = Reading(environment)
    gateway = _gateway(reading, required=gateway_required)
    settings = Settings(
        gateway=gateway,
        store_url=Secret(reading.value(STORE_URL)),
        listen=reading.value(LISTEN),
        ops_listen=reading.value(OPS_LISTEN),
        tls=_tls(reading),
        agent_id_max=reading.value(AGENT_ID_MAX),
        poll_pause_seconds=reading.value(POLL_PAUSE),
        lease_seconds=reading.value(LEASE),
        confirm_within_seconds=reading.value(CONFIRM_WITHIN),
        bookmark_seconds=reading.value(BOOKMARK),
        streams_max=reading.value(STREAMS_MAX),
        drain_seconds=reading.value(DRAIN),
        grace_seconds=reading.value(GRACE),
        log_level=reading.value(LOG_LEVEL),
        warnings=tuple(_warnings(environment, reading)),
    )
    _check_trust(reading, settings)
    _check_times(reading, settings)
    if reading.problems:
        raise InvalidSettings(reading.problems)
    return settings


def describe(environment: Mapping[str, str]) -> list[SettingRow]:
    """Return every setting with its value, secrets hidden; works with wrong values too."""
    return [Reading(environment).row(variable) for variable in VARIABLES]


def settings_markdown() -> str:
    """Return the settings as a Markdown table, for the documentation."""
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for one in VARIABLES:
        also = f" (or `{one.name}_FILE`)" if one.secret else ""
        default = f"`{one.default}`" if one.default else "none"
        lines.append(f"| `{one.name}`{also} | {default} | {one.meaning} |")
    return "\n".join(lines) + "\n"


def _gateway(reading: Reading, *, required: bool) -> GatewaySettings | None:
    url = reading.value(GATEWAY_URL)
    files = {variable: reading.value(variable) for variable in (GATEWAY_CA_FILE, GATEWAY_CERT_FILE, GATEWAY_KEY_FILE)}
    timeout_seconds, hold_seconds = reading.value(GATEWAY_TIMEOUT), reading.value(POLL_HOLD)
    _check_pair(reading, GATEWAY_CERT_FILE, GATEWAY_KEY_FILE)
    if not url:
        if required and reading.sound(GATEWAY_URL):
            reading.complain(GATEWAY_URL.name, "", "is required: set it to the gateway, for example https://host:8043")
        return None
    for variable, path in files.items():
        if path and url.startswith("http:"):
            reading.complain(variable.name, path, f"is of no use: {GATEWAY_URL.name} is not https")
    usable = reading.sound(GATEWAY_CERT_FILE, GATEWAY_KEY_FILE)
    return GatewaySettings(
        url=url,
        ca_file=files[GATEWAY_CA_FILE],
        cert_file=files[GATEWAY_CERT_FILE] if usable else None,
        key_file=files[GATEWAY_KEY_FILE] if usable else None,
        request_timeout_seconds=timeout_seconds,
        connect_timeout_seconds=min(CONNECT_SECONDS, timeout_seconds),
        poll_hold_seconds=hold_seconds,
    )


def _tls(reading: Reading) -> ServerTls | None:
    cert_file, key_file = reading.value(TLS_CERT_FILE), reading.value(TLS_KEY_FILE)
    client_ca_file = reading.value(TLS_CLIENT_CA_FILE)
    _check_pair(reading, TLS_CERT_FILE, TLS_KEY_FILE)
    if client_ca_file and not reading.text(TLS_CERT_FILE):
        reading.complain(TLS_CLIENT_CA_FILE.name, client_ca_file, f"needs {TLS_CERT_FILE.name}: set it")
    return ServerTls(cert_file, key_file, client_ca_file) if cert_file and key_file else None


def _check_pair(reading: Reading, cert: Variable[str | None], key: Variable[str | None]) -> None:
    for one, other in ((cert, key), (key, cert)):
        if reading.text(one) and not reading.text(other):
            reading.complain(one.name, reading.text(one), f"needs {other.name}: set both or neither")


def _check_trust(reading: Reading, settings: Settings) -> None:
    """Refuse what would let strangers call, rather than to look safe."""
    policy = reading.text(POLICY_FILE)
    if policy:
        reading.complain(
            POLICY_FILE.name,
            policy,
            "is not supported until callers can be authenticated: unset it, and limit who reaches the port",
        )
    mutual = settings.tls is not None and settings.tls.client_ca_file is not None
    allowed = reading.value(ALLOW_INSECURE) or mutual or settings.listen.loopback
    if reading.sound(LISTEN, TLS_CERT_FILE, TLS_KEY_FILE, TLS_CLIENT_CA_FILE) and not allowed:
        reading.complain(
            LISTEN.name,
            str(settings.listen),
            f"lets anyone who reaches it control calls: set {TLS_CLIENT_CA_FILE.name} for mutual TLS, listen on "
            f"127.0.0.1, or set {ALLOW_INSECURE.name}=1 if the network keeps strangers out",
        )
    if settings.listen.port and settings.listen.port == settings.ops_listen.port and reading.sound(LISTEN, OPS_LISTEN):
        reading.complain(OPS_LISTEN.name, str(settings.ops_listen), f"has the port of {LISTEN.name}: choose another")


def _check_times(reading: Reading, settings: Settings) -> None:
    gateway = settings.gateway
    if gateway is not None and reading.sound(POLL_HOLD, POLL_PAUSE):
        # A poll that is lost must not cost the sign-in: a second one has to fit in.
        longest = gateway.poll_hold_seconds + gateway.poll_margin_seconds + settings.poll_pause_seconds
        if 2 * longest > SIGN_OUT_SECONDS:
            reading.complain(
                POLL_HOLD.name,
                f"{gateway.poll_hold_seconds:g}",
                f"is too long: two polls with {gateway.poll_margin_seconds:g} s margin and {POLL_PAUSE.name} "
                f"({settings.poll_pause_seconds:g}) must fit into the {SIGN_OUT_SECONDS:g} s after which the gateway "
                f"signs an inspector out",
            )
    if gateway is not None and reading.sound(LEASE, POLL_HOLD):
        _check_lease(reading, settings.lease_seconds, gateway.poll_hold_seconds)
    if reading.sound(CONFIRM_WITHIN, POLL_PAUSE) and settings.confirm_within_seconds <= settings.poll_pause_seconds:
        reading.complain(
            CONFIRM_WITHIN.name,
            f"{settings.confirm_within_seconds:g}",
            f"must be longer than {POLL_PAUSE.name} ({settings.poll_pause_seconds:g}), or no event can confirm",
        )


def _check_lease(reading: Reading, lease_seconds: float, hold_seconds: float) -> None:
    shortest, longest = hold_seconds + LEASE_SPARE_SECONDS, SIGN_OUT_SECONDS / 2
    if not shortest <= lease_seconds <= longest:
        reading.complain(
            LEASE.name,
            f"{lease_seconds:g}",
            f"must be {shortest:g} to {longest:g}: longer than {POLL_HOLD.name} ({hold_seconds:g}) and "
            f"{LEASE_SPARE_SECONDS:g} s, so that no two replicas poll at once, and far from the {SIGN_OUT_SECONDS:g} s "
            f"after which the gateway signs an inspector out",
        )


def _warnings(environment: Mapping[str, str], reading: Reading) -> list[str]:
    known = {one.name for one in VARIABLES} | {f"{one.name}_FILE" for one in VARIABLES if one.secret}
    found = unknown_variables(environment, known)
    url = reading.text(GATEWAY_URL)
    if url.startswith("http:") and not Listen(urlsplit(url).hostname or "", 0).loopback:
        found.append("QC_GATEWAY_URL is not https: GUIDs and passwords cross the network unencrypted")
    if reading.text(STORE_URL).startswith("memory:") and not reading.value(LISTEN).loopback:
        found.append("QC_STORE_URL is memory://: sessions end with this process, and there can be only one replica")
    return found
