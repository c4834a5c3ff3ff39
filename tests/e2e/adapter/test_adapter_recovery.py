"""A sign-in that the gateway forgets is made anew when it was asked for, and never when that could do harm."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from grpc import StatusCode

from bench.ports import free_port
from qc_adapter.simulator import Fault
from qc_adapter.v1 import quality_control_pb2, sessions_pb2
from tests.support.opening import PUSH_TOKEN, opened, pushing, simulated
from tests.support.watches import read, told, until_told

AGAIN = sessions_pb2.RE_SIGN_IN_SAME_CREDENTIALS
ACTIVE, LOST = sessions_pb2.SESSION_STATE_ACTIVE, sessions_pb2.SESSION_STATE_LOST
RECOVERING, DEGRADED = sessions_pb2.SESSION_STATE_RECOVERING, sessions_pb2.SESSION_STATE_DEGRADED


@pytest.fixture
async def kept(open_site):
    """A site whose inspector 101 is to be signed in again."""
    site = await open_site()
    await signed_in(site)
    return site


async def signed_in(site, agent_id="101", **more):
    """Sign in for good, some time ago: the first attempt to do it again need not wait."""
    assert (await site.ending(site.sign_in(agent_id, **{"re_sign_in": AGAIN} | more))).code is StatusCode.OK
    site.adapter.store.orders[agent_id].tried_at -= 5
    await site.held_poll(agent_id)


async def session(site, agent_id="101"):
    """The session as Get shows it."""
    return (await site.ending(site.get(agent_id))).updates[0].session


async def state(site, wanted, agent_id="101"):
    """Wait until Get shows that state, and return the session."""
    for _ in range(1000):
        found = await session(site, agent_id)
        if found.state == wanted:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"never in that state: {found}")


def said(site, event):
    """The log lines of an event."""
    return [line for line in site.tape.lines if line["event"] == event]


def sign_ins(site):
    """How many sign-ins of either kind reached the gateway."""
    return len(site.simulator.requests("login")) + len(site.simulator.requests("forceLogin"))


async def test_wire_a67_a_restarted_gateway_gets_everything_back_before_it_counts_as_healthy(open_site, until):
    """The stream goes on with a gap, commands may be repeated meanwhile, and skills and monitoring come first."""
    site = await open_site()
    await signed_in(site, skills={"skill_ids": [7, 9]})
    await site.adapter.shared.monitored.begin("101", ["292", "293"])
    assert (await session(site)).monitored_agents == 2
    stream = site.watch()
    await stream.read()
    site.simulator.add_fault(Fault("retcode", operation="login", code="100-003", times=1))
    site.simulator.add_fault(Fault("reset_before", operation="beginMonitor", times=1))
    site.simulator.add_fault(Fault("delay", operation="resetSkill", seconds=0.3))
    site.simulator.restart()
    found = await state(site, RECOVERING)
    assert found.re_sign_in == AGAIN
    ended = await site.ending(site.intercept())
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNAVAILABLE, "INSPECTOR_RECOVERING", True)
    assert site.puts == 0
    await until(lambda: len(site.simulator.requests("resetSkill")) == 2, "the skills to be set")
    assert (await session(site)).state == RECOVERING
    assert (await state(site, ACTIVE)).monitored_agents == 2
    assert site.simulator.state()["agents"]["101"]["skills"] == (7, 9)
    assert set(site.simulator.watched_by("101")) == {"292", "293"}
    first = await stream.read()
    assert first.bookmark.session_state == RECOVERING
    kinds = told(await until_told(stream, "AgentState_Ready"))
    assert kinds == ["gap", "AgentOther_InService", "AgentState_Ready"]
    last = await stream.read()
    assert (last.bookmark.session_state, last.bookmark.detail) == (ACTIVE, "")
    stream.cancel()
    assert [line["event"] for line in said(site, "session_recovered")] == ["session_recovered"]
    assert said(site, "session_lost") == []
    await site.goes_on()


async def test_without_orders_a_loss_is_a_loss(site):
    """By default nothing is kept, and nobody is signed in again."""
    assert (await session(site)).re_sign_in == sessions_pb2.RE_SIGN_IN_NEVER
    stream = site.watch()
    await stream.read()
    site.simulator.restart()
    assert (await site.ending(stream)).reason == "INSPECTOR_SESSION_LOST"
    assert sign_ins(site) == 1
    assert site.adapter.store.orders == {}


async def test_refused_credentials_are_sent_once(open_site):
    """A repetition could lock the account: the session is lost, the streams end, and the credentials are forgotten."""
    site = await open_site()
    codes = {"101": "100-004", "102": "110-016", "103": "110-021", "104": "100-015", "105": "100-001"}
    streams = {}
    for agent_id, code in codes.items():
        await signed_in(site, agent_id)
        site.simulator.add_fault(Fault("retcode", operation="login", agent_id=agent_id, code=code, times=-1))
        streams[agent_id] = site.watch(agent_id)
        await streams[agent_id].read()
    site.simulator.restart()
    for agent_id, code in codes.items():
        ended = await site.ending(streams[agent_id])
        assert (ended.reason, ended.metadata["retcode"]) == ("INSPECTOR_SESSION_LOST", code)
        found = await session(site, agent_id)
        assert (found.state, found.re_sign_in) == (LOST, sessions_pb2.RE_SIGN_IN_NEVER)
        assert code in found.detail
        assert len(site.simulator.requests("login", agent_id)) == 2
    assert site.adapter.store.orders == {}
    await site.goes_on()


async def test_who_is_signed_in_elsewhere_is_left_alone_without_force(kept):
    """100-002 after a loss means another client: that one stays."""
    stream = kept.watch()
    await stream.read()
    kept.secrets.add(kept.simulator.sign_in("101"))
    ended = await kept.ending(stream)
    assert (ended.reason, ended.metadata["retcode"]) == ("INSPECTOR_SESSION_LOST", "100-002")
    assert "elsewhere" in (await session(kept)).detail
    assert kept.simulator.requests("forceLogin") == ()


async def test_a_sign_in_of_unknown_outcome_may_be_our_own(kept, until):
    """A lost reply leaves a sign-in that nobody knows the GUID of: 100-002 is not told as another client then."""
    kept.simulator.add_fault(Fault("reset_after", operation="login"))
    kept.simulator.restart()
    await until(lambda: len(kept.simulator.requests("login")) == 3, "a second attempt")
    assert (await session(kept)).state == RECOVERING
    assert said(kept, "session_lost") == []


async def test_wire_a64_two_adapters_that_force_each_other_out_stop(open_site, until):
    """Both would take over again and again: one gives way with SESSION_CONFLICT, the other one stays."""
    site = await open_site()
    async with contextlib.AsyncExitStack() as stack:
        other, channel = await opened(stack, {"QC_GATEWAY_URL": site.wire.url})
        rival = type(site)(
            simulator=site.simulator,
            wire=site.wire,
            adapter=other,
            channel=channel,
            tape=site.tape,
            secrets=site.secrets,
        )
        for one in (site, rival):
            assert (await one.ending(one.sign_in(force=True, re_sign_in=AGAIN))).code is StatusCode.OK
            if one is site:
                stream = one.watch()
                await stream.read()
        ended = await site.ending(stream)
        assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "SESSION_CONFLICT")
        assert len(site.simulator.requests("forceLogin")) == 2
        assert "again and again" in (await session(site)).detail
        assert len(said(site, "session_conflict")) == 1
        assert (await session(rival)).state == ACTIVE
        # A caller may do it all the same.
        assert (await site.ending(site.sign_in(force=True))).code is StatusCode.OK


async def test_with_force_another_client_is_taken_over_once(kept, until):
    """The first takeover by another client is answered, a second later, and the next one within a minute is not."""
    await signed_in(kept, force=True)
    kept.adapter.store.orders["101"].taken_at -= 61
    kept.secrets.add(kept.simulator.sign_in("101"))
    await until(lambda: len(kept.simulator.requests("forceLogin")) == 2, "a takeover")
    await state(kept, ACTIVE)
    first, second = kept.simulator.requests("login")[-1].seconds, kept.simulator.requests("forceLogin")[-1].seconds
    assert second - first >= 0.9
    kept.secrets.add(kept.simulator.sign_in("101"))
    await state(kept, LOST)
    assert len(kept.simulator.requests("forceLogin")) == 2


async def test_refused_skills_are_told_and_not_asked_for_again(open_site, until):
    """The sign-in works, so it goes on; what is wanting is said as long as it lasts."""
    site = await open_site()
    await signed_in(site, skills={"automatic": True})
    site.simulator.add_fault(Fault("retcode", operation="resetSkill", code="600-001", times=-1))
    site.simulator.restart()
    found = await state(site, DEGRADED)
    assert "600-001" in found.detail
    assert len(site.simulator.requests("resetSkill")) == 2
    await site.goes_on()


async def test_a_watch_says_that_a_session_recovers_until_all_is_back(open_site):
    """The same as Get: not active before skills are set, also when a poll was answered long before."""
    site = await open_site(QC_BOOKMARK_SECONDS="0.05")
    await signed_in(site, skills={"skill_ids": [7]})
    stream = site.watch()
    site.simulator.add_fault(Fault("retcode", operation="resetSkill", code="100-003", times=1))
    site.simulator.restart()
    states = []
    while states[-1:] != [ACTIVE] or RECOVERING not in states:
        message = await stream.read()
        if message.HasField("bookmark"):
            states.append(message.bookmark.session_state)
    stream.cancel()
    since = states.index(RECOVERING)
    assert set(states[since:-1]) == {RECOVERING}
    assert (await session(site)).state == ACTIVE


async def test_a_sign_out_ends_a_recovery(kept, until):
    """Whoever signs out while the gateway is away is out, and stays out."""
    kept.simulator.add_fault(Fault("retcode", operation="login", code="100-003", times=-1))
    stream = kept.watch()
    await stream.read()
    kept.simulator.restart()
    await until(lambda: said(kept, "recovery_put_off"), "an attempt")
    request = sessions_pb2.SignOutRequest(agent_id="101")
    assert (await kept.ending(kept.sessions.SignOut(request, timeout=20))).code is StatusCode.OK
    assert (await kept.ending(stream)).reason == "INSPECTOR_NOT_SIGNED_IN"
    assert kept.adapter.store.orders == {}  # so there is nothing that could come due
    assert kept.simulator.requests("logout") == ()


async def test_a_sign_in_takes_the_place_of_a_recovery(kept, until):
    """The caller's own sign-in is stored, its orders count from then on, and the open stream has a gap."""
    kept.simulator.add_fault(Fault("retcode", operation="login", code="100-003", times=2))
    stream = kept.watch()
    await stream.read()
    kept.simulator.restart()
    await until(lambda: said(kept, "recovery_put_off"), "an attempt")
    kept.simulator.clear_faults()
    assert (await kept.ending(kept.sign_in(force=True))).code is StatusCode.OK
    [gap] = await read(stream, 1)
    assert gap.gap.reason == "TAKEOVER"
    stream.cancel()
    assert (await state(kept, ACTIVE)).re_sign_in == sessions_pb2.RE_SIGN_IN_NEVER
    await kept.goes_on()


async def test_a_sign_in_that_fails_leaves_the_recovery_as_it_is(kept, until):
    """The session goes on recovering, is counted as that, and is recovered in the end."""
    for operation in ("login", "forceLogin"):
        kept.simulator.add_fault(Fault("retcode", operation=operation, code="100-003", times=-1))
    stream = kept.watch()
    await stream.read()
    kept.simulator.restart()
    await until(lambda: said(kept, "recovery_put_off"), "an attempt")
    assert (await kept.ending(kept.sign_in(force=True))).reason == "GATEWAY_UNAVAILABLE"
    assert (await session(kept)).state == RECOVERING
    assert kept.adapter.readers.counts() == {("default", "recovering"): 1}
    kept.simulator.clear_faults()
    await state(kept, ACTIVE)
    assert (await stream.read()).bookmark.session_state == RECOVERING
    assert told(await until_told(stream, "AgentState_Ready")) == ["gap", "AgentOther_InService", "AgentState_Ready"]
    stream.cancel()


async def test_a_session_that_is_adopted_takes_the_place_of_a_recovery(kept, until):
    """The open stream is told that it may have missed events, before the first event of the adopted session."""
    kept.simulator.add_fault(Fault("retcode", operation="login", code="100-003", times=-1))
    stream = kept.watch()
    await stream.read()
    kept.simulator.restart()
    await until(lambda: said(kept, "recovery_put_off"), "an attempt")
    guid = kept.simulator.sign_in("101")
    kept.secrets.add(guid)
    adopt = sessions_pb2.AdoptRequest(agent_id="101", guid=guid)
    assert (await kept.ending(kept.sessions.Adopt(adopt, timeout=20))).code is StatusCode.OK
    assert told(await until_told(stream, "AgentState_Ready")) == ["gap", "AgentOther_InService", "AgentState_Ready"]
    stream.cancel()
    await kept.goes_on()


async def test_who_is_signed_out_by_force_stays_out(kept):
    """An inspector's ForceSignOut is no loss to be made good: the stream ends, and nobody signs in again."""
    await kept.ending(kept.sign_in("102"))
    stream = kept.watch()
    await stream.read()
    request = quality_control_pb2.ForceSignOutRequest(agent_id="102", work_no="101")
    ended = await kept.ending(kept.commands.ForceSignOut(request, timeout=20))
    assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED")
    assert (await kept.ending(stream)).reason == "INSPECTOR_SESSION_LOST"
    assert (await session(kept)).re_sign_in == sessions_pb2.RE_SIGN_IN_NEVER
    assert len(kept.simulator.requests("login", "101")) == 1


async def test_a_pushed_sign_in_is_recovered_with_the_gap_before_its_events(open_site, until):
    """Its events come before the reply and look like those of the sign-in before: none is lost."""
    site = await open_site(gateway={"push_retry_seconds": 0.1, "push_timeout_seconds": 2.0}, **pushing(free_port()))
    site.secrets.add(PUSH_TOKEN)
    assert (await site.ending(site.sign_in(re_sign_in=AGAIN))).code is StatusCode.OK
    site.adapter.store.orders["101"].tried_at -= 5
    stream = site.watch(cursor="oldest")
    await until_told(stream, "AgentState_Ready")
    site.simulator.add_fault(Fault("delay", operation="login", seconds=0.2, after=True))
    site.simulator.restart()
    expected = ["gap", "AgentOther_InService", "AgentState_Ready"]
    assert told(await until_told(stream, "AgentState_Ready")) == expected
    stream.cancel()
    assert (await state(site, ACTIVE)).inspector_state == sessions_pb2.INSPECTOR_STATE_IDLE
    await site.goes_on()


async def test_an_inspector_of_a_named_gateway_is_recovered_there(open_site, until):
    """The same number at the default gateway is none of it."""
    async with simulated() as north:
        site = await open_site(QC_GATEWAYS="north", QC_GATEWAY_NORTH_URL=north.url)
        assert (await site.ending(site.sign_in())).code is StatusCode.OK
        again = {"re_sign_in": AGAIN, "skills": {"skill_ids": [7]}}
        assert (await site.ending(site.sign_in("north/101", **again))).code is StatusCode.OK
        site.secrets |= {north.guid_of("101")}
        site.adapter.store.orders["north/101"].tried_at -= 5
        await site.adapter.shared.monitored.begin("north/101", ["292"])
        await until(lambda: north.state()["agents"]["101"]["held_polls"] == 1, "a held poll")
        north.restart()
        await state(site, RECOVERING, "north/101")
        assert (await state(site, ACTIVE, "north/101")).monitored_agents == 1
        agent = north.state()["agents"]["101"]
        assert (agent["skills"], north.watched_by("101")) == ((7,), ("292",))
        assert [line["gateway"] for line in said(site, "session_recovered")] == ["north"]
        assert 'qc_event_gaps_total{gateway="north",reason="takeover"} 1.0' in await site.page("/metrics")
        assert sign_ins(site) == 1
