"""Every replica says the same of what an inspector does: events come in on one, receipts on another."""

from __future__ import annotations

import time

import pytest

from qc_adapter.events.activity import InspectorState
from qc_adapter.events.inlet import batch_of
from qc_adapter.events.inspection import Acceptance, Act, Mode
from qc_adapter.events.leases import PollState, Taken
from qc_adapter.events.redis_inlet import RedisInlet
from qc_adapter.events.redis_lease import Book
from qc_adapter.events.standing import NOTHING_HEARD
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.model.session import EventSource

IDLE, CONNECTED, FREED = (
    ("AgentOther_InService", "AgentState_Ready"),
    ("AgentState_Busy", "AgentOther_PhoneOffhook"),
    ("AgentOther_PhoneRelease", "AgentState_Ready"),
)


def receipt(before=NOTHING_HEARD, act=Act.BEGIN, mode=Mode.LISTENING, work_no="292"):
    """What the gateway accepted just now."""
    now = time.time()
    return Acceptance(act, work_no, before, now, now, mode)


@pytest.fixture
async def pair(shelf, replica, take):
    """A replica that polls for inspector 101, and another one; both hear of each other and follow the log."""
    shelf.sign_in()
    made = replica("one"), replica("two")
    made[0].lease = await made[0].win()
    for one in made:
        one.mirror.start()
        await take.until(lambda one=one: one.mirror.listening)
        one.feed = await one.mirror.follow("101")
    return made


async def says(one, state, work_no=""):
    """Whether the store says so to that replica; and so does its feed."""
    found = (await one.rota.statuses(["101"]))["101"].activity
    return (found.state, found.work_no) == (state, work_no) == (one.feed.activity.state, one.feed.activity.work_no)


async def agree(take, replicas, state, work_no=""):
    """Wait until all replicas say so."""
    ends = time.monotonic() + 10
    for one in replicas:
        while not await says(one, state, work_no):
            assert time.monotonic() < ends, (one.feed.standing, one.feed.inspection)


async def test_a_receipt_of_one_replica_and_events_of_another_add_up(pair, take):
    """Whichever comes first, and wherever: both replicas, the store, and the lease of the one that polls agree."""
    one, two = pair
    await one.lease.keep(take.step(*IDLE))
    await agree(take, pair, InspectorState.IDLE)
    two.mirror.receipts.note("101", receipt(two.feed.standing))
    await one.lease.keep(take.step(*CONNECTED))
    await agree(take, pair, InspectorState.LISTENING, "292")
    one.mirror.receipts.note("101", receipt(one.feed.standing, Act.TOGGLE, None))
    await agree(take, pair, InspectorState.INSERTED, "292")
    await one.lease.keep(take.step())
    assert one.lease.activity == two.feed.activity
    before = two.feed.standing
    await one.lease.keep(take.step(*FREED, *CONNECTED))
    await agree(take, pair, InspectorState.UNKNOWN)
    two.mirror.receipts.note("101", receipt(before, mode=Mode.WHISPERING, work_no="293"))
    await agree(take, pair, InspectorState.WHISPERING, "293")


async def test_receipts_of_two_replicas_are_put_one_behind_the_other(pair, take):
    """A replica that did not hear of an older receipt puts its own behind it, and not in its place."""
    one, two = pair
    await one.lease.keep(take.step(*IDLE, *CONNECTED))
    await take.until(lambda: two.feed.standing.turn == 1)
    before = one.feed.standing
    one.mirror.receipts.note("101", receipt(NOTHING_HEARD))
    two.mirror.receipts.note("101", receipt(before, Act.SWITCH, Mode.WHISPERING))
    await agree(take, pair, InspectorState.WHISPERING, "292")


async def test_receipts_at_once_are_written_together_and_in_order(pair, shelf, take):
    """What another replica wrote meanwhile holds up none of them: each is put behind what stands at its inspector."""
    one, two = pair
    await one.lease.keep(take.step(*IDLE, *CONNECTED))
    await take.until(lambda: two.feed.standing.turn == 1)
    shelf.client.hset("qc:log:102", mapping={"epoch": "e", "n": 0})
    one.mirror.receipts.note("101", receipt(work_no="291"))
    await take.until(lambda: b"291" in (shelf.client.hget("qc:log:101", "receipt") or b""))
    two.feed.inspection = None  # as if it had not heard of it
    two.mirror.receipts.note("101", receipt())
    two.mirror.receipts.note("102", receipt())
    two.mirror.receipts.note("101", receipt(one.feed.standing, Act.SWITCH, Mode.WHISPERING))
    await agree(take, pair, InspectorState.WHISPERING, "292")
    await take.until(lambda: b"listening" in (shelf.client.hget("qc:log:102", "receipt") or b""))


async def test_a_new_sign_in_begins_anew(pair, shelf, replica, take):
    """After a replaced, lost or removed sign-in nothing is left of its inspection, here or elsewhere."""
    one, two = pair
    two.mirror.receipts.note("101", receipt())
    await one.lease.keep(take.step(*CONNECTED))
    await agree(take, pair, InspectorState.LISTENING, "292")
    await two.rota.enlist("101", Taken.REPLACED)
    await take.until(lambda: two.feed.activity.state is InspectorState.UNKNOWN and two.feed.inspection is None)
    lease = (await two.beat())["101"].lease
    assert lease.activity.state is InspectorState.UNKNOWN
    await lease.keep(take.step(*IDLE))
    await agree(take, pair, InspectorState.IDLE)
    await lease.end(take.step().used, "100-006", "gone")
    await take.until(lambda: one.feed.ended is not None)
    assert not {"standing", "receipt", "talking"} & shelf.head().keys()
    late = replica("three")
    await late.run("RECEIPT", "101", "", '["292",1,1,"listening",1.0,0.0]')
    assert "receipt" not in shelf.head()


async def test_a_replica_that_takes_over_knows_it_all(pair, shelf, take):
    """A takeover keeps the state, in doubt; so does a log that Redis lost, as far as its reader knows it."""
    one, two = pair
    two.mirror.receipts.note("101", receipt())
    await one.lease.keep(take.step(*CONNECTED))
    await agree(take, pair, InspectorState.LISTENING, "292")
    shelf.expire("101")
    lease = (await two.beat())["101"].lease
    assert (lease.activity.state, lease.activity.work_no) == (InspectorState.LISTENING, "292")
    assert lease.activity.doubtful
    await lease.keep(take.step())
    assert (await one.rota.statuses(["101"]))["101"].activity == lease.activity
    shelf.client.hdel("qc:log:101", "standing", "talking")
    await lease.keep(take.step())
    assert (await one.rota.statuses(["101"]))["101"].activity.state is InspectorState.LISTENING


async def test_what_is_pushed_adds_up_too(replica, shelf, take):
    """Events that are pushed to any replica are added up in the log, and a heartbeat of another one leaves them so."""
    shelf.sign_in(event_source="push")
    one, two = replica("one"), replica("two")
    lease = await one.win()
    inlet = RedisInlet(Book(two.link, two.terms, two.mirror), two.hub)
    await inlet.take("101", EventSource.PUSH, batch_of("101", [RawEvent(name, "101", None) for name in IDLE]))
    await lease.keep(take.step())
    assert lease.activity.state is InspectorState.IDLE
    await inlet.take("101", EventSource.PUSH, batch_of("101", [RawEvent(CONNECTED[0], "101", None)]))
    await lease.keep(take.step())
    assert lease.activity.state is InspectorState.SEIZED
    assert (await two.rota.statuses(["101"]))["101"].activity == lease.activity


async def test_followers_hear_how_the_session_is(pair, take):
    """A change of the session's state reaches every feed; what a reader that takes over begins with is none."""
    one, two = pair
    await one.lease.keep(take.step())
    await take.until(lambda: two.feed.state is PollState.ACTIVE)
    await one.lease.keep(take.step(state=PollState.DEGRADED, detail="switching over"))
    await take.until(lambda: two.feed.state is PollState.DEGRADED)
    assert (two.feed.detail, one.feed.state) == ("switching over", PollState.DEGRADED)
    await one.lease.release()
    await one.beat()
    await one.mirror.follow("101", fresh=True)
    assert one.feed.state is PollState.DEGRADED
