"""The way of one agent's events to his callback, on an injected clock and with a carrier of the test."""

import json

import pytest

from qc_adapter.simulator import Fault, SimulatorSettings
from qc_adapter.simulator.faults import parse_fault
from qc_adapter.simulator.requests import GatewayRequest

SIGN_IN = b'{"password":"","callBackUri":"https://localhost/push","serviceToken":"t-1"}'


@pytest.fixture
def pushing(new_floor):
    """Makes a floor on which inspector 101 gets pushes; they are collected in `floor.parcels`."""

    def make(**choices):
        floor = new_floor(**choices)
        floor.parcels = []
        floor.gateway.pushing.carry = floor.parcels.append
        assert floor.do("login", "101", body=SIGN_IN) == "0"
        floor.gateway.pushing.release(floor.agent("101"))
        floor.back = lambda accepted: floor.gateway.pushing.came_back(floor.parcels[-1], accepted=accepted)
        floor.say = lambda *names: [floor.gateway.announcer.now("101", name) for name in names]
        return floor

    return make


def types(parcel):
    """Return the event types in a parcel of the new shape."""
    return [event["eventType"] for event in json.loads(parcel.body)["eventList"]]


def test_one_push_at_a_time_and_events_batch_meanwhile(pushing):
    """While a push is under way events wait, and the next push brings all of them, oldest first."""
    floor = pushing()
    assert json.loads(floor.parcels[0].body) == {
        "workNo": "101",
        "eventList": [
            {"eventType": "AgentOther_InService", "workNo": "101", "content": None},
            {"eventType": "AgentState_Ready", "workNo": "101", "content": None},
        ],
    }
    floor.say("A", "B", "C")
    assert len(floor.parcels) == 1
    floor.back(True)
    assert types(floor.parcels[1]) == ["A", "B", "C"]
    floor.back(True)
    assert len(floor.parcels) == 2
    assert floor.gateway.record.pushes_of("101") == {"attempts": 2, "failures": 0, "delivered": 5, "repeated": 0}


def test_old_shape_carries_one_event(pushing):
    """In the older shape each event has a push of its own, with message, retcode and event."""
    floor = pushing(push_shape="old")
    assert floor.parcels[0].body == (
        b'{"message":"","retcode":"0","event":{"eventType":"AgentOther_InService","workNo":"101","content":null}}'
    )
    floor.back(True)
    assert json.loads(floor.parcels[1].body)["event"]["eventType"] == "AgentState_Ready"


def test_work_number_can_stand_at_the_top_only(pushing):
    """Sites whose events leave the work number to the envelope can be played."""
    floor = pushing(push_event_work_no=False)
    assert json.loads(floor.parcels[0].body)["eventList"][0] == {"eventType": "AgentOther_InService", "content": None}


def test_failed_push_comes_again_with_newer_events_behind(pushing):
    """After the pause the same events come first, those that happened meanwhile behind them."""
    floor = pushing()
    floor.back(False)
    floor.say("New")
    floor.move(9)
    assert len(floor.parcels) == 1
    floor.move(1)
    assert types(floor.parcels[1]) == ["AgentOther_InService", "AgentState_Ready", "New"]
    assert floor.gateway.record.pushes_of("101")["repeated"] == 2


def test_failing_time_adds_up_to_the_sign_out(pushing):
    """Two minutes of failing sign the agent out; one success in between begins the count anew."""
    floor = pushing()
    for _ in range(11):
        floor.back(False)
        floor.move(10)
    floor.back(True)
    floor.say("Next")
    for _ in range(12):
        floor.back(False)
        floor.move(10)
    assert floor.agent("101").sign_in is not None
    floor.back(False)
    assert floor.agent("101").sign_in is None
    assert floor.gateway.record.sign_outs[-1].reason == "push_failed"
    floor.move(60)
    assert len(floor.parcels) == 25


def test_forced_out_agent_is_told_by_a_last_push(pushing):
    """Who is signed out by an inspector gets AgentOther_ShutdownService, once; it is not repeated."""
    floor = pushing()
    floor.sign_in("102")
    floor.say("A")
    assert floor.do("forceLogOutAgent", "102", work_no="101") == "0"
    floor.back(True)
    assert types(floor.parcels[1]) == ["A", "AgentOther_ShutdownService"]
    floor.back(False)
    floor.move(60)
    assert len(floor.parcels) == 2


def test_taken_over_sign_in_pushes_nothing_more(pushing):
    """After a forced sign-in the older callback hears nothing, whatever became of its last push."""
    floor = pushing()
    floor.say("Old")
    assert floor.do("forceLogin", "101", body=b'{"password":"x"}') == "0"
    floor.back(True)
    floor.say("New")
    assert len(floor.parcels) == 1
    assert "New" in floor.event_types("101")


def test_only_heartbeats_keep_a_push_agent_alive(pushing):
    """Pushes that succeed and commands do not count: without a heartbeat the agent is signed out."""
    floor = pushing(auth_mode="static")
    guid = floor.agent("101").sign_in.ring.current
    ask = GatewayRequest("handShake", "POST", {"agentid": "101"}, {}, guid)
    command = GatewayRequest("getAgentStatus", "GET", {"agentid": "101"}, {}, guid)
    floor.move(100)
    assert floor.gateway.check(ask) == "0"
    floor.move(100)
    floor.back(True)
    assert floor.gateway.check(command) == "0"
    floor.move(21)
    assert floor.gateway.check(command) == "100-006"
    assert floor.gateway.record.sign_outs[-1].reason == "silence"


def test_heartbeat_renews_the_service_token(pushing):
    """A heartbeat may bring a new token, which the next push carries; one with odd characters is refused."""
    floor = pushing()
    perform = floor.gateway.perform
    assert perform(GatewayRequest("handShake", "POST", {"agentid": "101"}, {}, service_token="t-2")).retcode == "0"
    assert floor.agent("101").sign_in.push.token == "t-2"
    odd = GatewayRequest("handShake", "POST", {"agentid": "101"}, {}, service_token="a b")
    assert perform(odd).retcode == "100-001"
    assert "t-2" not in repr(floor.agent("101").sign_in) + repr(floor.parcels) + repr(floor.gateway.record.as_json())


def test_raw_bodies_and_arrays_are_pushed_as_they_are(pushing):
    """A whole body given by a test travels alone; an array of events is one part of the list."""
    from qc_adapter.simulator.controls import Controls

    floor = pushing()
    controls = Controls(floor.gateway)
    controls.inject("101", [{"eventType": "A"}, {"eventType": "B"}])
    controls.inject_raw("101", b"nonsense")
    floor.say("C")
    floor.back(True)
    assert types(floor.parcels[1]) == ["A", "B"]
    floor.back(True)
    assert floor.parcels[2].body == b"nonsense"
    floor.back(True)
    assert types(floor.parcels[3]) == ["C"]


@pytest.mark.parametrize(
    ("callback", "token", "code"),
    [
        ("https://host/" + "x" * 188, "t", "100-001"),
        ("https://host/" + "x" * 187, "t" * 50, "0"),
        ("https://host/p", "t" * 51, "100-001"),
        ("https://host/p", "a;b", "100-001"),
        ("https://host/<p>", "t", "100-001"),
        ("ftp://host/p", "t", "100-001"),
    ],
    ids=["long-callback", "longest", "long-token", "odd-token", "odd-callback", "no-http"],
)
def test_callback_and_token_have_limits(floor, callback, token, code):
    """A callback over 200 characters, a token over 50, and special characters are refused at the sign-in."""
    body = json.dumps({"password": "", "callBackUri": callback, "serviceToken": token}).encode()
    assert floor.do("login", "101", body=body) == code


def test_one_of_callback_and_token_means_polling(floor):
    """With only one of the two the agent polls."""
    assert floor.do("login", "101", body=b'{"password":"","callBackUri":"https://localhost/push"}') == "0"
    assert floor.agent("101").sign_in.push is None


def test_faults_of_pushes_name_them(pushing):
    """A fault without an operation spares pushes; one for pushes can only delay or lose them."""
    floor = pushing()
    floor.gateway.faults.add(Fault("html"))
    floor.gateway.faults.add(Fault("reset_after", operation="pushEvent", agent_id="101"))
    floor.say("A")
    floor.back(True)
    assert [fault.action for fault in floor.parcels[1].faults] == ["reset_after"]
    assert [fault.action for fault in floor.gateway.faults.for_request("login", "101", "")] == ["html"]
    fault, found = parse_fault({"match": {"operation": "pushEvent"}, "action": "html"})
    assert (fault, len(found)) == (None, 1)


def test_push_settings_must_be_positive():
    """A pause of nothing would be a hot loop."""
    with pytest.raises(ValueError, match="push_retry_seconds must be positive"):
        SimulatorSettings(push_retry_seconds=0)
