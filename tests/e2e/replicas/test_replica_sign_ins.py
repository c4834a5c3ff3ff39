"""Signing in and out on several replicas at once: the GUID that is stored is the one that the gateway gave last."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from tests.support.watches import hold, read, until_told


@pytest.fixture
def signing(cluster):
    """The cluster, in which sign-ins may end others."""
    cluster.may_sign_out = True
    return cluster


async def one_ends_first(cluster, calls):
    """Begin calls while the gateway does not answer; return how the first one ended, and then the other one."""
    cluster.gateway.stall()
    tasks = [asyncio.create_task(call) for call in calls]
    done, open_still = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    assert (len(done), len(open_still)) == (1, 1)
    cluster.gateway.flow()
    return done.pop().result(), await open_still.pop()


async def stored_is_known(cluster):
    """Wait until the GUID in Redis is the one that the gateway knows."""
    async with asyncio.timeout(10):
        while await cluster.stored_guid() != cluster.simulator.guid_of("101"):
            pass


async def test_two_forced_sign_ins_at_once_do_not_cross(signing, pair):
    """On two replicas at the same time: one is ABORTED, the other one's session is stored, polled and used."""
    refused, signed_in = await one_ends_first(signing, [one.ending(one.sign_in(force=True)) for one in pair])
    assert (refused.code, refused.reason) == (StatusCode.ABORTED, "GATEWAY_BUSY_WITH_SAME_CALL")
    assert signed_in.code is StatusCode.OK, signed_in
    assert len(signing.simulator.requests("forceLogin")) == 1
    await stored_is_known(signing)
    await pair[0].held_poll()
    stream = pair[1].watch()
    await read(stream, 1)
    signing.simulator.inject("101", hold(1))
    await until_told(stream, "9-1")
    stream.cancel()
    await pair[1].listening()
    for one in pair:
        ended = await one.ending(one.intercept(request_id="one"))
        assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED"), ended
    assert pair[0].puts == 1
    assert signing.changes("session_lost") == []


async def test_a_sign_out_and_a_sign_in_at_once_do_not_cross(signing, pair):
    """One of them is ABORTED, and the store says what the gateway says."""
    calls = [pair[0].ending(pair[0].sign_out()), pair[1].ending(pair[1].sign_in(force=True))]
    refused, ended = await one_ends_first(signing, calls)
    assert (refused.code, refused.reason) == (StatusCode.ABORTED, "GATEWAY_BUSY_WITH_SAME_CALL")
    assert ended.code is StatusCode.OK, ended
    if signing.simulator.requests("forceLogin"):
        await stored_is_known(signing)
    else:
        assert await signing.write("EXISTS", "qc:session:101") == 0
        assert signing.simulator.state_of("101") == "SIGNED_OUT"


async def test_a_refused_sign_in_may_be_repeated(signing, pair):
    """Once the other replica has ended its sign-in, nothing is left that would hinder the next one."""
    await one_ends_first(signing, [one.ending(one.sign_in(force=True)) for one in pair])
    for one in pair:
        ended = await one.ending(one.sign_in(force=True))
        assert ended.code is StatusCode.OK, ended
        await stored_is_known(signing)
    assert await signing.write("EXISTS", "qc:busy:101") == 0
