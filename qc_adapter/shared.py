"""What the replicas of a store have in common: leases, logs, sessions and commands, in Redis or in memory."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from qc_adapter.commands.keeping import Orders
from qc_adapter.commands.ledger import Ledger, MemoryLedger, RedisLedger
from qc_adapter.events.inlet import Inlet, MemoryInlet
from qc_adapter.events.memory_leases import MemoryRota
from qc_adapter.events.memory_recoveries import MemoryRecoveries
from qc_adapter.events.mirror import Mirror
from qc_adapter.events.redis_inlet import RedisInlet
from qc_adapter.events.redis_lease import Book, LeaseTerms
from qc_adapter.events.redis_recoveries import RedisRecoveries
from qc_adapter.events.redis_rota import RedisRota
from qc_adapter.events.session_cache import SessionCache
from qc_adapter.sessions.changes import Teller
from qc_adapter.sessions.monitored import MemoryMonitored, RedisMonitored
from qc_adapter.sessions.recovery_book import KeptOrders, RecoveryBook
from qc_adapter.store.generation import Generation

if TYPE_CHECKING:
    from qc_adapter.commands.keeping import Monitored
    from qc_adapter.commands.receipts import Receipts
    from qc_adapter.commands.sending import Sessions
    from qc_adapter.events.hub import Follows, Hub
    from qc_adapter.events.leases import Rota
    from qc_adapter.events.mirror import Counts
    from qc_adapter.events.readers import Readers
    from qc_adapter.sessions.memory import MemorySessionStore
    from qc_adapter.sessions.records import Records
    from qc_adapter.sessions.recovery import Recovery
    from qc_adapter.sessions.store import SessionStore
    from qc_adapter.store.link import RedisLink


class Recoveries(RecoveryBook, KeptOrders, Orders, Protocol):
    """The book of recoveries, also to look into, and to strike out of."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The parts of a replica that know of other replicas; with a store in memory there is none."""

    rota: Rota
    follows: Follows
    sessions: Sessions
    ledger: Ledger
    inlet: Inlet
    receipts: Receipts
    recoveries: Recoveries
    monitored: Monitored
    #: The name of this replica among the others, empty for the only one.
    replica: str = ""
    mirror: Mirror | None = None
    generation: Generation = field(default_factory=Generation)
    #: Of whoever records what becomes of sessions.
    changes: Teller = field(default_factory=Teller)

    def start(self, readers: Readers, recovery: Recovery) -> None:
        """Begin to hear of other replicas: which leases are free or taken away, and who is to be recovered."""

        def wake() -> None:
            readers.wake()
            recovery.wake()

        if self.mirror is not None:
            self.mirror.tell(revoked=readers.revoked, woken=wake)
            self.mirror.start()

    async def stop(self) -> None:
        """Stop, and wait for what is under way."""
        if self.mirror is not None:
            await self.mirror.stop()


def in_memory(store: MemorySessionStore, hub: Hub) -> Shared:
    """Return the parts of the only replica there is."""
    changes = Teller()
    rota = MemoryRota(store, hub, changes)
    recoveries, monitored = MemoryRecoveries(store, rota), MemoryMonitored(store)
    inlet = MemoryInlet(store, hub)
    return Shared(rota, hub, store, MemoryLedger(), inlet, hub, recoveries, monitored, changes=changes)


def in_redis(
    link: RedisLink, store: SessionStore, hub: Hub, counts: Counts, records: Records, *, lease_seconds: float
) -> Shared:
    """Return the parts of one replica among others; its name is new with each process."""
    replica = secrets.token_hex(6)
    cache = SessionCache(store, lambda agent_id: mirror.listening and hub.find(agent_id) is not None)
    mirror = Mirror(link, hub, counts, replica=replica, session_changed=cache.forget)
    terms = LeaseTerms(replica, lease_seconds, capacity=hub.capacity, retention_seconds=hub.retention_seconds)
    generation = Generation()
    changes = Teller()
    book = Book(link, terms, mirror, generation, records, changes)
    ledger, inlet = RedisLedger(link, replica, generation), RedisInlet(book, hub)
    recoveries, monitored = RedisRecoveries(book), RedisMonitored(link)
    return Shared(
        RedisRota(book),
        mirror,
        cache,
        ledger,
        inlet,
        mirror.receipts,
        recoveries,
        monitored,
        replica,
        mirror,
        generation,
        changes,
    )
