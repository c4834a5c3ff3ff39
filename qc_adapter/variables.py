"""Every variable that `serve` reads: the table from which settings and their documentation are made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from urllib.parse import urlsplit

from qc_adapter.environment import (
    Listen,
    Variable,
    flag,
    listen,
    listen_or_none,
    readable_file,
    seconds,
    seconds_or_none,
    whole_number,
)
from qc_adapter.gateway.settings import GatewaySettings
from qc_adapter.model.inspector import DEFAULT_GATEWAY, GATEWAY_NAME
from qc_adapter.model.session import EventSource, Secret
from qc_adapter.store.opening import parse_store_url
from qc_adapter.store.seal import parse_keys

if TYPE_CHECKING:
    from qc_adapter.telemetry.logs import Level

#: The gateway takes no longer callback address (cec_07_1202), and a gateway's name may stand at its end.
LONGEST_CALLBACK: Final = 200
LONGEST_NAME: Final = 32
#: What logs and metrics call the first gateway, calls about none, and what is not listed.
_TAKEN_NAMES: Final = (DEFAULT_GATEWAY, "none", "other")
_CALLBACK = re.compile(r"https?://[\w.:\[\]-]+(/[\w~-][\w.~-]*)*/?", re.ASCII)
_PIN = re.compile(r"[0-9a-f]{64}")
SHORTEST_AUDIT_KEY: Final = 32
#: What names no file.
AUDIT_STREAMS: Final = ("stderr", "stdout", "off")
_TOKEN = re.compile(r"[0-9A-Za-z]{16,50}", re.ASCII)

OwnSource = Literal[EventSource.POLL, EventSource.PUSH]


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


def _names(text: str) -> tuple[str, ...]:
    names = tuple(one.strip() for one in text.split(",") if one.strip())
    for name in names:
        if not GATEWAY_NAME.fullmatch(name) or name in _TAKEN_NAMES or names.count(name) > 1:
            raise ValueError(
                "must be names of further gateways with commas between, each once: small letters, digits and hyphens, "
                f"a letter first, at most 31 characters, and none of {', '.join(_TAKEN_NAMES)}"
            )
    return names


def _event_source(text: str) -> OwnSource:
    if text.lower() == EventSource.POLL:
        return EventSource.POLL
    if text.lower() == EventSource.PUSH:
        return EventSource.PUSH
    raise ValueError("must be poll or push")


def _push_url(text: str) -> str:
    if text:
        # What needs no escapes: the path of a push is compared with it, and a user's name would go to the gateway.
        if not _CALLBACK.fullmatch(text) or not _has_host_and_port(text):
            raise ValueError("must be an address that gateways can reach, as https://host:8443/events")
        if len(text) > LONGEST_CALLBACK - LONGEST_NAME:
            raise ValueError(f"must be at most {LONGEST_CALLBACK - LONGEST_NAME} characters long")
    return text.rstrip("/")


def _pins(text: str) -> tuple[str, ...]:
    pins = tuple(one.strip().lower().replace(":", "") for one in text.split(",")) if text else ()
    if not all(_PIN.fullmatch(pin) for pin in pins):
        raise ValueError("must be SHA-256 fingerprints of certificates, each of 64 hex digits, with commas between")
    return pins


def _jwks_url(text: str) -> str:
    if text:
        parts = urlsplit(text)
        if parts.scheme not in {"http", "https"} or not _has_host_and_port(text) or parts.username is not None:
            raise ValueError("must be an address without user name, as https://kubernetes.default.svc/openid/v1/jwks")
        if parts.scheme == "http" and not Listen(parts.hostname or "", 0).loopback:
            raise ValueError("must be https: whoever can change the keys on their way can call as anybody")
    return text


def _audit_key(text: str) -> Secret:
    if text and len(text) < SHORTEST_AUDIT_KEY:
        raise ValueError(f"must be at least {SHORTEST_AUDIT_KEY} characters long: qc-adapter seal-key makes one")
    return Secret(text)


def _has_host_and_port(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _audit_log(text: str) -> str:
    if text not in AUDIT_STREAMS and "/" not in text:
        raise ValueError("must be stderr, stdout, off, or a path with a /, as /var/log/qc-adapter/audit.jsonl")
    return text


def _push_token(text: str) -> Secret:
    if text and not _TOKEN.fullmatch(text):
        raise ValueError("must be 16 to 50 letters and digits: gateways take no others")
    return Secret(text)


class GatewayVariables:
    """The variables of one gateway: those of the default one, or the same with a name in them."""

    def __init__(self, name: str = DEFAULT_GATEWAY) -> None:
        self.name = name
        own = name != DEFAULT_GATEWAY
        prefix = f"QC_GATEWAY_{name.upper().replace('-', '_')}_" if own else "QC_GATEWAY_"
        other = prefix if own else "QC_"
        of = f" of {name}" if own else ""
        required = f"required for {name}" if own else "required by serve"
        self.url = Variable(f"{prefix}URL", "", f"the CC-Gateway{of}, as https://host:8043; {required}", _gateway_url)
        self.ca_file = Variable(
            f"{prefix}CA_FILE", "", f"CAs that sign the gateway{of}; else the system's", readable_file
        )
        self.cert_file = Variable(f"{prefix}CERT_FILE", "", f"client certificate for the gateway{of}", readable_file)
        self.key_file = Variable(f"{prefix}KEY_FILE", "", "key of the client certificate", readable_file)
        self.pin = Variable(
            f"{prefix}PIN", "",
            f"SHA-256 of the certificate that the gateway{of} shows, as 64 hex digits, several with commas: then no CA "
            "and no host name counts",
            _pins,
        )  # fmt: skip
        self.agent_id_max = Variable(
            f"{other}AGENT_ID_MAX", "59999", f"highest agent id{of}; 999999 for newer gateways",
            whole_number(101, 999_999),
        )  # fmt: skip
        self.event_source = Variable(
            f"{other}EVENT_SOURCE", "poll", f"how events of sign-ins{of} come: poll or push", _event_source
        )

    def all(self) -> tuple[Variable[Any], ...]:
        """Return them in the order of the documentation."""
        return (self.url, self.ca_file, self.cert_file, self.key_file, self.pin, self.agent_id_max, self.event_source)


GATEWAY: Final = GatewayVariables()
#: How the variables of a further gateway end.
GATEWAY_SUFFIXES: Final = ("URL", "CA_FILE", "CERT_FILE", "KEY_FILE", "PIN", "AGENT_ID_MAX", "EVENT_SOURCE")
GATEWAYS = Variable(
    "QC_GATEWAYS", "",
    "names of further gateways, as north,south; each has its own QC_GATEWAY_NORTH_URL, ..._CA_FILE, ..._CERT_FILE, "
    "..._KEY_FILE, ..._PIN, ..._AGENT_ID_MAX, ..._EVENT_SOURCE",
    _names,
)  # fmt: skip
GATEWAY_TIMEOUT = Variable("QC_GATEWAY_TIMEOUT_SECONDS", "10", "longest wait for the reply to a command", seconds)
STORE_URL = Variable(
    "QC_STORE_URL",
    "memory://",
    "session store: memory://, redis://, rediss:// or redis+sentinel://host:port,host:port/name/db",
    _store_url,
    secret=True,
)
SEAL_KEYS = Variable(
    "QC_SEAL_KEYS", "",
    "keys that seal GUIDs, cookies and kept credentials, with commas between: the first seals, all open; qc-adapter "
    "seal-key makes one",
    parse_keys,
    secret=True,
)  # fmt: skip
LISTEN = Variable("QC_LISTEN", "127.0.0.1:50051", "gRPC", listen)
OPS_LISTEN = Variable("QC_OPS_LISTEN", "127.0.0.1:8080", "HTTP: /metrics, /livez, /readyz", listen)
TLS_CERT_FILE = Variable("QC_TLS_CERT_FILE", "", "certificate of the gRPC server", readable_file)
TLS_KEY_FILE = Variable("QC_TLS_KEY_FILE", "", "key of the gRPC server's certificate", readable_file)
TLS_CLIENT_CA_FILE = Variable("QC_TLS_CLIENT_CA_FILE", "", "CAs that sign callers: mutual TLS", readable_file)
PUSH_LISTEN = Variable("QC_PUSH_LISTEN", "", "HTTP: where gateways push events to; needed for push", listen_or_none)
PUSH_URL = Variable("QC_PUSH_URL", "", "that address as gateways reach it, as https://host:8443/events", _push_url)
PUSH_TOKEN = Variable("QC_PUSH_TOKEN", "", "what gateways show: 16 to 50 letters and digits", _push_token, secret=True)
PUSH_TLS_CERT_FILE = Variable("QC_PUSH_TLS_CERT_FILE", "", "certificate of that port", readable_file)
PUSH_TLS_KEY_FILE = Variable("QC_PUSH_TLS_KEY_FILE", "", "key of that certificate", readable_file)
PUSH_RETRY = Variable("QC_PUSH_RETRY_SECONDS", "10", "after that gateways push again what failed", seconds)
HEARTBEAT = Variable("QC_HEARTBEAT_SECONDS", "30", "between heartbeats of pushed sessions", seconds)
JWT_ISSUER = Variable("QC_JWT_ISSUER", "", "whose tokens callers may show: the iss that has to stand in them", str)
JWT_AUDIENCE = Variable("QC_JWT_AUDIENCE", "", "the aud that has to stand in callers' tokens; needed for tokens", str)
JWT_JWKS_FILE = Variable("QC_JWT_JWKS_FILE", "", "key set (JWKS) that callers' tokens are signed with", readable_file)
JWT_JWKS_URL = Variable("QC_JWT_JWKS_URL", "", "or where that key set is served", _jwks_url)
JWT_JWKS_CA_FILE = Variable("QC_JWT_JWKS_CA_FILE", "", "CAs that sign that server; else the system's", readable_file)
JWT_JWKS_TOKEN_FILE = Variable("QC_JWT_JWKS_TOKEN_FILE", "", "token to show to that server, read anew", readable_file)
POLICY_FILE = Variable("QC_POLICY_FILE", "", "who may call what, as YAML: docs/policy.md", readable_file)
ALLOW_INSECURE = Variable(
    "QC_ALLOW_INSECURE",
    "0",
    "1: let anyone who reaches QC_LISTEN call, or with mutual TLS or tokens anyone known",
    flag,
)
RELOAD = Variable("QC_RELOAD_SECONDS", "5", "between looks whether certificates, keys or the policy changed", seconds)
AUDIT_LOG = Variable(
    "QC_AUDIT_LOG", "stderr", "where audit records go: stderr, stdout, off, or the path of a file that is added to",
    _audit_log,
)  # fmt: skip
AUDIT_KEY = Variable(
    "QC_AUDIT_KEY", "", "key of the chain of audit records: who has it not can forge none", _audit_key, secret=True
)
STORE_PLAIN = Variable(
    "QC_STORE_PLAIN",
    "",
    "1: leave GUIDs and cookies readable in Redis; 0: seal even beside replicas that cannot read it",
    flag,
)
CALLS_MAX = Variable(
    "QC_CALLS_MAX", "10000", "calls at once that are not answered yet: docs/limits.md", whole_number(1, 1_000_000)
)
CALLS_PER_SECOND = Variable(
    "QC_CALLS_PER_SECOND", "0", "calls a second, of all callers together; 0 for no limit", whole_number(0, 1_000_000)
)
STREAMS_PER_INSPECTOR = Variable(
    "QC_STREAMS_PER_INSPECTOR", "1000", "streams open at once for one inspector", whole_number(1, 1_000_000)
)
MESSAGE_BYTES = Variable(
    "QC_MESSAGE_BYTES", "262144", "longest request that is read", whole_number(4096, 4 * 1024 * 1024)
)
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
    *GATEWAY.all(), GATEWAYS, GATEWAY_TIMEOUT, STORE_URL, SEAL_KEYS, LISTEN, OPS_LISTEN, TLS_CERT_FILE, TLS_KEY_FILE,
    TLS_CLIENT_CA_FILE, PUSH_LISTEN, PUSH_URL, PUSH_TOKEN, PUSH_TLS_CERT_FILE, PUSH_TLS_KEY_FILE, PUSH_RETRY, HEARTBEAT,
    JWT_ISSUER, JWT_AUDIENCE, JWT_JWKS_FILE, JWT_JWKS_URL, JWT_JWKS_CA_FILE, JWT_JWKS_TOKEN_FILE, POLICY_FILE,
    ALLOW_INSECURE, RELOAD, AUDIT_LOG, AUDIT_KEY, STORE_PLAIN, CALLS_MAX, CALLS_PER_SECOND, STREAMS_MAX,
    STREAMS_PER_INSPECTOR, MESSAGE_BYTES, POLL_PAUSE, POLL_HOLD, LEASE, CONFIRM_WITHIN, BOOKMARK, DRAIN, GRACE,
    LOG_LEVEL,
)  # fmt: skip
