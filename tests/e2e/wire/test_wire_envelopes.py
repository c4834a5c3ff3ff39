"""Rows A1 to A15: bodies and contents that gateways in the field are known to send, from the socket to the caller."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from tests.support.agent_gateway import event, news, refusal, reply
from tests.support.watches import hold, read, told
from tests.support.watching import until

PAUSE_SECONDS = 0.03


def call_of(message):
    """The typed call of an event."""
    return getattr(message.event, message.event.WhichOneof("details"))


async def nothing_happens(open_wire, body):
    """Polls that bring this body reach no subscriber, and the next poll goes out after the usual pause."""
    site = await open_wire(signed_in=False, hold_seconds=0, QC_POLL_PAUSE_SECONDS=str(PAUSE_SECONDS))
    site.gateway.silence = reply(body)
    await site.signed_in()
    stream = await site.watching()
    await site.more_polls(5)
    site.gateway.tell(news(hold(1, "291")))
    assert told(await read(stream, 1)) == ["9-1"]
    stream.cancel()
    assert min(site.gateway.pauses["291"]) >= PAUSE_SECONDS
    assert (await site.in_state("ACTIVE")).detail == ""
    assert site.gateway.commands == ["login"]
    assert (await site.sample("qc_events_total", event_type="AgentEvent_Hold")) == 1.0


async def test_wire_a1_no_event_has_no_effect(open_wire):
    """A1: the usual empty reply has no effect, and the next poll waits for the pause."""
    await nothing_happens(open_wire, b'{"message":"","retcode":"0"}')


async def test_wire_a2_a_null_event_has_no_effect(open_wire):
    """A2: a null event is no event."""
    await nothing_happens(open_wire, b'{"message":"","retcode":"0","event":null}')


async def test_wire_a4_an_array_of_events_is_delivered_in_order(site):
    """A4: all events of an array are delivered, in order, each with a place of its own."""
    stream = await site.watching()
    site.gateway.tell(news(event("AgentState_Ready"), hold(1, "291"), hold(2, "291")))
    messages = await read(stream, 3)
    assert told(messages) == ["AgentState_Ready", "9-1", "9-2"]
    assert len({message.cursor for message in messages}) == 3
    stream.cancel()


async def test_wire_a5_a_polled_event_list_inherits_its_work_no(site):
    """A5: an eventList without a retcode is delivered, oldest first, for the agent at its top."""
    stream = await site.watching()
    body = (
        b'{"workNo":"291","eventList":[{"eventType":"AgentState_Busy","content":null},{"eventType":"AgentState_Work"}]}'
    )
    site.gateway.tell(reply(body))
    messages = await read(stream, 2)
    assert [(one.event.event_type, one.event.work_no) for one in messages] == [
        ("AgentState_Busy", "291"),
        ("AgentState_Work", "291"),
    ]
    stream.cancel()


OLDER = b'{"message":"","retcode":"0","event":{"eventType":"AgentState_Busy","workNo":"291","content":null}}'
NEWER = b'{"workNo":"291","eventList":[{"eventType":"AgentState_Busy","content":null}]}'


@pytest.mark.parametrize("body", [OLDER, NEWER], ids=["event", "eventList"])
async def test_wire_a5_a_push_of_either_shape_is_delivered(open_pushed, body):
    """A5: what the gateway pushes is delivered before it is told so; nothing is polled for such a session."""
    site = await open_pushed()
    assert (await site.ending(site.sign_in("291"))).code is StatusCode.OK
    stream = await site.watching()
    assert await site.push(body) == (200, {"message": "success", "retcode": "0"})
    [message] = await read(stream, 1)
    assert (message.event.event_type, message.event.work_no) == ("AgentState_Busy", "291")
    stream.cancel()
    assert site.gateway.polls() == []


async def test_wire_a6_a_retcode_may_be_a_number(site):
    """A6: 0 is a success in polls and commands; another number is a refusal that keeps it, and nothing breaks."""
    stream = await site.watching()
    site.gateway.tell(
        reply(b'{"message":"","retcode":0}'), reply(b'{"message":"","retcode":100006}'), news(hold(1, "291"))
    )
    assert told(await read(stream, 1)) == ["9-1"]
    stream.cancel()
    site.gateway.answer("intercept", reply(b'{"message":"","retcode":0}'), reply(b'{"message":"","retcode":100006}'))
    accepted = await site.ending(site.command())
    assert (accepted.code, accepted.kinds) == (StatusCode.OK, ["accepted", "outcome"])
    refused = await site.ending(site.command())
    assert (refused.code, refused.reason) == (StatusCode.UNKNOWN, "GATEWAY_REFUSED")
    assert refused.metadata == {"method": "intercept", "retcode": "100006"}
    assert await site.sample("qc_gateway_requests_total", method="intercept", retcode="other") == 1.0
    assert site.gateway.commands == ["login", "intercept", "intercept"]


async def test_wire_a8_a_bare_text_is_the_call_id(site):
    """A8: where the content is a bare text it is the call's id, and is passed on as it came."""
    stream = await site.watching()
    site.gateway.tell(news(event("AgentEvent_Hold", "1397104272-3397")))
    [message] = await read(stream, 1)
    assert message.event.call.call_id == message.event.content.string_value == "1397104272-3397"
    stream.cancel()


async def test_wire_a9_a_call_event_may_have_no_content(site):
    """A9: a call event with null is delivered, typed, without a call id."""
    stream = await site.watching()
    site.gateway.tell(news(event("AgentEvent_Talking", None)))
    [message] = await read(stream, 1)
    assert (message.event.WhichOneof("details"), message.event.talking.call_id) == ("talking", "")
    assert message.event.content.HasField("null_value")
    stream.cancel()


async def test_wire_a10_numbers_and_texts_are_one(site):
    """A10: numbers and booleans may come as text and the other way round; the typed event is the same."""
    stream = await site.watching()
    texts = {"callid": "1-2", "feature": "7", "mediaType": "5", "isWorking": "true"}
    numbers = {"callid": "1-2", "feature": 7, "mediaType": 5, "isWorking": True}
    site.gateway.tell(news(event("AgentEvent_Talking", texts)), news(event("AgentEvent_Talking", numbers, work_no=291)))
    text, number = await read(stream, 2)
    assert text.event.talking == number.event.talking
    assert (number.event.talking.feature, number.event.talking.media_type) == ("7", "5")
    assert text.event.work_no == number.event.work_no == "291"
    assert text.event.content.struct_value["isWorking"] == "true"
    assert number.event.content.struct_value["isWorking"] is True
    stream.cancel()


async def test_wire_a11_keys_are_read_in_either_spelling(site):
    """A11: callid and callId, recordID and recordId are the same field."""
    stream = await site.watching()
    for call_key, record_key in (("callid", "recordID"), ("callId", "recordId")):
        site.gateway.tell(news(event("AgentEvent_Ringing", {call_key: "1-2"})))
        site.gateway.tell(news(event("AgentMediaEvent_Record", {call_key: "1-2", record_key: "r-7"})))
    messages = await read(stream, 4)
    assert {call_of(message).call_id for message in messages} == {"1-2"}
    assert [message.event.record.record_id for message in messages[1::2]] == ["r-7", "r-7"]
    stream.cancel()


async def test_wire_a13_an_unknown_event_is_passed_on_whole(site):
    """A13: an event that this version does not know arrives by its name, with all that it carries."""
    stream = await site.watching()
    brand_new = {"eventType": "AgentEvent_Brand_New", "workNo": "291"}
    site.gateway.tell(news(brand_new | {"x": {"y": [1]}}), news(brand_new | {"content": {"y": [1]}, "x": 2}))
    bare, with_content = await read(stream, 2)
    assert {one.event.event_type for one in (bare, with_content)} == {"AgentEvent_Brand_New"}
    assert {one.event.WhichOneof("details") for one in (bare, with_content)} == {None}
    assert bare.event.content.struct_value["x"]["y"][0] == 1
    assert with_content.event.content.struct_value["y"][0] == 1
    stream.cancel()
    assert await site.sample("qc_events_total", event_type="other") == 2.0


async def test_wire_a14_an_event_of_another_agent_is_not_attributed(site):
    """A14: what a poll of 291 brings for 292 reaches no watcher of 291; it is logged and counted."""
    stream = await site.watching()
    site.gateway.tell(news(hold(1, "292")), news(hold(2, "291")))
    assert told(await read(stream, 1)) == ["9-2"]
    stream.cancel()
    assert [line["work_no"] for line in site.logged("foreign_event_dropped")] == ["292"]
    assert await site.sample("qc_events_foreign_total") == 1.0


@pytest.mark.parametrize("result", [',"result":""', "", ',"result":[7]'], ids=["empty text", "missing", "odd"])
async def test_wire_a15_the_code_wins_over_the_result(open_wire, result):
    """A15: a refusal with an odd result or none is a refusal, and a success stays one."""
    site = await open_wire(signed_in=False)
    refused = reply(f'{{"message":"agent not login"{result},"retcode":"100-006"}}'.encode())
    site.gateway.answer("login", refused)
    ended = await site.ending(site.sign_in("291"))
    assert (ended.code, ended.metadata["retcode"]) == (StatusCode.FAILED_PRECONDITION, "100-006")
    assert "agent not login" in ended.message
    await site.signed_in()
    site.gateway.answer("intercept", refused, reply(f'{{"message":""{result},"retcode":"0"}}'.encode()))
    ended = await site.ending(site.command())
    assert (ended.code, ended.metadata["retcode"]) == (StatusCode.FAILED_PRECONDITION, "100-006")
    assert (await site.ending(site.command())).kinds == ["accepted", "outcome"]


async def test_wire_a15_a_refused_poll_is_read_by_its_code(site):
    """A15: the same body answers a poll: the session is over."""
    stream = await site.watching()
    site.gateway.tell(refusal("100-006", "agent not login"))
    ended = await site.ending(stream)
    assert (ended.reason, ended.metadata["retcode"]) == ("INSPECTOR_SESSION_LOST", "100-006")
    polls = len(site.gateway.polls())
    await until(lambda: "session_lost" in [line["reason"] for line in site.logged("lease_changed")])
    assert len(site.gateway.polls()) == polls
