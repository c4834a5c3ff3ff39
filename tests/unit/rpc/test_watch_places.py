"""Where a watch begins, and what it is given from there while the log goes on."""

import asyncio

import pytest

from qc_adapter.events.hub import Hub
from qc_adapter.events.inlet import MemoryInlet
from qc_adapter.events.model import AgentEvent
from qc_adapter.model.session import EventSource, Secret, Session
from qc_adapter.rpc.call import Call, enter
from qc_adapter.rpc.inspector_events import InspectorEvents
from qc_adapter.rpc.parse import Parser
from qc_adapter.sessions.memory import MemorySessionStore
from qc_adapter.v1 import events_pb2

CAPACITY = 3


class Context:
    """Stands for gRPC's, of a call without a deadline."""

    @staticmethod
    def time_remaining():
        return None


class Counts:
    """Nothing is asked about what was counted."""

    def event_delivered(self, *_what):
        pass

    event_read = gap = event_delivered


@pytest.fixture
async def hub():
    return Hub(CAPACITY)


@pytest.fixture
async def watch(hub):
    """Opens watches of inspector 101, whose messages are written when the test takes them."""
    store = MemorySessionStore()
    await store.put(Session("101", Secret("guid"), EventSource.NONE))
    events = InspectorEvents(
        Parser({"default": 59999}, 10.0),
        sessions=store,
        follows=hub,
        hub=hub,
        inlet=MemoryInlet(store, hub),
        counts=Counts(),
        bookmark_seconds=30.0,
    )
    opened = []

    def make(**how):
        enter(Call("Watch", "qc_adapter.v1.InspectorEvents", "Watch", streaming=True, peer="", metadata={}))
        opened.append(events.Watch(events_pb2.WatchRequest(agent_id="101", **how), Context()))
        return opened[-1]

    yield make
    for one in opened:
        await one.aclose()


def bring(hub, *numbers):
    """Log events that are told apart by their number."""
    for number in numbers:
        hub.feed("101").append(AgentEvent(f"AgentState_{number}", "101", None, None, 0.0))


async def told(stream, count):
    """The types of the next messages, of events their own."""
    async with asyncio.timeout(5):
        messages = [await anext(stream) for _ in range(count)]
    return [message.event.event_type or message.WhichOneof("update") for message in messages]


@pytest.mark.parametrize("begin", ["oldest", "a cursor"])
async def test_a_full_log_that_goes_on_loses_nothing_to_a_watch_that_just_began(hub, watch, begin):
    """Events that push the oldest out of the log while the first message is written do not make a watch too slow."""
    bring(hub, *range(CAPACITY))
    stream = watch(cursor="oldest" if begin == "oldest" else hub.feed("101").cursor(0))
    assert await told(stream, 1) == ["subscribed"]
    bring(hub, CAPACITY)
    assert await told(stream, CAPACITY + 1) == [f"AgentState_{number}" for number in range(CAPACITY + 1)]


async def test_the_first_cursor_of_a_watch_leads_to_its_first_event(hub, watch):
    """The cursor of `subscribed` stands before all that follows, and a watch from there is given the same."""
    bring(hub, 0, 1)
    first = await anext(watch(cursor="oldest"))
    assert await told(watch(cursor=first.cursor), 3) == ["subscribed", "AgentState_0", "AgentState_1"]
