"""The watch command over streams that end, break and come back."""

from __future__ import annotations

import signal

from qc_adapter.simulator import Fault
from tests.support.watches import hold


async def test_watch_goes_on_right_after_a_cursor(signed_in):
    """It ends after as many events as asked for, and its last cursor is where the next watch begins."""
    first = await signed_in("watch", "101", "--oldest", "--once", "1", "--json", "--timeout", "20")
    assert first.code == 0, first.err
    assert "subscribed" in first.objects[0]
    assert [one["event"]["eventType"] for one in first.objects[1:]] == ["AgentOther_InService"]
    cursor = first.objects[-1]["cursor"]
    second = await signed_in("watch", "101", "--cursor", cursor, "--once", "1", "--json", "--timeout", "20")
    assert [one["event"]["eventType"] for one in second.objects[1:]] == ["AgentState_Ready"]


async def test_a_watch_that_is_over_in_time_ends_with_5(signed_in):
    """A script that waits for an event learns that none came, and where to go on."""
    ended = await signed_in("watch", "101", "--once", "1", "--timeout", "1")
    assert ended.code == 5
    assert "qc-adapter watch 101 --cursor" in ended.err


async def test_watch_resumes_by_itself_and_shouts_about_the_gap(simulator, make_adapter, start, qc, redis_url):
    """The adapter ends in the midst of a poll and another one takes over: the watch says so and goes on."""
    settings = {"QC_STORE_URL": redis_url}
    async with make_adapter(simulator, **settings) as first:
        port = first.port
        target = f"127.0.0.1:{port}"
        assert (await qc("sign-in", "101", "--no-password", "--phone", "1", "--target", target)).code == 0
        running = await start("watch", "101", "--oldest", "--target", target)
        await running.line_with("AgentState_Ready")
    async with make_adapter(simulator, QC_LISTEN=f"127.0.0.1:{port}", **settings):
        assert "TAKEOVER" in await running.line_with("GAP: EVENTS MAY BE MISSING HERE")
        assert (await qc("listen", "101", "292", "--target", target)).code == 0
        await running.line_with("AgentOther_PhoneOffhook")
        running.send(signal.SIGINT)
        ended = await running.end()
    assert ended.code == 130
    assert "resuming from" in ended.err
    assert "Traceback" not in ended.err


async def test_one_of_several_replicas_is_enough(adapter, qc, signed_in):
    """A list names the replicas; one that is away holds nobody up."""
    target = f"127.0.0.1:1,127.0.0.1:{adapter.port}"
    heard = await qc("listen", "101", "292", "--target", target)
    assert heard.code == 0, heard.err
    watched = await qc("watch", "101", "--oldest", "--once", "3", "--target", target)
    assert watched.code == 0, watched.err


async def test_an_expired_cursor_fails_when_asked_to(simulator, make_adapter, qc):
    """With --on-expired fail a script notices that events are gone."""
    async with make_adapter(simulator) as old:
        target = f"127.0.0.1:{old.port}"
        assert (await qc("sign-in", "101", "--no-password", "--phone", "1", "--target", target)).code == 0
        seen = await qc("watch", "101", "--oldest", "--once", "1", "--json", "--target", target)
    async with make_adapter(simulator) as new:
        target = f"127.0.0.1:{new.port}"
        assert (await qc("sign-in", "101", "--no-password", "--phone", "1", "--force", "--target", target)).code == 0
        arguments = ("watch", "101", "--cursor", seen.objects[-1]["cursor"], "--target", target)
        ended = await qc(*arguments, "--on-expired", "fail")
    assert ended.code == 3
    assert "CURSOR_EXPIRED" in ended.err
    assert "--on-expired gap" in ended.err


async def test_watch_says_when_the_session_gets_worse_and_better(simulator, adapter, qc, signed_in, start):
    """A session that is degraded has its line at once, and another one when it is over; so does a listed session."""
    target = f"127.0.0.1:{adapter.port}"
    running = await start("watch", "101", "--oldest", "--target", target)
    await running.line_with("AgentState_Ready")
    assert "idle since" in (await signed_in("sessions", "101")).out
    simulator.add_fault(Fault("retcode", operation="getAgentEvent", code="000-004"))
    simulator.rotate("101")  # the poll that is held ends
    assert "000-004" in await running.line_with("degraded")
    simulator.inject("101", hold(1))
    await running.line_with("active")
    running.send(signal.SIGINT)
    assert (await running.end()).code == 130
