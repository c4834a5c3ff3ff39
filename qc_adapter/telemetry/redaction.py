"""What never gets into a log line, whoever logs it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qc_adapter.model.errors import AdapterError
from qc_adapter.model.session import Secret

if TYPE_CHECKING:
    from collections.abc import MutableMapping

HIDDEN = "<hidden>"

# Compared without case, '-' and '_'.
_SECRET_WORDS = (
    "guid", "cookie", "password", "passwd", "secret", "token", "authorization", "jsessionid", "credential",
    "privatekey", "header", "storeurl",
)  # fmt: skip

# The fields of our own lines. They are written by us alone, hold ids, names and numbers, and are not searched.
_OWN_FIELDS = frozenset({
    "event", "level", "timestamp", "logger", "method", "rpc", "grpc_code", "retcode", "agent_id", "work_no",
    "request_id", "gateway", "duration_ms", "peer", "trace_id", "span_id", "call_id", "cursor", "outcome", "state",
    "reason", "caller", "operation", "event_type", "fencing_token", "count", "seconds",
})  # fmt: skip

# The shapes of a GUID (with the gateway's name behind it) and of a token (JWT), a copied header line, and an address
# with a password.
_GUID_SHAPE = re.compile(
    r"(?i:JSESSIONID=)[^\s;,\"']+"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|(?<![0-9A-Fa-f])[0-9A-Fa-f]{48}(?![0-9A-Fa-f])(?:\.\w+)?"
    r"|[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}(?:\.\w+)?",
)
_HEADER_LINE = re.compile(
    r"(?i)\b(set-guid|guid|set-cookie|cookie|authorization|password|service_?token)\b(['\"]?\s*[:=]\s*)"
    r"(?:\"[^\"]*\"|'[^']*'|(?:(?:bearer|basic)\s+)?[^\s,}\])]+)",
)
_URL_USER_INFO = re.compile(r"://[^/@\s]*@")
_PLAIN = frozenset({int, float, bool, type(None)})


def scrub(text: str) -> str:
    """Return a text that others wrote without what looks like a secret."""
    text = _GUID_SHAPE.sub(HIDDEN, text)
    if ":" in text or "=" in text:
        text = _HEADER_LINE.sub(rf"\1\2{HIDDEN}", text)
        text = _URL_USER_INFO.sub(f"://{HIDDEN}@", text)
    return text


def redact(_logger: Any, _name: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop the fields that are named like a secret and clean the values of the others, as a log processor."""
    doubtful = [
        key
        for key, value in line.items()
        if key not in _OWN_FIELDS or not (type(value) is str or type(value) in _PLAIN)
    ]
    for key in doubtful:
        if is_secret_name(key):
            del line[key]
        else:
            line[key] = clean(line[key])
    return line


def is_secret_name(name: str) -> bool:
    """Say whether a field of that name holds a secret."""
    plain = name.lower().replace("-", "").replace("_", "")
    return any(word in plain for word in _SECRET_WORDS)


def clean(value: Any) -> Any:
    """
    Return the value as it may be shown, made of plain JSON types.

    Of an object that is not one of ours only the type is shown: its text is written by a library, and may hold a
    header or the arguments of a command.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, str):
        return scrub(str(value))
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, Mapping):
        return {str(key): clean(one) for key, one in value.items() if not is_secret_name(str(key))}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [clean(one) for one in value]
    if isinstance(value, AdapterError):
        return scrub(f"{type(value).__name__}: {value.message}")
    return f"<{type(value).__name__}>"
