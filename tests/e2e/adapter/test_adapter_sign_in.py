"""Signing in and out: never twice by itself, in step with the gateway, and without a secret in any answer."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import events_pb2, sessions_pb2


def sign_out(site, agent_id="101", *, force=False):
    """Begin a sign-out."""
    return site.sessions.SignOut(sessions_pb2.SignOutRequest(agent_id=agent_id, force=force), timeout=20)


async def test_a_sign_in_is_answered_without_a_secret(site):
    """The session in the reply says who, how and since when; the check for secrets runs after every test."""
    await site.held_poll()
    session = (await site.ending(site.get())).updates[0].session
    assert (session.agent_id, session.event_source) == ("101", sessions_pb2.EVENT_SOURCE_POLL)
    assert session.state == sessions_pb2.SESSION_STATE_ACTIVE
    assert session.signed_in_time.seconds > 0
    assert session.last_poll_time.seconds > 0
    assert len(site.wire.secrets) >= 2  # a GUID and a cookie crossed the wire and are looked for
    await site.goes_on()


async def test_a_wrong_password_is_tried_once(open_site):
    """UNAUTHENTICATED, one request at the gateway: repetition locks the account. The right one works."""
    site = await open_site()
    site.simulator.set_agent("101", password="right-canary")
    site.secrets |= {"right-canary", "wrong-canary"}
    ended = await site.ending(site.sign_in(password="wrong-canary"))
    assert (ended.code, ended.reason) == (StatusCode.UNAUTHENTICATED, "GATEWAY_REFUSED")
    assert ended.metadata == {"method": "login", "retcode": "100-004"}
    assert not ended.retry
    assert len(site.simulator.requests("login")) == 1
    assert site.simulator.requests("getAgentEvent") == ()
    assert (await site.ending(site.get())).reason == "INSPECTOR_NOT_SIGNED_IN"
    assert (await site.ending(site.sign_in(password="right-canary"))).code is StatusCode.OK
    await site.goes_on()


async def test_an_agent_who_is_signed_in_elsewhere_is_taken_over_only_by_force(open_site):
    """Without force ALREADY_EXISTS and the other client stays; with force the session is ours."""
    site = await open_site()
    site.secrets.add(site.simulator.sign_in("101"))
    ended = await site.ending(site.sign_in())
    assert (ended.code, ended.reason) == (StatusCode.ALREADY_EXISTS, "GATEWAY_REFUSED")
    assert ended.metadata == {"method": "login", "retcode": "100-002"}
    assert list(site.simulator.record.sign_outs) == []
    assert (await site.ending(site.sign_in(force=True))).code is StatusCode.OK
    assert [one.reason for one in site.simulator.record.sign_outs] == ["taken_over"]
    await site.goes_on()


async def test_an_agent_who_must_not_be_forced_out_is_left_alone(open_site):
    """100-015 is PERMISSION_DENIED, also with force."""
    site = await open_site(gateway={"forbid_takeover": True})
    site.simulator.sign_in("101")
    ended = await site.ending(site.sign_in(force=True))
    assert (ended.code, ended.metadata["retcode"]) == (StatusCode.PERMISSION_DENIED, "100-015")
    assert len(site.simulator.requests("forceLogin")) == 1


async def test_a_refused_force_keeps_the_session_that_was_there(site):
    """A forced sign-in with a wrong password changes nothing: the stored session goes on."""
    site.simulator.set_agent("101", password="right-canary")
    ended = await site.ending(site.sign_in(force=True, password="wrong-canary"))
    assert ended.metadata["retcode"] == "100-004"
    await site.goes_on()


async def test_a_sign_out_ends_the_polling(site):
    """After a sign-out the gateway hears no poll any more, and the session is forgotten."""
    await site.held_poll()
    assert (await site.ending(sign_out(site))).code is StatusCode.OK
    assert site.simulator.state_of("101") == "SIGNED_OUT"
    assert (await site.ending(site.get())).reason == "INSPECTOR_NOT_SIGNED_IN"
    ended = await site.ending(sign_out(site))
    assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_NOT_SIGNED_IN")
    assert len(site.simulator.requests("logout")) == 1
    await site.goes_on()


async def test_a_sign_out_ends_a_watch_without_alarm(site):
    """The gateway ends the held poll of a session that is signed out: that is no loss, and no log line says so."""
    stream = site.events.Watch(events_pb2.WatchRequest(agent_id="101"), timeout=20)
    await stream.read()
    await site.held_poll()
    assert (await site.ending(sign_out(site))).code is StatusCode.OK
    assert (await site.ending(stream)).reason == "INSPECTOR_NOT_SIGNED_IN"
    assert "session_lost" not in [line["event"] for line in site.tape.lines]


@pytest.mark.parametrize("retcode", ["100-006", "000-003", "100-008"])
async def test_already_out_is_a_success(site, retcode):
    """The gateway knows nothing of the session any more: signing out is done, and the session forgotten."""
    site.simulator.add_fault(Fault("retcode", operation="logout", code=retcode))
    site.simulator.sign_out("101")
    assert (await site.ending(sign_out(site))).code is StatusCode.OK
    assert (await site.ending(site.get())).reason == "INSPECTOR_NOT_SIGNED_IN"
    await site.goes_on()


async def test_a_sign_out_during_a_call_needs_force(site):
    """In a call the plain sign-out is a wrong state and changes nothing; the forced one works."""
    await site.listening()
    assert (await site.ending(site.intercept())).outcome == "CONFIRMED"
    ended = await site.ending(sign_out(site))
    assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "WRONG_INSPECTION_STATE")
    assert ended.metadata == {"method": "logout", "retcode": "100-009"}
    assert (await site.ending(site.get())).code is StatusCode.OK
    assert (await site.ending(sign_out(site, force=True))).code is StatusCode.OK
    assert site.simulator.state_of("101") == "SIGNED_OUT"


async def test_a_sign_out_whose_reply_is_lost_keeps_the_session(site):
    """Nobody knows whether it was done: OUTCOME_UNKNOWN, one request; a second sign-out finds "already out"."""
    site.simulator.add_fault(Fault("reset_after", operation="logout"))
    ended = await site.ending(sign_out(site))
    assert (ended.code, ended.reason) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN")
    assert len(site.simulator.requests("logout")) == 1
    assert (await site.ending(sign_out(site))).code is StatusCode.OK
    await site.goes_on()


async def test_two_sign_ins_of_one_agent_at_once_do_not_overlap(open_site):
    """The second one is ABORTED at once; the gateway sees one."""
    site = await open_site()
    site.simulator.add_fault(Fault("delay", operation="login", seconds=0.3))
    endings = await asyncio.gather(*(site.ending(site.sign_in()) for _ in range(3)))
    assert sorted(ended.code.name for ended in endings) == ["ABORTED", "ABORTED", "OK"]
    assert {ended.reason for ended in endings} == {None, "GATEWAY_BUSY_WITH_SAME_CALL"}
    assert len(site.simulator.requests("login")) == 1
    await site.goes_on()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"password": "x" * 33}, "password"),
        ({"phone_number": "1" * 25}, "phone_number"),
        ({"ip": "1" * 16}, "ip"),
        ({"entry_ip": "1" * 65}, "entry_ip"),
        ({"vc_phone_number": "1" * 25}, "vc_phone_number"),
        ({"status": 9}, "status"),
        ({"skills": {"skill_ids": range(1001)}}, "skills.skill_ids"),
        ({"skills": {"skill_ids": [7, 7]}}, "skills.skill_ids[1]"),
        ({"skills": {"automatic": True, "skill_ids": [7]}}, "skills.skill_ids"),
        ({"ip": "fe80::1"}, "ip"),
    ],
)
async def test_bad_fields_of_a_sign_in_are_named(open_site, changes, field):
    """What the gateway could not take is INVALID_ARGUMENT with its field, and nothing is sent."""
    site = await open_site()
    ended = await site.ending(site.sign_in(**changes))
    assert (ended.code, ended.reason, ended.fields) == (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", (field,))
    assert site.simulator.requests("login") == ()


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"guid": ""}, ("guid",)),
        ({"guid": "JSESSIONID="}, ("guid",)),
        ({"guid": "a\r\nX: y"}, ("guid",)),
        ({"guid": "a b"}, ("guid",)),
        ({"guid": "\u00e4"}, ("guid",)),
        ({"guid": "x" * 5000}, ("guid",)),
        ({"guid": "", "event_source": 9}, ("event_source", "guid")),
    ],
)
async def test_a_bad_adoption_is_refused(open_site, changes, fields):
    """A GUID that no header can carry is refused before it is stored."""
    site = await open_site()
    request = sessions_pb2.AdoptRequest(agent_id="101", **changes)
    ended = await site.ending(site.sessions.Adopt(request, timeout=20))
    assert (ended.code, ended.fields) == (StatusCode.INVALID_ARGUMENT, fields)
    assert (await site.ending(site.get())).reason == "INSPECTOR_NOT_SIGNED_IN"


async def test_sessions_are_listed_in_pages(open_site):
    """Ascending by number, each page with the token of the next; a bad size or token is refused."""
    site = await open_site()
    for agent_id in ("1000", "101", "999"):
        await site.ending(site.sign_in(agent_id))

    async def page(**request):
        return await site.ending(site.sessions.List(sessions_pb2.ListRequest(**request), timeout=20))

    first = (await page(page_size=2)).updates[0]
    assert [one.agent_id for one in first.sessions] == ["101", "999"]
    second = (await page(page_size=2, page_token=first.next_page_token)).updates[0]
    assert ([one.agent_id for one in second.sessions], second.next_page_token) == (["1000"], "")
    for bad, field in (({"page_size": -1}, "page_size"), ({"page_size": 1001}, "page_size"),
                       ({"page_token": "x"}, "page_token"), ({"page_token": "\u0661"}, "page_token")):  # fmt: skip
        ended = await page(**bad)
        assert (ended.code, ended.fields) == (StatusCode.INVALID_ARGUMENT, (field,))


async def test_a_session_that_is_not_there_is_told_as_the_contract_says(open_site):
    """Get of an inspector without a session is INSPECTOR_NOT_SIGNED_IN for that inspector."""
    site = await open_site()
    ended = await site.ending(site.get("103"))
    assert ended.reason == "INSPECTOR_NOT_SIGNED_IN"
    assert "103" in ended.message
