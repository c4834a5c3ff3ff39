"""What a gateway pushes again is told once, whatever it repeats and appends, and however alike its events are."""

from __future__ import annotations

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from qc_adapter.events.hub import Hub
from qc_adapter.events.inlet import MemoryInlet, batch_of, repeated
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.model.session import EventSource, Secret, Session
from qc_adapter.sessions.memory import MemorySessionStore

RETRY_SECONDS = 10.0
# Few kinds, so that equal events follow each other all the time.
kinds = st.sampled_from(["AgentState_Ready", "AgentState_Busy", "AgentEvent_Hold"])
pushes = st.lists(
    st.tuples(
        st.lists(kinds, min_size=1, max_size=4),
        st.integers(0, 3),  # answers that get lost
        st.lists(kinds, max_size=2),  # what is appended to the first repetition
        st.floats(0.0, 4.9),  # until the next one begins
    ),
    max_size=8,
)


class Clock:
    """Time that a test lets go by."""

    now = 1000.0

    def __call__(self):
        return self.now


@settings(deadline=None)
@given(pushes)
def test_every_event_is_told_once_and_in_order(script):
    """Batches come again after a pause until an answer arrives, new ones come at once: nothing is lost or doubled."""
    sent, logged = asyncio.run(pushed(script))
    assert logged == sent


async def pushed(script):
    """Play a gateway; returns what it had to tell and what the log holds."""
    store, hub, clock = MemorySessionStore(), Hub(), Clock()
    await store.put(Session("101", Secret("guid"), EventSource.PUSH))
    inlet = MemoryInlet(store, hub, clock)
    sent = []
    for events, lost, appended, pause in script:
        sent += events
        batch = list(events)
        await take(inlet, batch)
        for attempt in range(lost):
            clock.now += RETRY_SECONDS
            if attempt == 0:
                batch += appended
                sent += appended
            await take(inlet, batch)
        clock.now += pause
    return sent, [entry.item.event_type for entry in hub.feed("101").read(0, 1000)]


@settings(deadline=None)
@given(pushes, st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=4))
def test_a_copy_of_a_stamped_push_may_come_at_any_time(script, copies):
    """Whoever was frozen with a push in its hands brings it late: stamped events are told once all the same."""
    sent, logged = asyncio.run(stamped(script, copies))
    assert logged == sent


async def stamped(script, copies):
    """Push batches, and after some of them a copy of an older one; returns what was told and what the log holds."""
    store, hub, clock = MemorySessionStore(), Hub(), Clock()
    await store.put(Session("101", Secret("guid"), EventSource.PUSH))
    inlet = MemoryInlet(store, hub, clock)
    batches, number = [], 0
    for events, _, _, pause in script:
        batches.append([RawEvent(kind, "101", None, number + place) for place, kind in enumerate(events)])
        number += len(events)
        for raw in [batches[-1], *(batches[old] for when, old in copies if when == len(batches) - 1 >= old)]:
            await inlet.take("101", EventSource.PUSH, batch_of("101", raw, repeats_after_seconds=RETRY_SECONDS / 2))
        clock.now += pause
    sent = [raw.event_type for batch in batches for raw in batch]
    return sent, [entry.item.event_type for entry in hub.feed("101").read(0, 1000)]


async def take(inlet, kinds_of_events):
    raw = [RawEvent(kind, "101", None) for kind in kinds_of_events]
    batch = batch_of("101", raw, repeats_after_seconds=RETRY_SECONDS / 2)
    taken = await inlet.take("101", EventSource.PUSH, batch)
    assert taken.new + taken.repeated == len(raw)


@given(st.lists(st.sampled_from("ab"), max_size=6), st.lists(st.sampled_from("ab"), max_size=6))
def test_a_batch_repeats_the_one_before_as_a_whole_or_not_at_all(before, marks):
    """It begins with all of the one before: then so much is repeated, and nothing otherwise."""
    assert repeated(before, marks) == (len(before) if marks[: len(before)] == before else 0)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_content_can_be_known_again(content):
    """A mark can be made of whatever JSON holds, and is the same for the same event."""
    first, second = (batch_of("101", [RawEvent("X", "101", content)]) for _ in range(2))
    assert first.marks == second.marks
    assert len(json.dumps(first.marks)) < 40
