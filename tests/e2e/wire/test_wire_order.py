"""Rows A100 to A106: the order of events, what comes late, and refusals that are none."""

from __future__ import annotations

from grpc import StatusCode

from qc_adapter.v1 import quality_control_pb2 as qc
from tests.support.agent_gateway import event, news, refusal
from tests.support.watches import hold, read, told

TALKING = event("AgentEvent_Talking", {"callid": "1-2"})
RECORD = event("AgentMediaEvent_Record", {"callId": "1-2", "recordID": "r-7"})


async def test_wire_a100_the_gateways_order_is_kept(site):
    """A100: a recording that begins before the phone is picked up stands first, and carries the call that follows."""
    call = site.command(confirm_within=10.0)
    assert (await call.read()).HasField("accepted")
    order = (RECORD, event("AgentOther_PhoneOffhook", {"type": "main"}), TALKING)
    site.gateway.tell(*(news(one) for one in order))
    ended = await site.ending(call)
    assert ended.kinds == [*(one["eventType"] for one in order), "outcome"]
    record, _, talking, outcome = ended.updates
    assert record.event.record.call_id == talking.event.talking.call_id == outcome.outcome.call_id == "1-2"
    assert (outcome.outcome.state, list(outcome.outcome.missing_event_types)) == (outcome.outcome.CONFIRMED, [])


async def test_wire_a101_a_repeated_talk_is_no_new_call(site):
    """A101: the talk of a call taken back from hold confirms nothing; the talk of another call does."""
    stream = await site.watching()
    site.gateway.tell(news(TALKING))
    await read(stream, 1)
    call = site.command(confirm_within=0.4)
    assert (await call.read()).HasField("accepted")
    site.gateway.tell(news(event("AgentEvent_Hold", "1-2")), news(TALKING))
    ended = await site.ending(call)
    assert (ended.kinds, ended.outcome) == (["AgentEvent_Hold", "AgentEvent_Talking", "outcome"], "UNCONFIRMED")
    call = site.command(confirm_within=10.0)
    await call.read()
    site.gateway.tell(news(event("AgentEvent_Talking", {"callid": "1-9"}), RECORD | {"content": {"callId": "1-9"}}))
    ended = await site.ending(call)
    assert (ended.outcome, ended.updates[-1].outcome.call_id) == ("CONFIRMED", "1-9")
    stream.cancel()


async def test_wire_a102_a_deferred_busy_comes_with_its_event(site):
    """A102: the receipt of "busy" changes nothing while the agent talks; the event after the call does."""
    await site.signed_in("292")
    site.gateway.tell(news(event("AgentEvent_Talking", {"callid": "1-2"}, "292")), agent_id="292")
    stream = await site.watching("292", cursor="oldest")
    call = site.command("ForceBusy", confirm_within=10.0)
    assert (await call.read()).accepted.method == "forceBusy"
    after = (
        event("AgentEvent_Hold", "1-2", "292"),
        event("AgentEvent_Talking", {"callid": "1-2"}, "292"),
        event("AgentEvent_Call_Release", "1-2", "292"),
        event("AgentState_SetNotReady_Success", {"reason": "3"}, "292"),
    )
    site.gateway.tell(*(news(one) for one in after), agent_id="292")
    ended = await site.ending(call)
    assert (ended.outcome, ended.updates[-1].outcome.proof.event_type) == ("CONFIRMED", after[-1]["eventType"])
    *_, last = await read(stream, 5)
    assert (last.event.state.state, last.event.state.forced) == (last.event.state.BUSY, True)
    stream.cancel()
    assert site.gateway.commands == ["login", "login", "forcebusy"]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
WHOLE = b'{"message":"","retcode":"0"}'


def chunk(body):
    """A chunk of a body without a length."""
    return b"%x\r\n%s\r\n" % (len(body), body)


async def test_wire_a105_a_chunked_reply_without_its_end_is_incomplete(site):
    """A105: without a length only the last chunk says that all has come: before it, nothing is taken for an answer."""
    half, all_but_the_end = ((CHUNKED + chunk(body), site.gateway.CLOSE) for body in (WHOLE[:20], WHOLE))
    site.gateway.answer("intercept", half, all_but_the_end, CHUNKED + chunk(WHOLE) + chunk(b""))
    for _ in range(2):
        ended = await site.ending(site.command())
        assert (ended.code, ended.reason) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN")
    assert (await site.ending(site.command())).kinds == ["accepted", "outcome"]
    stream = await site.watching()
    site.gateway.tell(all_but_the_end, news(hold(1, "291")))
    assert told(await read(stream, 2)) == ["gap", "9-1"]
    stream.cancel()


async def test_wire_a106_no_call_to_drop_is_a_dropped_call(site):
    """A106: 200-025 says that there is nothing left to drop: accepted, once, with the gateway's words."""
    site.gateway.answer("forcedropcall", refusal("200-025", "no call can be droped"))
    request = qc.ForceDropCallRequest(agent_id="291", call_id="1397104272-3397")
    ended = await site.ending(site.commands.ForceDropCall(request, timeout=20))
    assert (ended.code, ended.kinds) == (StatusCode.OK, ["accepted", "outcome"])
    assert ended.updates[0].accepted.gateway_message == "no call can be droped"
    assert site.gateway.commands == ["login", "forcedropcall"]
    assert await site.sample("qc_gateway_requests_total", method="forceDropCall") == 1.0
