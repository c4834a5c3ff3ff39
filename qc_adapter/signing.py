"""What signs inspectors in, out and in again, put together from the settings and from what replicas share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qc_adapter.model.session import NO_SECRET
from qc_adapter.sessions.event_sources import EventSources
from qc_adapter.sessions.records import Records
from qc_adapter.sessions.recovery import Recovery
from qc_adapter.sessions.recovery_steps import RecoverySteps
from qc_adapter.sessions.service import SessionService
from qc_adapter.sessions.turns import Turns
from qc_adapter.store.seal import Seal

if TYPE_CHECKING:
    from qc_adapter.events.readers import Readers
    from qc_adapter.gateway.gateways import Gateways
    from qc_adapter.sessions.keeper import GuidKeeper
    from qc_adapter.sessions.store import SessionStore
    from qc_adapter.settings import Settings
    from qc_adapter.shared import Shared


@dataclass(frozen=True, slots=True)
class Signing:
    """Sign-ins that callers ask for, and those that are made anew; one at a time for each inspector."""

    sessions: SessionService
    recovery: Recovery


def signing(
    settings: Settings,
    *,
    gateways: Gateways,
    store: SessionStore,
    shared: Shared,
    readers: Readers,
    keeper: GuidKeeper,
) -> Signing:
    """Return both, with turns, seal and event sources in common."""
    turns, sources, seal = Turns(store), _event_sources(settings), _seal(settings, shared)
    sessions = SessionService(
        gateway=gateways, store=store, listeners=readers, turns=turns, keeper=keeper, sources=sources, seal=seal
    )
    steps = RecoverySteps(
        book=shared.recoveries,
        gateway=gateways,
        store=store,
        turns=turns,
        keeper=keeper,
        sources=sources,
        seal=seal,
        notices=readers,
        changes=shared.changes,
        request_seconds=settings.gateways[0].request_timeout_seconds,
    )
    return Signing(sessions, Recovery(shared.recoveries, steps))


def _event_sources(settings: Settings) -> EventSources:
    push, names = settings.push, [gateway.name for gateway in settings.gateways]
    return EventSources(
        {gateway.name: gateway.event_source for gateway in settings.gateways},
        {} if push is None else {name: push.callback_of(name) for name in names},
        NO_SECRET if push is None else push.token,
    )


def records_of(settings: Settings) -> Records:
    """Return how session records are written: sealed where there are keys, unless they are wanted plain."""
    seal = Seal(settings.seal_keys) if settings.seal_keys else None
    return Records(seal, plain=settings.store_plain, at_once=settings.seal_at_once)


def _seal(settings: Settings, shared: Shared) -> Seal | None:
    """Return what credentials are kept with; what ends with the process needs no key of the settings."""
    if not shared.replica:
        return Seal.of_this_process()
    return Seal(settings.seal_keys) if settings.seal_keys else None
