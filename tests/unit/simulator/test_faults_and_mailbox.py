"""Faults as data, and the mailbox with its held polls."""

import asyncio

import pytest

from qc_adapter.simulator import Fault, ScenarioInvalid, Simulator, SimulatorSettings
from qc_adapter.simulator.controls import Controls
from qc_adapter.simulator.faults import FaultBook, parse_fault
from qc_adapter.simulator.mailbox import Closed, Letter, Mailbox
from qc_adapter.simulator.polls import Polls
from qc_adapter.simulator.requests import GatewayRequest
from qc_adapter.simulator.scenario import parse
from qc_adapter.simulator.wire import WireHandler


def test_fault_hits_what_it_names_and_counts_down():
    """A fault is used for matching requests only, and as often as it says."""
    book = FaultBook(lambda: 0.0)
    book.add(Fault("html", operation="intercept", agent_id="101", times=2))
    assert book.for_request("addSupervise", "101", "292") == ()
    assert book.for_request("intercept", "102", "292") == ()
    assert [len(book.for_request("intercept", "101", "292")) for _ in range(3)] == [1, 1, 0]


def test_modifiers_join_one_ending():
    """A request gets all its modifiers, but only the first fault that ends it."""
    book = FaultBook(lambda: 0.0)
    for action in ("delay", "html", "rotate_now", "empty200"):
        book.add(Fault(action))
    assert [fault.action for fault in book.for_request("login", "101", "")] == ["delay", "html", "rotate_now"]
    assert [fault.action for fault in book.for_request("login", "101", "")] == ["empty200"]


def test_switch_over_lasts_for_its_seconds():
    """A switch-over hits every request until its time is over."""
    now = 0.0
    book = FaultBook(lambda: now)
    book.add(Fault("switch_over", seconds=20.0))
    assert book.for_request("getAgentEvent", "101", "")
    now = 19.9
    assert book.for_request("getAgentEvent", "101", "")
    now = 20.0
    assert not book.for_request("getAgentEvent", "101", "")
    assert book.armed() == []


def test_lost_event_is_counted(floor):
    """A fault that loses an event takes the named one and lets the rest pass."""
    floor.sign_in("101")
    floor.events("101")
    floor.gateway.faults.add(Fault("lose_event", agent_id="101", event_type="AgentEvent_Talking"))
    for event_type in ("AgentState_Busy", "AgentEvent_Talking", "AgentEvent_Talking"):
        floor.gateway.announcer.now("101", event_type)
    assert floor.event_types("101") == ["AgentState_Busy", "AgentEvent_Talking"]
    assert floor.gateway.record.lost_by_fault["101"] == 1


def test_wrong_fault_tells_everything_at_once():
    """A fault that cannot be read is refused with all its problems."""
    fault, found = parse_fault({"match": {"operaton": "x"}, "action": "explode", "times": "1", "nonsense": 1})
    assert fault is None
    assert len(found) == 4
    for wrong in ({"match": {"operation": "intercpt"}}, {"times": 0}):
        assert len(parse_fault({"action": "delay"} | wrong)[1]) == 1


def test_wrong_scenario_tells_everything_at_once():
    """A scenario that cannot be used is refused with all its problems and their places."""
    with pytest.raises(ScenarioInvalid) as refusal:
        parse(
            {
                "agents": [{"agent_id": "x", "inspector": 1}],
                "calls": [{}],
                "faults": [{"action": "explode"}],
                "steps": [{"at_seconds": -1, "do": "rotate"}, {"at_seconds": 1, "do": "dance"}],
                "more": 1,
            }
        )
    text = str(refusal.value)
    assert all(place in text for place in ("agents[0]", "calls[0]", "faults[0]", "steps[0]", "steps[1]", "more"))


def test_scenario_sets_the_scene_and_runs_its_steps(floor):
    """A scenario begins with its agents, calls and faults; steps follow at their times."""
    controls = Controls(floor.gateway)
    parse(
        {
            "agents": [{"agent_id": "101", "inspector": False}],
            "calls": [{"agent_id": 292, "customer": "10086"}],
            "faults": [{"match": {"operation": "intercept"}, "action": "html"}],
            "steps": [
                {"at_seconds": 5, "do": "end_call", "agent_id": "292"},
                {"at_seconds": 6, "do": "fault", "fault": {"action": "delay", "seconds": 1}},
            ],
        }
    ).apply(controls)
    assert not floor.agent("101").inspector
    assert floor.gateway.switchboard.call_of("292").customer == "10086"
    floor.move(5)
    assert floor.agent("292").call_id is None
    floor.move(1)
    assert [fault["action"] for fault in floor.gateway.faults.armed()] == ["html", "delay"]


def test_a_step_that_cannot_be_done_is_told_and_the_others_go_on(floor, caplog):
    """Whether an agent has a call, or a node exists, shows only when the step's time has come."""
    steps = [
        {"at_seconds": 1, "do": "hold_call", "agent_id": "292"},
        {"at_seconds": 1, "do": "fail_node", "node": 7},
        {"at_seconds": 2, "do": "start_call", "agent_id": "292"},
    ]
    parse({"steps": steps}).apply(Controls(floor.gateway))
    floor.move(2)
    assert floor.gateway.switchboard.call_of("292") is not None
    told = [record.getMessage() for record in caplog.records]
    assert ["hold_call" in told[0], "fail_node" in told[1], len(told)] == [True, True, 2]


async def test_event_goes_to_the_newest_poll():
    """Of two polls that are held the newer one gets the event; the older one goes on waiting."""
    mailbox = Mailbox(10, "newest")
    older = asyncio.create_task(mailbox.hold(30, lambda: True))
    await asyncio.sleep(0)
    newer = asyncio.create_task(mailbox.hold(30, lambda: True))
    await asyncio.sleep(0)
    assert mailbox.held_polls() == 2
    mailbox.put(Letter({"n": 1}))
    assert await newer == Letter({"n": 1})
    mailbox.release(Closed("100-006"))
    assert await older == Closed("100-006")


async def test_held_poll_ends_without_an_event():
    """A poll that was held for its time ends with nothing, and events after that are kept."""
    mailbox = Mailbox(10, "newest")
    assert await mailbox.hold(0.01, lambda: True) is None
    mailbox.put(Letter({"n": 1}))
    assert mailbox.take() == Letter({"n": 1})


def test_full_mailbox_drops_the_oldest():
    """A mailbox keeps no more than its limit and counts what it dropped."""
    mailbox = Mailbox(2, "newest")
    for number in range(3):
        mailbox.put(Letter({"n": number}))
    assert [letter.event["n"] for letter in iter(mailbox.take, None)] == [1, 2]
    assert mailbox.overflowed == 1


async def test_letter_that_was_not_carried_can_be_put_back():
    """A letter that is put back is the oldest again."""
    mailbox = Mailbox(10, "newest")
    mailbox.put(Letter({"n": 2}))
    mailbox.put_back(Letter({"n": 1}))
    assert [letter.event["n"] for letter in iter(mailbox.take, None)] == [1, 2]


async def test_poll_for_all_agents_keeps_all_of_them_signed_in(new_floor):
    """S15, S21: where one poll is for all agents it is the sign of life of each."""
    floor = new_floor(event_method="all", poll_hold_seconds=0, auth_mode="static")
    for agent_id in ("101", "102"):
        floor.sign_in(agent_id)
    polls = Polls(floor.gateway)
    ask = GatewayRequest("getAllAgentEvent", "GET", {"agentid": "101"}, {})
    for expected in (4, 0, 0):
        floor.move(100)
        reply = await polls.answer(ask, lambda: True)
        assert len(reply.event or ()) == len(reply.deliveries) == expected
    assert floor.gateway.roster.signed_in_count() == 2


def test_parts_hide_guids():
    """No GUID shows when an agent or a request is printed."""
    simulator = Simulator(SimulatorSettings())
    guid = simulator.sign_in("101")
    request = GatewayRequest("handShake", "POST", {"agentid": "101"}, {}, guid)
    assert guid not in repr(simulator.gateway.roster.agent("101")) + repr(request)
    assert guid not in str(simulator.state()) + str(simulator.record.as_json())
    assert WireHandler(simulator.gateway, None)
