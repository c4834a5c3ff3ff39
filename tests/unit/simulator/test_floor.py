"""A call centre that runs by itself, on an injected clock."""

import pytest

from qc_adapter.simulator import SimulatorSettings
from qc_adapter.simulator.activity import line


def busy(new_floor, seed=7):
    """A floor of 40 agents after a quarter of an hour, and how its figures went."""
    floor = new_floor(agents=40, calls_per_minute=30, random_seed=seed, poll_hold_seconds=0)
    floor.sign_in("101")
    floor.do("beginMonitor", query={"agents": ";".join(map(str, range(20001, 20041)))})
    floor.gateway.begin()
    history = []
    for _ in range(900):
        # The inspector's client is there.
        floor.gateway.roster.seen(floor.agent("101"))
        floor.move(1)
        history.append(floor.gateway.activity.figures())
    return floor, history


def test_agents_talk_hold_rest_wrap_up_go_and_come_back(new_floor):
    """Calls begin and end at about the rate asked for, and agents are found in every state."""
    floor, history = busy(new_floor)
    last = history[-1]
    assert 350 < last["calls"]["begun"] < 550
    assert last["calls"]["begun"] == last["calls"]["ended"] + last["calls"]["running"]
    assert sum(last["agents"].values()) == 41
    for state in ("talking", "idle", "work", "rest", "away"):
        assert any(one["agents"][state] for one in history), state
    assert last["agents"]["talking"] == last["calls"]["running"]
    told = {e["content"]["subtype"].rpartition("_")[2] for e in floor.events("101") if isinstance(e["content"], dict)}
    assert told == {"Idle", "Talking", "Work", "Rest", "Login", "Logout"}
    assert f"{last['calls']['begun']} begun" in line(last)


def test_seed_makes_a_floor_repeatable(new_floor):
    """Two floors with one seed go the same way; another seed goes another."""
    one, two, other = (busy(new_floor, seed)[1][-1] for seed in (7, 7, 8))
    assert one == two
    assert one["calls"] != other["calls"]


def test_staff_that_was_forced_comes_back(new_floor):
    """An inspector may force the staff out, or busy; after a while they work again."""
    floor = new_floor(agents=1, random_seed=1, event_delay_seconds=0)
    floor.gateway.begin()
    floor.sign_in("101")
    floor.do("beginMonitor", query={"agents": "20001"})
    assert floor.do("forceBusy", work_no="20001") == "0"
    assert floor.do("forceLogOutAgent", work_no="20001") == "0"
    told = [e["content"]["subtype"] for e in floor.events("101") if e["eventType"] == "QC_AgentState_Notify"]
    assert told == ["QC_AgentState_Busy", "QC_AgentState_Logout"]
    for _ in range(600):
        floor.gateway.roster.seen(floor.agent("101"))
        floor.move(1)
    told = [e["content"]["subtype"] for e in floor.events("101") if e["eventType"] == "QC_AgentState_Notify"]
    assert told[:2] == ["QC_AgentState_Login", "QC_AgentState_Idle"]


def test_signed_in_client_has_its_own_habits(new_floor):
    """Whose client is signed in gets calls once he has skills, and is never sent to rest or away."""
    floor = new_floor(agents=1, calls_per_minute=6, random_seed=1, auth_mode="static")
    floor.gateway.begin()
    floor.sign_in("20001")
    postures = set()
    for _ in range(600):
        floor.gateway.roster.seen(floor.agent("20001"))
        floor.move(1)
        postures.add(floor.agent("20001").posture)
    assert (postures, floor.gateway.switchboard.begun) == ({"idle"}, 0)
    floor.do("resetSkill", "20001", autoflag="true")
    floor.move(60)
    assert floor.gateway.switchboard.begun > 0


def test_staff_must_fit_into_the_ids():
    """Ids of the staff stay within the range of the gateway."""
    with pytest.raises(ValueError, match="agents 59990 to 60009 are not within 101 to 59999"):
        SimulatorSettings(agents=20, first_agent=59990)
    assert SimulatorSettings(agents=10, first_agent=59990)
