"""Nodes that fail, and a gateway that starts again, on an injected clock."""

import pytest

from qc_adapter.simulator import Simulator, SimulatorSettings
from qc_adapter.simulator.controls import Controls
from qc_adapter.simulator.requests import GatewayRequest


@pytest.fixture
def cluster(new_floor):
    """Two nodes: agent 102 lives on node 0, agent 101 on node 1."""
    floor = new_floor(nodes=2)
    floor.controls = Controls(floor.gateway)
    floor.guids = {agent_id: floor.sign_in(agent_id) for agent_id in ("101", "102")}
    return floor


def ask(floor, agent_id, operation="handShake"):
    request = GatewayRequest(operation, "POST", {"agentid": agent_id}, {}, floor.guids[agent_id])
    code = floor.gateway.check(request)
    return code, floor.gateway.fresh_guid(request) if code == "0" else None


def test_agents_are_spread_and_told_their_node(cluster):
    """S22: the GUID and the sign-in reply name the node."""
    assert cluster.guids["102"].endswith(".AgentGateway0")
    assert cluster.guids["101"].endswith(".AgentGateway1")
    request = GatewayRequest("forceLogin", "PUT", {"agentid": "101"}, {}, body=b'{"password":"x"}')
    assert cluster.gateway.perform(request).result["serverName"] == "AgentGateway1"


def test_lost_sign_ins_are_gone_and_others_stay(cluster):
    """S22: a node that dies takes its sign-ins with it; a new one is made on a living node."""
    assert cluster.controls.fail_node(1, keep_sign_ins=False) == 1
    assert ask(cluster, "101")[0] == "100-006"
    assert ask(cluster, "102")[0] == "0"
    assert cluster.sign_in("101").endswith(".AgentGateway0")
    assert cluster.gateway.record.sign_outs[-1].reason == "node_failed"
    cluster.controls.recover_node(1)
    assert cluster.sign_in("101").endswith(".AgentGateway1")


def test_moved_sign_ins_go_on_after_the_switch(cluster):
    """S22: for a while every request gets 000-004; then the old GUID counts, and brings that of the new node."""
    cluster.move(100)
    cluster.guids["101"] = cluster.agent("101").sign_in.ring.rotate(cluster.seconds)
    cluster.move(59)
    cluster.gateway.announcer.now("101", "Kept")
    assert cluster.controls.fail_node(1, switch_seconds=150) == 1
    for operation in ("getAgentEvent", "addSupervise", "forceLogin", "logout"):
        assert ask(cluster, "101", operation)[0] == "000-004"
    cluster.move(149)
    assert ask(cluster, "101")[0] == "000-004"
    cluster.gateway.roster.sweep()
    cluster.move(1)
    code, fresh = ask(cluster, "101")
    assert code == "0"
    assert fresh.endswith(".AgentGateway0")
    assert "Kept" in cluster.event_types("101")


def test_pushes_wait_for_the_switch(new_floor):
    """S22: while an agent moves nothing is pushed to him; after it everything is."""
    floor = new_floor(nodes=2)
    parcels = []
    floor.gateway.pushing.carry = parcels.append
    floor.do("login", "101", body=b'{"password":"","callBackUri":"http://localhost/p","serviceToken":"t"}')
    Controls(floor.gateway).fail_node(1, switch_seconds=20)
    floor.gateway.pushing.release(floor.agent("101"))
    floor.move(19)
    assert parcels == []
    floor.move(1)
    assert parcels[0].guid.endswith(".AgentGateway0")


def test_last_node_starts_again(floor):
    """A gateway of one node that fails takes sign-ins again at once; an unknown node is refused."""
    controls = Controls(floor.gateway)
    floor.sign_in("101")
    controls.fail_node(0, keep_sign_ins=False)
    assert floor.agent("101").sign_in is None
    assert floor.sign_in("101").endswith(".AgentGateway0")
    with pytest.raises(ValueError, match="no node 7"):
        controls.fail_node(7)


def test_restart_loses_sign_ins_and_keeps_agents(floor):
    """After a restart nobody is signed in and nothing is monitored, but calls and what is known of agents stay."""
    call = floor.listening()
    floor.do("beginMonitor", query={"agents": "292"})
    floor.agent("292").inspector = False
    assert Controls(floor.gateway).restart() == 2
    assert (floor.agent("101").sign_in, floor.agent("292").sign_in) == (None, None)
    assert floor.gateway.monitors.monitors_of("292") == ()
    assert floor.gateway.inspections.running() == ()
    assert (floor.agent("292").call_id, floor.agent("292").inspector) == (call.call_id, False)
    floor.sign_in("101")
    assert floor.do("addSupervise", work_no="292") == "0"


def test_number_of_nodes_must_be_positive():
    """A gateway has one node at least, and counts them from its own number on."""
    with pytest.raises(ValueError, match="nodes must be positive"):
        SimulatorSettings(nodes=0)
    assert list(Simulator(SimulatorSettings(nodes=2, node_number=3)).state()["nodes"]) == ["3", "4"]
