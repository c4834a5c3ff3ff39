"""
What sealed session records cost: CPU of the adapter's side, plain and sealed in turn, against a real Redis.

    python -m bench.sealing [--rounds 20] [--batch 200]
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.redis_server import RedisServer
from qc_adapter.events.leases import PollState, Step
from qc_adapter.events.redis_lease import Book, LeaseTerms
from qc_adapter.events.redis_rota import RedisRota
from qc_adapter.model.session import Renewal, Secret, Session
from qc_adapter.sessions.records import Records
from qc_adapter.sessions.redis import RedisSessionStore
from qc_adapter.store.opening import open_link
from qc_adapter.store.seal import Seal, new_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from qc_adapter.events.model import Item
    from qc_adapter.store.link import RedisLink


class Nobody:
    """Is told what was added to logs, and does nothing."""

    def adding(self, agent_id: str, lines: Sequence[bytes], items: Sequence[Item]) -> None:
        """Do nothing."""

    def added(self, agent_id: str, epoch: str, before: int, items: Sequence[Item]) -> None:
        """Do nothing."""


def _guid() -> Secret:
    return Secret(f"{secrets.token_hex(24)}.AgentGateway0")


async def _work(link: RedisLink, agent_id: str, records: Records) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return what is measured, for one inspector whose records are written so."""
    store = RedisSessionStore(link, records)
    rota = RedisRota(Book(link, LeaseTerms(f"replica{agent_id}", gone_seconds=600.0), Nobody(), records=records))
    used = Session(agent_id, _guid(), cookies=Secret("route=a1b2c3d4"))
    await store.put(used)
    await rota.enlist(agent_id)
    leases = {claim.lease.agent_id: claim.lease for claim in (await rota.beat([], claiming=True)).claims}
    lease, now = leases[agent_id], [used]

    async def poll() -> None:
        session = await lease.session(0.0) or used
        await lease.keep(Step(session, None, (), PollState.ACTIVE))

    async def renew() -> None:
        session = await lease.session(0.0) or used
        now[0] = await lease.keep(Step(session, Renewal(_guid()), (), PollState.ACTIVE)) or used

    async def read() -> None:
        await store.get(agent_id)

    return {"poll step": poll, "poll step with a new GUID": renew, "session read for a command": read}


async def _spent(work: Callable[[], Awaitable[object]], batch: int) -> float:
    before = time.process_time()
    for _ in range(batch):
        await work()
    return (time.process_time() - before) / batch * 1e6


async def measure(url: str, rounds: int, batch: int) -> None:
    """Print the microseconds of both, and their ratio round by round."""
    link = open_link(url)
    assert link is not None
    plain = await _work(link, "101", Records())
    sealed = await _work(link, "102", Records(Seal([new_key(), new_key()])))
    try:
        print(f"| {'what':<28} | plain us | sealed us | ratio |")
        for what in plain:
            pairs = []
            for number in range(rounds + 1):
                order = (plain, sealed) if number % 2 else (sealed, plain)
                spent = {id(one): await _spent(one[what], batch) for one in order}
                pairs.append((spent[id(plain)], spent[id(sealed)]))
            pairs = pairs[1:]  # the first one warms up
            ratio = statistics.median(mine / theirs for theirs, mine in pairs)
            low, high = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"| {what:<28} | {low:8.0f} | {high:9.0f} | {ratio:5.2f} |")
    finally:
        await link.close()


def main() -> None:
    """Run against a Redis of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=200)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qc-redis-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            asyncio.run(measure(server.url, chosen.rounds, chosen.batch))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
