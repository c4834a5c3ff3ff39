"""The GUIDs of one sign-in, on an injected clock."""

import asyncio
import re

import pytest

from qc_adapter.simulator import Clocks, Simulator, SimulatorSettings
from qc_adapter.simulator.guids import GuidRing, Mint, Rotation


def ring(*, grace=60.0, dynamic=True, taken_over=None, now=0.0):
    return GuidRing(Mint(0, None).guid, Rotation(dynamic, 60.0, 120.0, grace), now, taken_over)


def test_guid_has_the_shape_of_a_real_one():
    """A GUID is 48 hex digits and the name of the node."""
    assert re.fullmatch(r"[0-9a-f]{48}\.AgentGateway3", Mint(3, None).guid())


def test_seed_makes_guids_repeatable():
    """Two runs with one seed give the same GUIDs."""
    assert Mint(0, 7).guid() == Mint(0, 7).guid()


def test_rotation_is_due_after_the_interval():
    """A GUID changes once it is as old as the interval, not before."""
    guids = ring()
    assert not guids.due(59.9)
    assert guids.due(60.0)


def test_old_and_new_guid_overlap_for_the_grace():
    """After a rotation the old GUID counts until the grace is over, then it is expired."""
    guids = ring()
    old = guids.current
    new = guids.rotate(60.0)
    assert (guids.age_of(new, 61), guids.age_of(old, 61)) == ("current", "previous")
    assert guids.age_of(old, 119.9) == "previous"
    assert guids.age_of(old, 120.0) == "expired"


def test_old_guid_never_outlives_its_own_timeout():
    """A late rotation does not lengthen the life of the old GUID."""
    guids = ring()
    old = guids.current
    guids.rotate(100.0)
    assert guids.age_of(old, 120.0) == "expired"


def test_no_grace_kills_the_old_guid_at_once():
    """With a grace of 0 the old GUID is refused from the moment of the rotation."""
    guids = ring(grace=0.0)
    old = guids.current
    guids.rotate(5.0)
    assert guids.age_of(old, 5.0) == "expired"


def test_guid_runs_out_when_nobody_polls():
    """In dynamic mode the present GUID dies at its timeout when no rotation renewed it."""
    guids = ring()
    assert guids.age_of(guids.current, 119.9) == "current"
    assert guids.age_of(guids.current, 120.0) == "expired"


def test_static_guid_lives_for_ever():
    """In static mode a GUID is neither rotated nor expired."""
    guids = ring(dynamic=False)
    assert not guids.due(10_000)
    assert guids.age_of(guids.current, 10_000) == "current"


def test_taken_over_guid_is_told_from_a_foreign_one():
    """The GUID of the client before is known as taken over, any other is wrong, none is missing."""
    former = ring()
    guids = ring(taken_over=former, now=1.0)
    assert guids.age_of(former.current, 2) == "taken_over"
    assert guids.age_of("0" * 48, 2) == "wrong"
    assert guids.age_of(None, 2) == "missing"


def test_ring_hides_its_guids():
    """Printing a ring shows no GUID."""
    guids = ring()
    assert guids.current not in repr(guids)


@pytest.mark.parametrize(("seconds", "rotated"), [(59.0, False), (60.0, True)], ids=["young", "due"])
def test_heartbeat_brings_the_new_guid_when_due(new_floor, seconds, rotated):
    """A poll or heartbeat reply carries a GUID exactly when it changed."""
    from qc_adapter.simulator.requests import GatewayRequest

    floor = new_floor()
    guid = floor.sign_in("101")
    floor.move(seconds)
    request = GatewayRequest("handShake", "POST", {"agentid": "101"}, {}, guid)
    assert floor.gateway.check(request) == "0"
    fresh = floor.gateway.fresh_guid(request)
    assert (fresh is not None) is rotated
    assert fresh is None or (fresh != guid and fresh == floor.agent("101").sign_in.ring.current)


def test_client_that_missed_the_news_gets_them_again(floor):
    """A poll with the old GUID brings the present one again: the reply before may have been lost."""
    from qc_adapter.simulator.requests import GatewayRequest

    guid = floor.sign_in("101")
    floor.gateway.rotate(floor.agent("101"))
    request = GatewayRequest("getAgentEvent", "GET", {"agentid": "101"}, {}, guid)
    assert floor.gateway.check(request) == "0"
    assert floor.gateway.fresh_guid(request) == floor.agent("101").sign_in.ring.current


def test_silence_signs_out(floor):
    """An agent who sent nothing for longer than the limit is signed out, and the record says why."""
    floor.sign_in("101")
    floor.gateway.begin()
    floor.move(119)
    assert floor.agent("101").sign_in is not None
    floor.move(2)
    assert floor.agent("101").sign_in is None
    assert [(entry.agent_id, entry.reason) for entry in floor.gateway.record.sign_outs] == [("101", "silence")]


async def test_held_poll_is_no_silence(floor):
    """While a client waits in a poll it is not silent, however long the poll takes."""
    floor.sign_in("101")
    floor.events("101")
    floor.gateway.begin()
    mailbox = floor.agent("101").sign_in.mailbox
    poll = asyncio.create_task(mailbox.hold(30, lambda: True))
    await asyncio.sleep(0)
    floor.move(300)
    assert floor.agent("101").sign_in is not None
    mailbox.release()
    await poll
    floor.move(1)
    assert floor.agent("101").sign_in is None


def test_commands_do_not_keep_a_sign_in_alive_when_only_polls_count(new_floor):
    """With only_polls_keep_alive a busy but never polling agent is signed out all the same."""
    from qc_adapter.simulator.requests import GatewayRequest

    floor = new_floor(only_polls_keep_alive=True, auth_mode="static")
    guid = floor.sign_in("101")
    for _ in range(3):
        floor.move(50)
        code = floor.gateway.check(GatewayRequest("getAgentStatus", "GET", {"agentid": "101"}, {}, guid))
    assert code == "100-006"


def test_settings_name_all_problems_at_once():
    """Wrong settings are refused with every problem in one message."""
    with pytest.raises(ValueError, match=r"guid_timeout_seconds .* agent_id_max .*self_signed"):
        SimulatorSettings(guid_timeout_seconds=10, agent_id_max=7, tls_port=0)


def test_settings_can_be_used_without_a_loop():
    """A simulator can be built before an event loop runs."""
    simulator = Simulator(SimulatorSettings(), Clocks())
    assert simulator.settings.guid_grace_seconds == 60.0
