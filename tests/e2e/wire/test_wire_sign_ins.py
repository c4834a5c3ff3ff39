"""Rows A60 to A69: how a sign-in begins, is lost and ends; A64 is with the recoveries of tests/e2e/adapter."""

from __future__ import annotations

import asyncio

import pytest
from cryptography.fernet import Fernet
from grpc import StatusCode

from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import sessions_pb2
from tests.support.agent_gateway import event, news, refusal, reply
from tests.support.watches import hold, read, told, until_told
from tests.support.watching import until

AGENTS_FULL = "The number of login agents has exceeded that permitted for this VDN."
VIDEO_FULL = "The number of video agents who log in to the VDN to which the agent belongs reaches the upper limit."


async def test_wire_a60_a_kicked_inspector_is_told_once(site):
    """A60: 100-006 ends every watch, once, as a lost session; polling stops, and nobody is signed in by force."""
    streams = [await site.watching() for _ in range(2)]
    site.gateway.tell(news(hold(1, "291")), refusal("100-006"))
    for stream in streams:
        ended = await site.ending(stream)
        assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST")
        assert (ended.metadata["retcode"], told(ended.updates)) == ("100-006", ["9-1"])
    assert (await site.session()).state == sessions_pb2.SESSION_STATE_LOST
    assert [line["reason"] for line in site.logged("lease_changed")].count("session_lost") == 1
    polls = len(site.gateway.polls())
    assert (await site.ending(site.watch("291"))).reason == "INSPECTOR_SESSION_LOST"
    assert len(site.gateway.polls()) == polls
    assert site.gateway.commands == ["login"]


async def test_wire_a62_a_flapping_refusal_is_borne(site):
    """A62: each answer resets the count of 000-003: as many as would end the session in a row do not end it."""
    stream = await site.watching()
    site.gateway.tell(
        *[refusal("000-003")] * 4, news(hold(1, "291")), refusal("000-003"), news(hold(2, "291")), reply()
    )
    assert told(await read(stream, 2)) == ["9-1", "9-2"]
    stream.cancel()
    await site.in_state("ACTIVE")
    assert site.gateway.commands == ["login"]


async def test_wire_a63_signed_in_elsewhere_is_forced_only_when_asked(open_wire):
    """A63: 100-002 is told to the caller; the forced sign-in goes out when the caller asks for it, and only then."""
    site = await open_wire(signed_in=False)
    site.gateway.answer("login", refusal("100-002"))
    ended = await site.ending(site.sign_in("291"))
    assert (ended.code, ended.metadata["retcode"]) == (StatusCode.ALREADY_EXISTS, "100-002")
    assert site.gateway.commands == ["login"]
    await site.signed_in(force=True)
    assert site.gateway.commands == ["login", "forcelogin"]


@pytest.mark.parametrize("force", [False, True])
async def test_wire_a63_who_must_not_be_forced_is_left_alone(open_wire, force):
    """A63: 100-015 is final: no forced sign-in follows, and none is repeated."""
    site = await open_wire(signed_in=False)
    operation = "forcelogin" if force else "login"
    site.gateway.answer(operation, refusal("100-015"))
    ended = await site.ending(site.sign_in("291", force=force))
    assert (ended.code, ended.retry) == (StatusCode.PERMISSION_DENIED, False)
    assert site.gateway.commands == [operation]


async def test_wire_a65_no_provider_is_no_wrong_password(open_wire):
    """A65: 100-003 is UNAVAILABLE with RetryInfo; the caller's next try works. A poll that gets it goes on."""
    site = await open_wire(signed_in=False)
    site.gateway.answer("login", refusal("100-003"))
    ended = await site.ending(site.sign_in("291"))
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE", True)
    assert site.gateway.commands == ["login"]
    await site.signed_in()
    stream = await site.watching()
    site.gateway.tell(refusal("100-003"), news(hold(1, "291")))
    assert told(await read(stream, 1)) == ["9-1"]
    stream.cancel()
    assert site.gateway.commands == ["login", "login"]


@pytest.mark.parametrize(
    ("code", "text"),
    [("100-007", AGENTS_FULL), ("7", AGENTS_FULL), ("100-099", VIDEO_FULL)],
    ids=["listed", "odd", "video"],
)
async def test_wire_a66_a_full_site_is_told_by_its_text(open_wire, code, text):
    """A66: whatever its code, the text that a site is full is RESOURCE_EXHAUSTED, and is passed on clean."""
    site = await open_wire(signed_in=False)
    site.gateway.answer("login", refusal(code, f"{text} token {'0a' * 24}.AgentGateway0"))
    ended = await site.ending(site.sign_in("291"))
    assert (ended.code, ended.reason) == (StatusCode.RESOURCE_EXHAUSTED, "GATEWAY_REFUSED")
    assert ended.metadata == {"method": "login", "retcode": code}
    assert text in ended.message
    assert "0a0a" not in ended.message
    assert site.gateway.commands == ["login"]


async def test_wire_a67_a_restart_ends_what_nobody_keeps(site):
    """A67: refused connections are got over; that nobody is signed in then is told, and left so."""
    stream = await site.watching()
    await site.gateway_goes()
    site.gateway.tell(refusal("100-006"))
    await site.wire.accept()
    ended = await site.ending(stream)
    assert (ended.reason, ended.metadata["retcode"]) == ("INSPECTOR_SESSION_LOST", "100-006")
    assert site.gateway.commands == ["login"]


async def test_wire_a67_a_restart_is_recovered_from_as_asked(open_wire):
    """A67: with kept credentials it is signed in again; skills and monitoring are restored before it is healthy."""
    site = await open_wire(signed_in=False, QC_SEAL_KEYS=Fernet.generate_key().decode())
    skills = sessions_pb2.SkillReset(automatic=True)
    await site.signed_in(skills=skills, re_sign_in=sessions_pb2.RE_SIGN_IN_SAME_CREDENTIALS)
    request = qc.MonitorRequest(agent_id="291", work_nos=["292", "293"])
    assert (await site.ending(site.commands.Monitor(request, timeout=20))).code is StatusCode.OK
    stream = await site.watching()
    await site.gateway_goes()
    restored = asyncio.Event()
    site.gateway.answer("beginmonitor", (restored, reply()))
    site.gateway.tell(refusal("100-006"))
    await site.wire.accept()
    await until(lambda: len(site.gateway.requests("beginmonitor")) == 2, "the monitoring")
    await site.in_state("RECOVERING")
    restored.set()
    await site.in_state("ACTIVE")
    assert site.gateway.commands == ["login", "resetskill", "beginmonitor"] * 2
    first, second = site.gateway.requests("login")
    assert first.body == second.body
    site.gateway.tell(news(hold(1, "291")))
    assert told(await until_told(stream, "9-1"))[-1] == "9-1"
    stream.cancel()


@pytest.mark.parametrize(
    ("code", "force", "operation"),
    [("100-006", False, "logout"), ("000-003", False, "logout"), ("100-008", True, "forcelogout")],
)
async def test_wire_a68_being_out_already_is_a_sign_out(site, code, force, operation):
    """A68: a refusal that says "not signed in" is what a sign-out wants; the session is forgotten and polls end."""
    site.gateway.answer(operation, refusal(code))
    request = sessions_pb2.SignOutRequest(agent_id="291", force=force)
    assert (await site.ending(site.sessions.SignOut(request, timeout=20))).code is StatusCode.OK
    polls = len(site.gateway.polls())
    assert (await site.ending(site.get("291"))).reason == "INSPECTOR_NOT_SIGNED_IN"
    assert len(site.gateway.polls()) == polls
    assert site.gateway.commands == ["login", operation]


async def test_wire_a69_an_event_before_the_reply_is_kept(open_wire):
    """A69: what the gateway queued before it answered the sign-in is in the log, and on a watch from the oldest."""
    site = await open_wire(signed_in=False)
    replied = asyncio.Event()
    site.gateway.tell(news(event("AgentOther_InService")), news(event("AgentState_Ready")))
    site.gateway.answer("login", (replied, site.gateway.sign_in_reply("291")))
    call = site.sign_in("291")
    await until(lambda: site.gateway.requests("login"), "the sign-in")
    replied.set()
    assert (await site.ending(call)).code is StatusCode.OK
    await until(lambda: len(site.gateway.polls()) > 2, "the polls that bring them")
    stream = await site.watching(cursor="oldest")
    assert told(await read(stream, 2)) == ["AgentOther_InService", "AgentState_Ready"]
    stream.cancel()


async def test_wire_a69_a_push_before_the_reply_is_kept(open_pushed):
    """A69: a push that overtakes the reply to the sign-in is taken, and is in the log when the session stands."""
    site = await open_pushed()
    replied = asyncio.Event()
    site.gateway.answer("login", (replied, site.gateway.sign_in_reply("291")))
    call = site.sign_in("291")
    await until(lambda: site.gateway.requests("login"), "the sign-in")
    pushed = b'{"workNo":"291","eventList":[{"eventType":"AgentOther_InService"},{"eventType":"AgentState_Ready"}]}'
    assert (await site.push(pushed))[0] == 200
    replied.set()
    assert (await site.ending(call)).code is StatusCode.OK
    stream = await site.watching(cursor="oldest")
    assert told(await read(stream, 2)) == ["AgentOther_InService", "AgentState_Ready"]
    stream.cancel()
