"""The closed sets that label values come from: whatever callers and gateways send, the series stay the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

OTHER = "other"
# The retcode of a request that brought no readable one.
NO_RETCODE = "none"
# The gateway of a call that is about no inspector.
NO_GATEWAY = "none"
# The caller of a call whose caller has no name in a policy.
NO_CALLER = "none"

GRPC_CODES = frozenset({
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class LabelSets:
    """The closed sets that label values come from; what is in none of them is counted as `other`."""

    gateways: frozenset[str]
    methods: frozenset[str]
    retcodes: frozenset[str]
    event_types: frozenset[str]
    #: Those of the methods that are commands.
    commands: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset({"QualityControl", "InspectorSessions", "InspectorEvents"})
    outcomes: frozenset[str] = frozenset(
        {"confirmed", "unconfirmed", "accepted", "refused", "unavailable", "not_sent", "unknown"}
    )
    push_outcomes: frozenset[str] = frozenset(
        {"taken", "repeated", "refused", "unreadable", "unknown", "store_unavailable"}
    )
    certificate_uses: frozenset[str] = frozenset({"server", "client_ca", "push", "gateway_ca", "gateway_client"})
    refusals: frozenset[str] = frozenset(
        {"unknown", "not_allowed", "calls", "calls_per_second", "streams", "streams_per_inspector", "message_bytes",
         "commands_per_inspector"}
    )  # fmt: skip
    reloaded: frozenset[str] = frozenset({"server", "push", "gateway", "policy", "jwks"})
    reload_outcomes: frozenset[str] = frozenset({"loaded", "refused"})
    audit_outcomes: frozenset[str] = frozenset({"written", "failed"})
    session_states: frozenset[str] = frozenset(
        {"starting", "degraded", "recovering", "lost",
         "unknown", "idle", "seized", "listening", "inserted", "whispering", "intercepted", "signed_out", "away"}
    )  # fmt: skip
    gap_reasons: frozenset[str] = frozenset({"poll_reply_lost", "cursor_expired", "takeover", "log_lost"})
    lease_reasons: frozenset[str] = frozenset(
        {"won", "taken_over", "released", "revoked", "fenced", "session_gone", "session_lost", "parked"}
    )
    store_operations: frozenset[str] = frozenset(
        {"get", "list", "put", "renew", "remove", "begin", "ping",
         "step", "append", "beat", "extend", "release", "park", "restore",
         "enlist", "retire", "scan", "status", "read", "check", "command", "receipt",
         "recover", "monitored"}
    )  # fmt: skip


def label_sets(
    gateways: Iterable[str],
    methods: Iterable[str],
    retcodes: Iterable[str],
    event_types: Iterable[str],
    commands: Iterable[str] = (),
) -> LabelSets:
    """Return the sets, with the defaults for those that belong to this project."""
    return LabelSets(*map(frozenset, (gateways, methods, retcodes, event_types, commands)))
