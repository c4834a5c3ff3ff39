"""The same request id again: joined, never run twice."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import quality_control_pb2 as qc

WHOLE = ["accepted", "AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"]


async def test_calls_with_one_request_id_share_one_command(site):
    """Three calls while the command is on its way: one request, and each sees the whole story."""
    await site.listening()
    site.simulator.add_fault(Fault("delay", operation="intercept", seconds=0.3))
    calls = [site.intercept(request_id="one") for _ in range(3)]
    endings = await asyncio.gather(*map(site.ending, calls))
    assert [(ended.code, ended.kinds, ended.outcome) for ended in endings] == [(StatusCode.OK, WHOLE, "CONFIRMED")] * 3
    assert endings[0].updates == endings[1].updates == endings[2].updates
    assert site.puts == 1
    assert [line["request_id"] for line in site.calls if line["rpc"] == "Intercept"] == ["one"] * 3
    await site.goes_on()


async def test_a_late_repetition_replays_the_first_run(site):
    """The same id after the end brings the same updates again, also when more happened since."""
    call_id = await site.listening()
    first = await site.ending(site.intercept(request_id="one"))
    site.simulator.end_call(call_id)
    await site.ending(site.intercept(work_no="299"))
    again = await site.ending(site.intercept(request_id="one"))
    assert again.updates == first.updates
    assert len(site.simulator.requests("intercept", "101")) == 2
    assert [entry.target for entry in site.simulator.requests("intercept")] == ["292", "299"]


async def test_a_joined_call_follows_in_its_own_way(site):
    """How long to follow belongs to the call, not to the command."""
    await site.listening()
    assert (await site.ending(site.intercept(request_id="one", follow=qc.FOLLOW_NONE))).kinds == ["accepted"]
    assert (await site.ending(site.intercept(request_id="one"))).kinds == WHOLE
    assert site.puts == 1


@pytest.mark.parametrize(
    ("rpc", "changes"),
    [("Intercept", {"work_no": "293"}), ("Intercept", {"call_id": "1-1"}), ("Listen", {}), ("StopInspecting", {})],
    ids=["other agent", "other call", "other operation", "other end"],
)
async def test_a_request_id_of_another_command_is_refused(site, rpc, changes):
    """One id names one command: ALREADY_EXISTS REQUEST_ID_REUSED, and nothing is sent."""
    await site.listening()
    assert (await site.ending(site.intercept(request_id="one"))).outcome == "CONFIRMED"
    before = len(site.simulator.record.commands)
    request = getattr(qc, f"{rpc}Request")(**{"agent_id": "101", "work_no": "292"} | changes)
    request.options.request_id = "one"
    ended = await site.ending(getattr(site.commands, rpc)(request, timeout=20))
    assert (ended.code, ended.reason) == (StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert "one" in ended.message
    assert len(site.simulator.record.commands) == before
    await site.goes_on()


async def test_inspectors_do_not_share_request_ids(site):
    """The same id of another inspector is another command."""
    await site.ending(site.sign_in("102"))
    await site.listening("101", "292")
    await site.listening("102", "293")
    for pair in (("101", "292"), ("102", "293")):
        assert (await site.ending(site.intercept(*pair, request_id="one"))).outcome == "CONFIRMED"
    assert site.puts == 2


async def test_a_refused_command_is_not_run_by_repeating_its_id(site):
    """A refusal is the command's result: the same id brings it again without a request."""
    await site.listening()
    site.simulator.add_fault(Fault("retcode", operation="intercept", code="900-005"))
    first, again = [await site.ending(site.intercept(request_id="one")) for _ in range(2)]
    assert first == again
    assert first.reason == "WRONG_INSPECTION_STATE"
    assert site.puts == 1
    await site.goes_on()


async def test_an_unknown_outcome_is_not_run_by_repeating_its_id(site):
    """A caller that repeats blindly after OUTCOME_UNKNOWN gets the same answer, and no second request goes out."""
    await site.listening()
    site.simulator.add_fault(Fault("reset_before", operation="intercept"))
    first, again = [await site.ending(site.intercept(request_id="one", confirm_within=0.2)) for _ in range(2)]
    assert first == again
    assert (first.code, first.reason) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN")
    assert site.puts == 1
    await site.goes_on()


async def test_the_command_lives_on_for_who_joined_it(site, until):
    """The first caller goes away while the request is out; the second one sees the end."""
    await site.listening()
    site.simulator.add_fault(Fault("delay", operation="intercept", seconds=0.5))
    first = site.intercept(request_id="one")
    await until(lambda: site.puts == 1)
    second = asyncio.create_task(site.ending(site.intercept(request_id="one")))
    first.cancel()
    ended = await second
    assert (ended.code, ended.kinds, ended.outcome) == (StatusCode.OK, WHOLE, "CONFIRMED")
    assert site.puts == 1
