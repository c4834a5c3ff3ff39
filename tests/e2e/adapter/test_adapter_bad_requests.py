"""Requests that cannot be carried out: refused before anything is sent, with what to change."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from qc_adapter.v1 import events_pb2, sessions_pb2
from qc_adapter.v1 import quality_control_pb2 as qc

BAD_IDS = {
    "empty": "",
    "letters": "abc",
    "too low": "100",
    "too high": "60000",
    "leading zero": "0101",
    "arabic digits": "\u0661\u0660\u0661",
    "fullwidth digits": "\uff11\uff10\uff11",
    "superscript": "1\u00b2\u00b3",
    "sign": "+101",
    "newline": "101\n",
    "path": "101/../102",
    "10 kB": "1" * 10_240,
}


def assert_refused(ended, reason, *fields):
    """Whoever sent this has to change these fields."""
    assert (ended.code, ended.reason, ended.domain) == (StatusCode.INVALID_ARGUMENT, reason, "qc-adapter")
    assert ended.fields == fields
    assert ended.updates == []
    assert not ended.retry
    assert len(ended.message) < 500


@pytest.mark.parametrize("bad_id", BAD_IDS.values(), ids=BAD_IDS.keys())
@pytest.mark.parametrize("field", ["agent_id", "work_no"])
async def test_a_bad_agent_id_is_refused_before_anything_is_sent(site, field, bad_id):
    """An id that is no decimal number from 101 to 59999 is INVALID_AGENT_ID and names its field."""
    sent = {"agent_id": "101", "work_no": "292"} | {field: bad_id}
    assert_refused(await site.ending(site.intercept(**sent)), "INVALID_AGENT_ID", field)
    assert site.puts == 0
    await site.goes_on()


async def test_all_bad_ids_are_named_at_once(site):
    """Two bad ids are two violations of one answer."""
    assert_refused(await site.ending(site.intercept("1", "2")), "INVALID_AGENT_ID", "agent_id", "work_no")


async def test_the_highest_agent_id_is_a_setting(open_site):
    """With QC_AGENT_ID_MAX at 999999 an id of six digits is taken."""
    site = await open_site(gateway={"agent_id_max": 999_999}, QC_AGENT_ID_MAX="999999")
    assert (await site.ending(site.sign_in("600001"))).code is StatusCode.OK
    await site.goes_on("600001", "999999")
    assert_refused(await site.ending(site.intercept("600001", "1000000")), "INVALID_AGENT_ID", "work_no")


@pytest.mark.parametrize("rpc", ["SignIn", "SignOut", "Adopt", "Get", "Watch"])
async def test_every_service_checks_the_agent_id(site, rpc):
    """Sessions and events refuse a bad id in the same words as commands, and ask the gateway nothing."""
    requests = {
        "SignIn": site.sign_in,
        "SignOut": lambda bad_id: site.sessions.SignOut(sessions_pb2.SignOutRequest(agent_id=bad_id), timeout=20),
        "Adopt": lambda bad_id: site.sessions.Adopt(sessions_pb2.AdoptRequest(agent_id=bad_id, guid="g"), timeout=20),
        "Get": site.get,
        "Watch": site.watch,
    }
    before = len(site.simulator.record.commands)
    for bad_id in BAD_IDS.values():
        assert_refused(await site.ending(requests[rpc](bad_id)), "INVALID_AGENT_ID", "agent_id")
    assert len(site.simulator.record.commands) == before
    await site.goes_on()


@pytest.mark.parametrize("rpc", ["Intercept", "Listen", "Insert", "StopInspecting", "Whisper", "StopWhispering"])
async def test_an_inspector_cannot_inspect_itself(site, rpc):
    """Inspector and agent are two: SELF_INSPECTION, from every command."""
    request = getattr(qc, f"{rpc}Request")(agent_id="101", work_no="101")
    before = site.simulator.record.received - len(site.simulator.record.polls)
    assert_refused(await site.ending(getattr(site.commands, rpc)(request, timeout=20)), "SELF_INSPECTION", "work_no")
    assert site.simulator.record.received - len(site.simulator.record.polls) == before
    await site.goes_on()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"follow": 99}, "options.follow"),
        ({"follow": -1}, "options.follow"),
        ({"request_id": "a b"}, "options.request_id"),
        ({"request_id": "x" * 129}, "options.request_id"),
        ({"request_id": "\u00e9"}, "options.request_id"),
        ({"request_id": "a\n"}, "options.request_id"),
        ({"confirm_within": 0.0}, "options.confirm_within"),
        ({"confirm_within": -1.0}, "options.confirm_within"),
        ({"confirm_within": 300.5}, "options.confirm_within"),
    ],
)
async def test_bad_options_are_named(site, options, field):
    """An option out of its range is INVALID_ARGUMENT with the option's path, and nothing is sent."""
    assert_refused(await site.ending(site.intercept(**options)), "INVALID_ARGUMENT", field)
    assert site.puts == 0
    await site.goes_on()


async def test_all_bad_options_are_named_at_once(site):
    """Three bad options are three violations."""
    ended = await site.ending(site.intercept(request_id=" ", follow=7, confirm_within=-1.0))
    assert_refused(ended, "INVALID_ARGUMENT", "options.request_id", "options.follow", "options.confirm_within")


@pytest.mark.parametrize(
    "call_id",
    ["a b", "1\r\nGuid: x", "x" * 65, "\u00fc", "../../onlineagent/101/forcelogout", "%2e%2e", "?x=1", "1#2", ".."],
)
async def test_a_bad_call_id_is_refused(site, call_id):
    """A call id that no gateway gives out is refused before a proxy could take it for another address."""
    assert_refused(await site.ending(site.intercept(call_id=call_id)), "INVALID_ARGUMENT", "call_id")
    assert site.puts == 0


@pytest.mark.parametrize("cursor", ["x", "m-1", "m-00-1", "OLDEST", "m-000000000000--1", "9" * 10_000])
async def test_a_bad_cursor_is_refused(site, cursor):
    """A text that is no cursor is INVALID_CURSOR, not an empty stream."""
    ended = await site.ending(site.watch(cursor=cursor))
    assert (ended.code, ended.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_CURSOR")
    assert ended.updates == []
    await site.goes_on()


async def test_an_expired_cursor_fails_unless_a_gap_is_asked_for(site):
    """A cursor of a log that is gone is OUT_OF_RANGE with the cursor, or a gap and then what is kept."""
    gone = "000000000000-5"
    ended = await site.ending(site.watch(cursor=gone))
    assert (ended.code, ended.reason) == (StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
    assert ended.metadata["cursor"] == gone

    stream = site.watch(cursor=gone, on_expired=events_pb2.ON_EXPIRED_GAP)
    assert (await stream.read()).HasField("subscribed")
    gap = (await stream.read()).gap
    assert (gap.reason, getattr(gap, "from")) == ("CURSOR_EXPIRED", gone)
    first = await stream.read()
    assert first.event.event_type == "AgentOther_InService"
    stream.cancel()
    assert 'qc_event_gaps_total{gateway="default",reason="cursor_expired"} 1.0' in await site.page("/metrics")


async def test_a_huge_request_is_refused_and_the_connection_lives_on(site):
    """More than the server takes in one message is RESOURCE_EXHAUSTED, and the next call works."""
    ended = await site.ending(site.intercept("1" * 300_000))
    assert ended.code is StatusCode.RESOURCE_EXHAUSTED
    await site.goes_on()


async def test_bytes_that_are_no_message_get_a_reason(site):
    """What cannot be decoded is INVALID_ARGUMENT with our details, and leaves a log line like any call."""
    send = site.channel.unary_stream("/qc_adapter.v1.QualityControl/Intercept")
    ended = await site.ending(send(b"\xff\xff", timeout=20))
    assert (ended.code, ended.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert ended.fields
    assert site.puts == 0
    await site.goes_on()
