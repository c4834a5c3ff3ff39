"""Monitoring: who is told what of whose state, on an injected clock."""

import pytest


@pytest.fixture
def watched(new_floor):
    """Makes a floor on which inspectors 101 and 102 monitor agent 292, who is signed in."""

    def make(**choices):
        floor = new_floor(event_delay_seconds=0, **choices)
        for agent_id in ("101", "102", "292"):
            floor.sign_in(agent_id)
        for inspector in ("101", "102"):
            assert floor.do("beginMonitor", inspector, query={"agents": "292"}) == "0"
        news(floor, "101")
        news(floor, "102")
        return floor

    return make


def news(floor, inspector):
    """Take an inspector's events and return the subtypes of those about others."""
    return [
        event["content"]["subtype"].removeprefix("QC_AgentState_")
        for event in floor.events(inspector)
        if event["eventType"] == "QC_AgentState_Notify"
    ]


def test_every_change_of_state_is_told_once(watched):
    """S20: sign-out, sign-in, busy, idle, rest, talking and wrap-up come to each monitor's queue, each once."""
    floor = watched()
    floor.do("sayBusy", "292")
    floor.do("sayFree", "292")
    floor.do("rest", "292", time="60", reason="0")
    floor.do("forceIdle", "102", work_no="292")
    call = floor.call("292")
    floor.gateway.switchboard.hold(call)
    floor.gateway.switchboard.resume(call)
    floor.gateway.switchboard.end(call)
    floor.do("logout", "292")
    floor.do("login", "292", body=b'{"password":"","autoenteridle":false}')
    floor.gateway.switchboard.end(floor.call("292"))
    told = ["Busy", "Idle", "Rest", "Idle", "Talking", "Idle", "Logout", "Login", "Idle", "Talking", "Work"]
    assert news(floor, "101") == told
    assert news(floor, "102") == told


def test_notice_names_the_monitored_agent(watched):
    """S20: the event is the monitor's, its content names the agent; as a number if so chosen."""
    floor = watched()
    floor.do("sayBusy", "292")
    (event,) = floor.events("101")
    assert (event["eventType"], event["workNo"]) == ("QC_AgentState_Notify", "101")
    assert event["content"]["monitoredagent"] == "292"
    floor = watched(monitored_agent_as_number=True)
    floor.do("sayBusy", "292")
    assert floor.events("101")[0]["content"]["monitoredagent"] == 292


@pytest.mark.parametrize("ending", ["stop", "intercept"])
def test_third_parties_are_told_of_an_inspection(watched, ending):
    """S20: monitors hear that someone listens and no longer does; the one who listens does not."""
    floor = watched()
    floor.call("292")
    floor.do("addSupervise", "102", work_no="292")
    if ending == "stop":
        floor.do("stopSuperviseOrInsert", "102", work_no="292")
        after = []
    else:
        floor.do("intercept", "102", work_no="292")
        after = ["Idle"]
    assert sorted(news(floor, "101")) == sorted(["Talking", "SuperviseInsert", "StopSuperviseInsert", *after])
    assert news(floor, "102") == ["Talking", *after]


def test_acting_inspector_can_be_told_too(watched):
    """S20: a site may tell the inspector of his own listening as well."""
    floor = watched(acting_inspector_is_told=True)
    floor.call("292")
    floor.do("addSupervise", "102", work_no="292")
    assert news(floor, "102") == ["Talking", "SuperviseInsert"]


def test_monitoring_begins_twice_and_ends_without_harm(watched):
    """S20: beginning twice tells once; ending what never began is accepted; after the end nothing is told."""
    floor = watched()
    assert floor.do("beginMonitor", query={"agents": "292;293"}) == "0"
    assert floor.do("endMonitor", query={"agents": "777"}) == "0"
    floor.do("sayBusy", "292")
    assert news(floor, "101") == ["Busy"]
    assert floor.do("endMonitor", query={"agents": "292"}) == "0"
    floor.do("sayFree", "292")
    assert news(floor, "101") == []
    assert news(floor, "102") == ["Busy", "Idle"]
    assert floor.do("beginMonitor", query={"agents": "292"}) == "0"
    assert floor.gateway.monitors.monitors_of("292") == ("102", "101")


@pytest.mark.parametrize("ending", ["logout", "forceLogin"])
def test_monitoring_ends_with_the_sign_in(watched, ending):
    """Who signs out or is taken over has to begin again."""
    floor = watched()
    floor.do(ending, "101", body=b'{"password":"x"}')
    assert floor.gateway.monitors.monitors_of("292") == ("102",)


@pytest.mark.parametrize(
    ("agents", "code"),
    [
        (";".join(map(str, range(1000, 1500))), "0"),
        (";".join(map(str, range(1000, 1501))), "000-002"),
        ("", "000-002"),
        ("292,293", "000-002"),
        ("292;x", "000-002"),
        ("101;292", "000-005"),
    ],
    ids=["most", "too-many", "missing", "commas", "letters", "self"],
)
def test_list_of_agents_is_checked(floor, agents, code):
    """S20: at most 500 agents a request, digits only, not the inspector himself."""
    floor.sign_in("101")
    for operation in ("beginMonitor", "endMonitor"):
        assert floor.do(operation, query={"agents": agents}) == code


def test_monitoring_needs_the_right(floor):
    """S20: without the inspection right there is no monitoring."""
    floor.sign_in("101")
    floor.agent("101").inspector = False
    assert floor.do("beginMonitor", query={"agents": "292"}) == "900-002"
    assert floor.do("allAgent") == "900-002"


def test_staff_without_a_client_is_monitored_too(floor):
    """Agents at the phone without a client of their own have states like all others."""
    floor.sign_in("101")
    floor.do("beginMonitor", query={"agents": "292"})
    floor.gateway.switchboard.end(floor.call("292"))
    assert news(floor, "101") == ["Talking", "Idle"]
