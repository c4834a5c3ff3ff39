"""Puts together what a call passes before its handler sees it: who calls, its limits, its rights, and its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qc_adapter.audit.log import AuditLog
from qc_adapter.audit.output import output_to
from qc_adapter.rpc.audit import CallAudit
from qc_adapter.rpc.callers import KnownCallers
from qc_adapter.rpc.gate import Gate
from qc_adapter.rpc.rights import PolicyRights
from qc_adapter.rpc.room import LimitedRoom, no_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qc_adapter.access.keys_url import ServedKeys
    from qc_adapter.access.tokens import Tokens
    from qc_adapter.rpc.call import CallObserver
    from qc_adapter.rpc.parse import Parser
    from qc_adapter.settings import AuditSettings, Settings
    from qc_adapter.telemetry.metrics import Metrics
    from qc_adapter.watched import WatchedFiles


@dataclass(frozen=True, slots=True)
class Admission:
    """The gate; `keys` are to be started and stopped, `observers` are told of calls behind those that log and count."""

    gate: Gate
    rights: PolicyRights | None
    keys: ServedKeys | None
    observers: Sequence[CallObserver]


def admission(
    settings: Settings, parser: Parser, watched: WatchedFiles, metrics: Metrics, records: CallAudit | None
) -> Admission:
    """
    Build it as the settings have it, and have keys and policy read anew when their files change.

    Raises `OSError`, `Unusable` or `InvalidPolicy` when they cannot be used.
    """
    tokens, keys = _tokens(settings, watched, metrics)
    mutual = settings.tls is not None and settings.tls.client_ca_file is not None
    callers = KnownCallers(tokens, metrics, certificates=mutual)
    rights = _rights(settings, parser, watched, metrics)
    room = LimitedRoom(settings.limits, no_limits if rights is None else rights.limits_of)
    observers = [one for one in (rights, records) if one is not None]
    return Admission(Gate(callers, room, rights, records), rights, keys, observers)


def records_of_calls(settings: AuditSettings, metrics: Metrics, replica: str, version: str) -> CallAudit | None:
    """Return what keeps records, of sessions as well; None if there are to be none."""
    if settings.log == "off":
        return None
    return CallAudit(AuditLog(output_to(settings.log), settings.key, metrics, replica=replica, version=version))


def _tokens(settings: Settings, watched: WatchedFiles, metrics: Metrics) -> tuple[Tokens | None, ServedKeys | None]:
    if settings.tokens is None:
        return None, None
    from qc_adapter.access.opening import open_tokens  # noqa: PLC0415 - without tokens nobody needs it

    return open_tokens(settings.tokens, watched, metrics)


def _rights(settings: Settings, parser: Parser, watched: WatchedFiles, metrics: Metrics) -> PolicyRights | None:
    """Return what judges calls by the policy; None without one."""
    path = settings.policy_file
    if path is None:
        return None
    from qc_adapter.access.policy_file import read_policy  # noqa: PLC0415 - over 1 MiB with what reads YAML

    gateways = [gateway.name for gateway in settings.gateways]
    watched.add("policy", [path], lambda: rights.take(read_policy(path, gateways)))
    rights = PolicyRights(read_policy(path, gateways), parser, metrics)
    return rights
