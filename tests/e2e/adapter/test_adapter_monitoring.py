"""Monitoring of many agents: in batches, as one call that may be repeated."""

from __future__ import annotations

from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import quality_control_pb2 as qc
from tests.support.watches import until_told

MANY = [str(number) for number in range(1000, 2200)]


def monitor(site, rpc="Monitor", work_nos=MANY, **more):
    """Begin or end to monitor many agents."""
    request = getattr(qc, f"{rpc}Request")(agent_id="101", work_nos=work_nos, options=qc.CommandOptions(**more))
    return getattr(site.commands, rpc)(request, timeout=20)


async def test_many_agents_are_monitored_in_batches(site):
    """Requests of at most 500 with a receipt each, and one outcome; what the agents do comes to the inspector."""
    watch = site.watch(cursor="oldest")
    await until_told(watch, "AgentState_Ready")  # nothing else of the inspector's own comes in between
    ended = await site.ending(monitor(site))
    assert (ended.code, ended.outcome) == (StatusCode.OK, "STATE_UNSPECIFIED")
    assert [kind for kind in ended.kinds if kind != "QC_AgentState_Notify"] == ["accepted"] * 3 + ["outcome"]
    sent = site.simulator.requests("beginMonitor")
    assert [len(entry.parameters["agents"].split(";")) for entry in sent] == [500, 500, 200]
    assert site.simulator.watched_by("101") == tuple(MANY)
    line = site.calls[-1]
    assert (line["method"], line["outcome"]) == ("beginMonitor", "accepted")
    site.simulator.sign_in("2199")
    while (notice := (await watch.read()).event).event_type != "QC_AgentState_Notify":
        pass
    assert (notice.monitored.work_no, notice.monitored.subtype) == ("2199", "QC_AgentState_Login")
    watch.cancel()
    ended = await site.ending(monitor(site, "StopMonitoring"))
    assert (ended.code, ended.kinds.count("accepted")) == (StatusCode.OK, 3)
    assert site.simulator.watched_by("101") == ()


async def test_monitoring_that_ends_in_the_middle_says_so_and_may_be_repeated(site, until):
    """The second batch is refused: the status says who was not asked, and a repetition of the call does it all."""
    site.simulator.add_fault(Fault("delay", operation="beginMonitor", seconds=0.1, after=True))
    call = monitor(site, request_id="one")
    await until(lambda: len(site.simulator.requests("beginMonitor")) == 1)
    site.simulator.add_fault(Fault("retcode", operation="beginMonitor", code="900-001"))
    ended = await site.ending(call)
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE", True)
    assert ended.metadata == {"method": "beginMonitor", "retcode": "900-001"}
    assert "500 of 1200 agents were asked, those from 1500 on were not" in ended.message
    assert (ended.kinds.count("accepted"), ended.outcome) == (1, None)
    again = await site.ending(monitor(site, request_id="two"))
    assert again.code is StatusCode.OK
    assert site.simulator.watched_by("101") == tuple(MANY)
    assert again == await site.ending(monitor(site, request_id="two"))
    assert len(site.simulator.requests("beginMonitor")) == 5
    other = await site.ending(monitor(site, work_nos=MANY[:1100], request_id="two"))
    assert other.reason == "REQUEST_ID_REUSED"
    site.simulator.set_agent("101", inspector=False)
    for rpc in ("Monitor", "StopMonitoring"):
        assert (await site.ending(monitor(site, rpc))).reason == "NO_INSPECTION_RIGHT"
