"""Rows A40 to A50: GUIDs, cookies, and a gateway of several nodes, as the next request shows them."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import sessions_pb2
from tests.support.agent_gateway import event, new_guid, news, refusal, reply, set_guid
from tests.support.watches import hold, read, told
from tests.support.watching import until

SUCCESS = b'{"message":"success","retcode":"0","result":{}}'


async def used(site, agent_id="291"):
    """The GUID that the next command of an inspector carries."""
    await site.ending(site.command("Listen", agent_id, confirm_within=0.02))
    return site.gateway.requests("addsupervise", agent_id)[-1].guid


async def polled_with(site, guid, agent_id="291"):
    """Wait until the inspector's polls carry that GUID."""
    await until(lambda: site.gateway.polls(agent_id)[-1].guid == guid, "a poll with the GUID")


async def told_of(stream, state):
    """Read a watch until a bookmark tells that state of the session; returns the bookmark."""
    wanted = sessions_pb2.SessionState.Value(f"SESSION_STATE_{state}")
    while (bookmark := (await stream.read()).bookmark).session_state != wanted:
        pass
    return bookmark


async def renewed(site, guid, told_event, agent_id="291"):
    """Let a poll bring a GUID beside an event, and wait until the next poll carries it."""
    site.gateway.tell(news(told_event, headers=[set_guid(guid)]), agent_id=agent_id)
    await polled_with(site, guid, agent_id)


async def test_wire_a40_the_guid_of_a_sign_in_is_sent_whole(open_wire):
    """A40: without `JSESSIONID=` and with its suffix polls and commands carry it; a sign-in carries none."""
    site = await open_wire(signed_in=False)
    guid = "0a" * 23 + "0f.AgentGateway0"
    site.gateway.answer("login", reply(SUCCESS, headers=[set_guid(guid)]))
    await site.signed_in()
    assert site.gateway.polls()[0].guid == guid
    assert await used(site) == guid
    assert site.gateway.requests("login")[0].guid == ""


@pytest.mark.parametrize(
    ("name", "prefix"), [("set-guid", ""), ("Set-GUID", ""), ("SET-GUID", "jsessionid="), ("set-guid", "JSESSIONID=")]
)
async def test_wire_a41_the_spelling_of_set_guid_does_not_matter(open_wire, name, prefix):
    """A41: any letter case, with or without the prefix."""
    site = await open_wire(signed_in=False)
    guid = new_guid()
    site.gateway.answer("login", reply(SUCCESS, headers=[(name, prefix + guid)]))
    await site.signed_in()
    assert site.gateway.polls()[0].guid == guid


async def test_wire_a42_a_poll_renews_the_guid_on_every_replica(open_wire, open_beside, redis_url):
    """A42: a GUID that comes with an event is stored with it; the next poll and other replicas' commands use it."""
    site = await open_wire(QC_STORE_URL=redis_url)
    other = await open_beside(site, QC_STORE_URL=redis_url)
    for number in range(3):
        guid = new_guid()
        await renewed(site, guid, hold(number, "291"))
        assert [await used(one) for one in (site, other)] == [guid, guid]  # one of them does not poll
    stream = await site.watching(cursor="oldest")
    assert told(await read(stream, 3)) == ["9-0", "9-1", "9-2"]
    stream.cancel()
    assert site.gateway.commands == ["login", *["addsupervise"] * 6]


async def test_wire_a43_a_reply_without_set_guid_keeps_the_guid(site):
    """A43: neither commands nor polls without the header wipe the GUID."""
    guid = site.gateway.guids["291"]
    assert [await used(site) for _ in range(2)] == [guid, guid]
    site.gateway.tell(news(event("AgentState_Ready")))
    await site.more_polls(2)
    assert {poll.guid for poll in site.gateway.polls()} == {guid}


async def test_wire_a43_a_reply_to_a_command_may_renew_the_guid(site):
    """A43: where the gateway sends one with another reply than a poll's, it counts from then on."""
    guid = new_guid()
    site.gateway.answer("intercept", reply(headers=[set_guid(guid)]))
    await site.ending(site.command())
    assert await used(site) == guid
    await polled_with(site, guid)


@pytest.mark.parametrize(
    ("code", "status"), [("100-004", StatusCode.UNAUTHENTICATED), ("110-016", StatusCode.PERMISSION_DENIED)]
)
async def test_wire_a44_a_refused_forced_sign_in_changes_nothing(site, code, status):
    """A44: the old GUID is kept, and the sign-in goes out once: repetition locks the account."""
    guid = site.gateway.guids["291"]
    site.gateway.answer("forcelogin", refusal(code))
    ended = await site.ending(site.sign_in("291", force=True))
    assert (ended.code, ended.metadata["retcode"], ended.retry) == (status, code, False)
    assert await used(site) == guid
    await site.more_polls(2)
    assert site.gateway.polls()[-1].guid == guid
    assert site.gateway.commands == ["login", "forcelogin", "addsupervise"]


@pytest.mark.parametrize("code", ["000-003", "100-006"])
async def test_wire_a45_a_command_that_raced_a_renewal_is_sent_once_more(site, code):
    """A45: refused with a GUID that a poll has replaced meanwhile, it goes out again, once, with the new one."""
    old, new = site.gateway.guids["291"], new_guid()
    decided = asyncio.Event()
    site.gateway.answer("intercept", (decided, refusal(code)))
    call = site.command()
    await until(lambda: site.gateway.requests("intercept"), "the command")
    await renewed(site, new, event("AgentState_Busy"))
    decided.set()
    ended = await site.ending(call)
    assert (ended.code, ended.kinds[0]) == (StatusCode.OK, "accepted")
    assert [one.guid for one in site.gateway.requests("intercept")] == [old, new]


async def test_wire_a45_a_second_refusal_is_the_last(site):
    """A45: refused with the new GUID too, it is not sent a third time."""
    decided = asyncio.Event()
    site.gateway.answer("intercept", (decided, refusal("000-003")), refusal("000-003"))
    call = site.command()
    await until(lambda: site.gateway.requests("intercept"), "the command")
    await renewed(site, new_guid(), event("AgentState_Busy"))
    decided.set()
    ended = await site.ending(call)
    assert (ended.reason, ended.metadata["retcode"]) == ("INSPECTOR_SESSION_LOST", "000-003")
    assert len(site.gateway.requests("intercept")) == 2


@pytest.mark.parametrize(("rpc", "operation"), [("ToggleListenInsert", "switch"), ("ForceDropCall", "forcedropcall")])
async def test_wire_a45_what_a_repetition_could_undo_is_sent_once(site, rpc, operation):
    """A45: a toggle, and the end of a call, are not sent again, also when a poll has renewed the GUID."""
    decided = asyncio.Event()
    site.gateway.answer(operation, (decided, refusal("000-003")))
    about = {"call_id": "1-2"} if rpc == "ForceDropCall" else {"work_no": "292"}
    request = getattr(qc, f"{rpc}Request")(agent_id="291", **about)
    call = getattr(site.commands, rpc)(request, timeout=20)
    await until(lambda: site.gateway.requests(operation), "the command")
    await renewed(site, new_guid(), event("AgentState_Busy"))
    decided.set()
    ended = await site.ending(call)
    assert (ended.reason, ended.metadata["retcode"]) == ("INSPECTOR_SESSION_LOST", "000-003")
    assert len(site.gateway.requests(operation)) == 1


async def test_wire_a45_without_a_renewal_the_refusal_stands(site):
    """A45: when nothing has replaced the GUID, the command went out once and is refused."""
    site.gateway.answer("intercept", refusal("000-003"))
    ended = await site.ending(site.command())
    assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST")
    assert len(site.gateway.requests("intercept")) == 1


async def test_wire_a47_no_inspector_carries_what_belongs_to_another(open_wire):
    """A47: two inspectors through one adapter: GUIDs and balancer cookies never mix, also after renewals."""
    site = await open_wire(signed_in=False)
    cookies = {"291": "loadbalance=node-canary-a", "295": "loadbalance=node-canary-b"}
    guids = {agent_id: new_guid() for agent_id in cookies}
    for agent_id, cookie in cookies.items():
        handed_out = [("Set-Cookie", f"{cookie}; Path=/; HttpOnly"), set_guid(guids[agent_id])]
        site.gateway.answer("login", reply(SUCCESS, headers=handed_out))
        await site.signed_in(agent_id)
    await asyncio.gather(*(used(site, agent_id) for agent_id in cookies for _ in range(3)))
    for agent_id in cookies:
        await renewed(site, guids[agent_id] + "r", event("AgentState_Work", work_no=agent_id), agent_id)
        await used(site, agent_id)
    for agent_id, cookie in cookies.items():
        sent = [one for one in site.gateway.received if one.agent_id == agent_id and one.operation != "login"]
        assert {one.cookies for one in sent} == {cookie}
        assert {one.guid for one in sent} == {guids[agent_id], guids[agent_id] + "r"}
    site.secrets |= {*guids.values(), *(cookie.partition("=")[2] for cookie in cookies.values())}


@pytest.mark.parametrize(
    "guid",
    [new_guid("AgentGateway1"), "279fe21d-2caa-4437-84c3-ab9e9dae20f5.AgentGateway12", "a" * 7, new_guid("node_b")],
    ids=["node 1", "UUID", "short", "other name"],
)
async def test_wire_a48_another_node_is_taken_as_it_comes(site, guid):
    """A48: a GUID of another node or another shape is opaque: used as it is."""
    await renewed(site, guid, event("AgentState_Work"))
    assert await used(site) == guid
    await site.in_state("ACTIVE")


async def test_wire_a49_a_move_is_waited_out(site):
    """A49: 000-004 means that another node takes over: longer pauses, no sign-in, no loss, and then all goes on."""
    stream = await site.watching()
    site.gateway.tell(refusal("000-004"), refusal("000-004"))
    assert "000-004" in (await told_of(stream, "DEGRADED")).detail
    site.gateway.answer("intercept", refusal("000-004"))
    ended = await site.ending(site.command())
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNAVAILABLE, "GATEWAY_SWITCHING_OVER", True)
    site.gateway.tell(news(hold(1, "291"), headers=[set_guid(guid := new_guid("AgentGateway1"))]))
    assert told(await read(stream, 1)) == ["9-1"]
    stream.cancel()
    await site.in_state("ACTIVE")
    assert await used(site) == guid
    *_, shorter, longer = sorted(site.gateway.pauses["291"])
    assert shorter >= 0.25
    assert longer >= 0.5
    assert site.gateway.commands == ["login", "intercept", "addsupervise"]


@pytest.mark.parametrize(
    ("name", "before"), [("Set-GUID", "JSESSIONID="), ("Set-Cookie", "balancer=")], ids=["GUID", "cookie"]
)
@pytest.mark.parametrize("breaking", ["\r\n ", "\r", "\x0b"], ids=["continued line", "carriage return", "control"])
async def test_wire_a50_a_value_that_breaks_a_header_is_refused(site, name, before, breaking):
    """A50: what would break out of its line is not taken over: no later request has a line of its making."""
    guid = site.gateway.guids["291"]
    value = f"{before}guid-canary{breaking}X-Evil: 1"
    site.gateway.tell(news(event("AgentState_Work"), headers=[(name, value)]))
    await site.more_polls(2)
    assert await used(site) == guid
    assert site.gateway.polls()[-1].guid == guid
    for heard in site.gateway.heard:
        assert "x-evil" not in {line.lower() for line, _ in heard.headers}
        assert all(text.isprintable() for _, text in heard.headers)
    assert site.gateway.commands == ["login", "addsupervise"]


async def test_wire_a50_a_handed_over_guid_must_fit_a_header(open_wire):
    """A50: a GUID that another system hands over is refused before it is stored when it would break a header."""
    site = await open_wire(signed_in=False)
    request = sessions_pb2.AdoptRequest(agent_id="291", guid="0a\r\nX-Evil: 1")
    ended = await site.ending(site.sessions.Adopt(request, timeout=20))
    assert (ended.code, ended.fields) == (StatusCode.INVALID_ARGUMENT, ("guid",))
    assert site.gateway.received == []
