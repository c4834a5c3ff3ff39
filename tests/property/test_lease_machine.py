"""
The lease scripts on a real Redis, against a model of who may read whom.

Replicas poll, store, freeze, die and come back in any order, and a gateway gives each event and each GUID out once.
"""

import asyncio
import time
from dataclasses import dataclass, field
from itertools import accumulate, count, cycle

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from qc_adapter.events.leases import LeaseLost, PollState, SessionGone, Step, Taken
from qc_adapter.events.redis_lease import Book, LeaseTerms
from qc_adapter.events.redis_rota import RedisRota
from qc_adapter.events.stored import from_line
from qc_adapter.events.translate import translate
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.model.session import Renewal, Secret, Session
from qc_adapter.sessions.records import Records
from qc_adapter.sessions.redis import RedisSessionStore
from qc_adapter.store.opening import open_link
from qc_adapter.store.seal import Seal, new_key

AGENTS = ("101", "102")
SEATS = (0, 1, 2)
TAKEOVER = "TAKEOVER"

agents = st.sampled_from(AGENTS)
seats = st.sampled_from(SEATS)
picks = st.integers(0, 5)


def pick(items, which):
    """One of the items."""
    return items[which % len(items)]


class Wire:
    """The way to Redis; it remembers the poll steps that went over it, so that copies can arrive late."""

    def __init__(self, link):
        self._link = link
        self.steps = []

    async def script(self, operation, script, *arguments):
        if operation == "step":
            self.steps.append((operation, script, *arguments))
        return await self._link.script(operation, script, *arguments)

    def begin(self, operation, script, *arguments):
        """Polls that brought nothing go this way."""
        self.steps.append((operation, script, *arguments))
        return self._link.begin(operation, script, *arguments)

    def __getattr__(self, name):
        return getattr(self._link, name)


@dataclass(eq=False)
class Hold:
    """A lease as a replica has it, and the reply to its last poll that is not stored yet."""

    lease: object
    reply: Step | None = None

    @property
    def token(self):
        return int(self.lease.holder.split(":")[1])


class Replica:
    """A process: it may be frozen, and then does nothing until it thaws."""

    def __init__(self, link, name, records):
        self.wire = Wire(link)
        self.store = RedisSessionStore(link, records)
        self.rota = RedisRota(Book(self.wire, LeaseTerms(name, gone_seconds=3600.0), self, records=records))
        self.held = {}
        self.frozen = False

    def adding(self, agent_id, lines, items):
        """Nothing is mirrored here."""

    def added(self, agent_id, epoch, before, items):
        """Nothing is mirrored here."""


@dataclass
class Inspector:
    """What must be so for one inspector."""

    #: The sign-ins: the GUID that the gateway takes, and the one that the record should hold.
    valid: str = ""
    stored: str | None = None
    #: Who holds the lease, and whether the next one who claims it must tell of a gap.
    holder: str | None = None
    risky: bool = False
    last_token: int = 0
    log: list = field(default_factory=list)


class LeaseMachine(RuleBasedStateMachine):
    """Every rule is one thing that one process does, or that happens to it."""

    def __init__(self, server):
        super().__init__()
        self.client = server.client()
        self.client.flushall()
        self.runner = asyncio.Runner()
        self.link = self.go(self._open(server.url))
        keys = [new_key() for _ in range(2)]
        # As in the midst of a rollout: they open all, and each writes in a form of its own.
        self.records = cycle([Records(Seal(keys)), Records(Seal(keys), plain=True), Records(Seal(keys[::-1]))])
        self.names = (f"replica{number}" for number in count())
        self.numbers = count()
        self.guids = (f"guid{number}" for number in count())
        self.replicas = [self._replica() for _ in SEATS]
        self.ghosts = []
        self.inspectors = {agent_id: Inspector() for agent_id in AGENTS}

    def go(self, work):
        return self.runner.run(work)

    async def _open(self, url):
        return open_link(url)

    def _replica(self):
        return Replica(self.link, next(self.names), next(self.records))

    def teardown(self):
        try:
            self.somebody_polls()
        finally:
            self.close()

    def close(self):
        self.go(self.link.close())
        self.runner.close()
        self.client.close()

    # --- sessions

    @initialize()
    def begin(self):
        for agent_id in AGENTS:
            self.sign_in(agent_id, 0)
        for seat in SEATS:
            self.beat(seat)

    @rule(agent_id=agents, seat=seats)
    def sign_in(self, agent_id, seat):
        """A replica signs in, perhaps anew: the older sign-in's reader loses the lease."""
        inspector, replica = self.inspectors[agent_id], self.replicas[seat]
        inspector.valid = inspector.stored = next(self.guids)
        replaced = self.go(replica.store.put(Session(agent_id, Secret(inspector.valid))))
        self.go(replica.rota.enlist(agent_id, Taken.REPLACED if replaced else Taken.NOT))
        if replaced and inspector.holder is not None:
            inspector.holder, inspector.risky = None, True

    @rule(agent_id=agents)
    def sign_in_elsewhere(self, agent_id):
        """Another system writes a record; the reader goes on with it."""
        inspector = self.inspectors[agent_id]
        inspector.valid = inspector.stored = next(self.guids)
        self.client.hset(f"qc:session:{agent_id}", mapping={"agent_id": agent_id, "guid": inspector.valid})

    @rule(agent_id=agents, seat=seats)
    def sign_out(self, agent_id, seat):
        inspector, replica = self.inspectors[agent_id], self.replicas[seat]
        self.go(replica.rota.leaving(agent_id))
        self.go(replica.store.remove(agent_id))
        inspector.stored, inspector.valid = None, ""
        self.go(replica.rota.retire(agent_id))
        self._off_the_books(agent_id)

    @rule(agent_id=agents)
    def sign_out_elsewhere(self, agent_id):
        """Another system removes the record; nobody is told."""
        self.client.delete(f"qc:session:{agent_id}")
        self.inspectors[agent_id].stored, self.inspectors[agent_id].valid = None, ""

    @rule(agent_id=agents, seat=seats, told=st.sampled_from(["enlist", "retire", "scan", "scan"]))
    def look(self, agent_id, seat, told):
        """A replica looks at the records, or is told late of a session that came or went."""
        replica, inspector = self.replicas[seat], self.inspectors[agent_id]
        if told == "scan":
            self.go(replica.rota.scan())
        elif told == "enlist":
            self.go(replica.rota.enlist(agent_id))
        else:
            self.go(replica.rota.retire(agent_id))
            if inspector.stored is None:
                self._off_the_books(agent_id)
        self._notice_who_is_off()

    def _off_the_books(self, agent_id):
        self.inspectors[agent_id].holder, self.inspectors[agent_id].risky = None, False

    # --- leases

    @rule(
        seat=seats, claiming=st.sampled_from([True, True, True, False]), lost=st.sampled_from(["", "", "once", "long"])
    )
    def beat(self, seat, claiming=True, lost=""):
        """A replica beats; when the reply is lost it beats again with the same number, perhaps much later."""
        replica = self.replicas[seat]
        if replica.frozen:
            return
        beat = self._beat(replica, claiming)
        if lost:
            first, beat = beat, self._beat_again(replica, beat, claiming, lost)
            if lost == "once":
                assert [one.lease.holder for one in beat.claims] == [one.lease.holder for one in first.claims]
        for agent_id in beat.lost:
            assert self.inspectors[agent_id].holder != replica.held.pop(agent_id).lease.holder
        for claim in beat.claims:
            self._won(replica, claim, again=bool(lost))
        self._notice_who_is_off()

    def _beat(self, replica, claiming):
        return self.go(replica.rota.beat([hold.lease for hold in replica.held.values()], claiming=claiming))

    def _beat_again(self, replica, beat, claiming, lost):
        for claim in beat.claims:
            self._won(replica, claim)
            del replica.held[claim.lease.agent_id]  # nobody there heard of it
        if lost == "long":
            self.client.delete(f"qc:claims:{replica.rota._terms.replica}")
            for claim in beat.claims:
                self._expire(claim.lease.agent_id)
        replica.rota._number -= 1
        again = self._beat(replica, claiming)
        told = {claim.lease.holder for claim in again.claims}
        for claim in beat.claims:
            score = self.client.zscore("qc:leases", claim.lease.agent_id)
            assert claim.lease.holder in told or score is None or score < time.time() * 1000
        return again

    def _won(self, replica, claim, *, again=False):
        agent_id, hold = claim.lease.agent_id, Hold(claim.lease)
        inspector = self.inspectors[agent_id]
        replica.held[agent_id] = hold
        if again and hold.lease.holder == inspector.holder:
            return
        assert claim.forced == inspector.risky
        assert hold.token > inspector.last_token
        inspector.last_token = hold.token
        inspector.holder, inspector.risky = hold.lease.holder, True  # until it is handed back
        if claim.forced:
            inspector.log.append(TAKEOVER)

    def _notice_who_is_off(self):
        for agent_id in AGENTS:
            if self.inspectors[agent_id].stored is None and self.client.zscore("qc:leases", agent_id) is None:
                self._off_the_books(agent_id)

    def _holds(self, *, replied):
        """What replicas that are not frozen hold, with or without a reply in hand."""
        return [
            (replica, hold)
            for replica in self.replicas
            if not replica.frozen
            for _, hold in sorted(replica.held.items())
            if (hold.reply is not None) == replied
        ]

    @precondition(lambda self: self._holds(replied=False))
    @rule(which=picks, lost=st.booleans())
    def release(self, which, lost):
        replica, hold = pick(self._holds(replied=False), which)
        self._give_back(replica, hold, hold.lease.release, lost, risky=False)

    @precondition(lambda self: any(replica.held for replica in self.replicas))
    @rule(which=picks, replied=st.booleans(), lost=st.booleans())
    def abandon(self, which, replied, lost):
        if holds := self._holds(replied=replied):
            replica, hold = pick(holds, which)
            self._give_back(replica, hold, hold.lease.abandon, lost, risky=True)

    def _give_back(self, replica, hold, give_back, lost, *, risky):
        for _ in range(1 + lost):
            self.go(give_back())
        del replica.held[hold.lease.agent_id]
        inspector = self.inspectors[hold.lease.agent_id]
        if inspector.holder == hold.lease.holder:
            inspector.holder, inspector.risky = None, risky

    @precondition(lambda self: self._holds(replied=False))
    @rule(which=picks)
    def end(self, which):
        """The gateway ended the session: nobody polls until the record changes, unless there is a newer GUID."""
        replica, hold = pick(self._holds(replied=False), which)
        inspector = self.inspectors[hold.lease.agent_id]
        used = self.go(hold.lease.session(0.0))
        newer = inspector.stored not in {None, used.guid.reveal()}
        holds = inspector.holder == hold.lease.holder
        try:
            told = self.go(hold.lease.end(used, "100-006", ""))
        except SessionGone:  # somebody else's by now, or nobody's
            assert not holds
        else:
            assert (told is None) is (holds and newer)
        if not (holds and newer):
            del replica.held[hold.lease.agent_id]
        if holds and not newer:
            inspector.holder, inspector.risky = None, False

    @rule(agent_id=agents)
    def expire(self, agent_id):
        """Time goes by: the lease runs out."""
        if self.inspectors[agent_id].holder is not None:
            self._expire(agent_id)

    def _expire(self, agent_id):
        self.client.zadd("qc:leases", {agent_id: int(time.time() * 1000) - 1000}, xx=True)

    @rule(seat=seats, mishap=st.sampled_from(["silent", "frozen", "killed"]))
    def fail(self, seat, mishap):
        """All count as gone until they beat; one does nothing until it thaws; one dies, another takes its seat."""
        replica = self.replicas[seat]
        if mishap == "silent":
            self.client.delete("qc:replicas")
        elif mishap == "frozen":
            replica.frozen = True
        else:
            self.replicas[seat] = self._replica()
            # What it sent last may arrive later.
            self.ghosts += [(replica, hold) for hold in replica.held.values() if hold.reply is not None]

    @precondition(lambda self: any(replica.frozen for replica in self.replicas))
    @rule()
    def thaw(self):
        for replica in self.replicas:
            replica.frozen = False

    # --- polls

    @precondition(lambda self: self._holds(replied=False))
    @rule(which=picks, events=st.integers(0, 3), renews=st.booleans(), stores=st.sampled_from(["", "once", "twice"]))
    def poll(self, which, events, renews, stores):
        """Poll the gateway: it knows one GUID, and gives out each event once."""
        replica, hold = pick(self._holds(replied=False), which)
        agent_id = hold.lease.agent_id
        inspector = self.inspectors[agent_id]
        session = self.go(hold.lease.session(0.0))
        if session.guid.reveal() != inspector.valid:
            hold.reply = Step(session, None, (), PollState.DEGRADED)
        else:
            inspector.valid = next(self.guids) if renews else inspector.valid
            renewal = Renewal(Secret(inspector.valid)) if renews else None
            items = tuple(self._event(agent_id) for _ in range(events))
            hold.reply = Step(session, renewal, items, PollState.ACTIVE)
        if stores:
            self._store(replica, hold, 2 if stores == "twice" else 1)

    @precondition(lambda self: self._holds(replied=False))
    @rule(which=picks, times=st.integers(1, 3))
    def poll_for_nothing(self, which, times):
        """Nine of ten polls bring nothing: the third of them in a row is stored together with others'."""
        for _ in range(times):
            if holds := self._holds(replied=False):
                replica, hold = pick(holds, which)
                session = self.go(hold.lease.session(0.0))
                hold.reply = Step(session, None, (), PollState.ACTIVE)
                self._store(replica, hold, 1)

    def _event(self, agent_id):
        return translate(RawEvent(f"Event{next(self.numbers)}", agent_id, None), 0.0)

    @precondition(lambda self: self._holds(replied=True))
    @rule(which=picks, times=st.integers(1, 2))
    def store(self, which, times):
        """Store what a poll brought, some time after it; again if the reply was lost."""
        self._store(*pick(self._holds(replied=True), which), times)

    def _store(self, replica, hold, times):
        if not self._keep(hold, times):
            del replica.held[hold.lease.agent_id]
        hold.reply = None

    @precondition(lambda self: self.ghosts)
    @rule(which=picks)
    def store_from_the_grave(self, which):
        """The last words of a process that was killed arrive."""
        _, hold = pick(self.ghosts, which)
        self.ghosts = [(dead, one) for dead, one in self.ghosts if one is not hold]
        self._keep(hold, times=1)

    def _keep(self, hold, times):
        """Store a step; returns whether the lease is still there."""
        step, agent_id = hold.reply, hold.lease.agent_id
        inspector = self.inspectors[agent_id]
        holds = inspector.holder == hold.lease.holder
        there = inspector.stored is not None
        if there and step.renewal is not None and inspector.stored == step.used.guid.reveal():
            inspector.stored = step.renewal.guid.reveal()
        if holds:
            assert hold.token == inspector.last_token
            inspector.log += [item.event_type for item in step.items]
            if not there:
                self._off_the_books(agent_id)
        for attempt in range(times):
            if holds and (there or attempt == 0):
                session = self.go(hold.lease.keep(step))
                assert (None if session is None else session.guid.reveal()) == inspector.stored
            else:
                with pytest.raises(LeaseLost):
                    self.go(hold.lease.keep(step))
        return holds and there

    @precondition(lambda self: any(replica.wire.steps for replica in self.replicas))
    @rule(seat=seats, back=st.integers(1, 5))
    def copy_arrives(self, seat, back):
        """A copy of a step that was given up arrives, at once or long after."""
        steps = self.replicas[seat].wire.steps
        if steps:
            self.go(self.link.script(*steps[-min(back, len(steps))]))
            self._notice_who_is_off()  # it finds out what a poll of its own would

    # --- what must be so

    @invariant()
    def logs_agree(self):
        """Accepted events and gaps stand there once, in order; a takeover skips what the one before may have told."""
        for agent_id, inspector in self.inspectors.items():
            entries = self.client.xrange(f"qc:events:{agent_id}")
            items = [from_line(fields[b"e"]) for _, fields in entries]
            assert [getattr(item, "event_type", item) for item in items] == inspector.log
            steps = [LeaseTerms("").capacity + 1 if item == TAKEOVER else 1 for item in inspector.log]
            assert [name for name, _ in entries] == [f"{position}-0".encode() for position in accumulate(steps)]

    @invariant()
    def records_agree(self):
        """The record holds the newest GUID that was told of."""
        for agent_id, inspector in self.inspectors.items():
            stored = self.client.hgetall(f"qc:session:{agent_id}")
            read = next(self.records).read(agent_id, [part for pair in stored.items() for part in pair])
            assert (None if read is None else read.guid.reveal()) == inspector.stored

    @invariant()
    def holders_agree(self):
        """One holder at most, and it is the one who was told so last."""
        for agent_id, inspector in self.inspectors.items():
            holder = self.client.hget("qc:holders", agent_id)
            assert (None if holder is None else holder.decode()) == inspector.holder

    def somebody_polls(self):
        """Whatever happened: a single replica that is left has every lease, once the others' have run out."""
        for seat in SEATS:
            self.fail(seat, "killed")
        self.client.delete("qc:replicas", "qc:respite", "qc:scanner")
        self.look(AGENTS[0], 0, "scan")
        for agent_id in AGENTS:
            self.expire(agent_id)
        self.beat(0)
        parked = {one for one in AGENTS if self.client.zscore("qc:leases", one) == float("inf")}
        polled = {one for one in AGENTS if self.inspectors[one].stored is not None} - parked
        assert set(self.replicas[0].held) == polled


def test_leases_logs_and_guids_agree_with_the_model(redis_server):
    """Whatever replicas do: one reader, no event twice or of a reader that is out, no hidden gap, the newest GUID."""
    run_state_machine_as_test(
        lambda: LeaseMachine(redis_server),
        settings=settings(
            max_examples=120, stateful_step_count=50, deadline=None, derandomize=True, database=None, print_blob=False
        ),
    )
