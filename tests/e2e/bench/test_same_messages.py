"""The servers that the bench compares do the same for a caller, so that it is like with like."""

from __future__ import annotations

import asyncio

import pytest

from bench.speed import kinds
from bench.speed.caller import CallFailedError, Connection, make_calls
from bench.speed.sides import site
from qc_adapter.v1 import quality_control_pb2 as pb

#: Numbers that count up are longer or shorter by a digit or two, and the naive adapter has no cursors.
BYTES_OF_A_MESSAGE = 60
PAUSE = {"QC_POLL_PAUSE_SECONDS": "0", "QC_AUDIT_LOG": "off"}


async def messages_of(side, kind):
    """The messages of one call, read by the load generator."""
    connection = await Connection.open("127.0.0.1", side.port, kind.path)
    try:
        async with asyncio.timeout(30):
            work = await make_calls([connection], kind, [str(side.first_agent)], 1, 1, keep=True)
    finally:
        connection.close()
    data, found = b"".join(work.kept), []
    while data:
        length = int.from_bytes(data[1:5], "big")
        found.append(data[5 : 5 + length])
        data = data[5 + length :]
    return found


@pytest.fixture
async def sides(tmp_path, redis_url):
    """The adapter, the naive one and the empty server, each with a session of one inspector."""
    async with site(tmp_path) as servers:
        ours, naive = await servers.adapter("memory", PAUSE), await servers.naive(redis_url)
        await ours.adopt(1)
        await naive.adopt(1)
        yield ours, naive, await servers.floor()


async def test_an_intercept_has_the_same_messages_of_all_three(sides):
    """One Intercept brings the same kinds of message, in one order and of about one size, from whoever is compared."""
    found = [await messages_of(side, kinds.KINDS["confirm"]) for side in sides]
    updates = [[pb.CommandUpdate.FromString(message) for message in messages] for messages in found]

    for side in updates:
        assert [one.WhichOneof("update") for one in side] == ["accepted", "event", "event", "outcome"]
        assert [one.event.event_type for one in side[1:3]] == ["AgentEvent_Talking", "AgentMediaEvent_Record"]
        assert [one.event.WhichOneof("details") for one in side[1:3]] == ["talking", "record"]
        assert side[3].outcome.state == pb.CommandOutcome.CONFIRMED
    sizes = [[len(message) for message in messages] for messages in found]
    for other in sizes[1:]:
        assert [abs(one - its) < BYTES_OF_A_MESSAGE for one, its in zip(sizes[0], other, strict=True)] == [True] * 4


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (kinds.KINDS["accept"].path, "an answer had 1 messages"),
        ("/qc_adapter.v1.QualityControl/Listen", "'grpc-status': '12'"),
    ],
)
async def test_a_call_that_goes_wrong_fails_the_run(tmp_path, path, why):
    """A measurement is worth nothing if its calls do other than they should: too few messages or a status end it."""
    async with site(tmp_path) as servers:
        side = await servers.floor()
        with pytest.raises(CallFailedError, match=why):
            await messages_of(side, kinds.Kind(path, kinds.KINDS["accept"].request, messages=4))
