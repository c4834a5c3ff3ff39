"""What an inspector does is the same on every replica, whichever polls and whichever sent the command."""

from __future__ import annotations

import asyncio

from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import sessions_pb2


async def told(replica):
    """What a replica says: the state by its name, and the inspected agent."""
    [reply] = (await replica.ending(replica.get())).updates
    session = reply.session
    return (
        sessions_pb2.InspectorState.Name(session.inspector_state),
        session.inspected_work_no,
        (session.inspector_state_since.ToNanoseconds()),
    )


async def agree(replicas, state, work_no=""):
    """Wait until all say so, and since the same moment."""
    async with asyncio.timeout(10):
        while True:
            found = {await told(one) for one in replicas}
            if {one[:2] for one in found} == {(f"INSPECTOR_STATE_{state}", work_no)} and len(found) == 1:
                return


async def run(replica, rpc, **more):
    """Run a command of inspector 101 on agent 292."""
    request = getattr(qc, f"{rpc}Request")(agent_id="101", work_no="292", **more)
    return await replica.ending(getattr(replica.commands, rpc)(request, timeout=20))


async def test_both_replicas_say_the_same(cluster, pair, until):
    """Listening through one, intercepting through the other: Get, metric and refusals agree with the gateway."""
    first, second = pair
    await agree(pair, "IDLE")
    call_id = cluster.simulator.start_call("292")
    assert (await run(second, "Listen")).code is StatusCode.OK
    await agree(pair, "LISTENING", "292")
    await until(lambda: first.adapter.readers.counts()["default", "listening"] == 1, "the poller's count")
    for one in pair:
        refused = await run(one, "Insert")
        assert refused.metadata["inspector_state"] == "listening"
        assert "listening to 292 since" in refused.message
    assert (await run(first, "Intercept")).code is StatusCode.OK
    await agree(pair, "INTERCEPTED", "292")
    cluster.simulator.end_call(call_id)
    await agree(pair, "IDLE")
    assert cluster.simulator.state_of("101") == "IDLE"


async def test_a_receipt_waits_for_redis(cluster, pair):
    """A listen whose receipt could not be written at once is followed all the same when Redis is back."""
    first, second = pair
    cluster.simulator.start_call("292")
    listening = second.commands.Listen(qc.ListenRequest(agent_id="101", work_no="292"), timeout=20)
    cluster.gateway.stall(replies_only=True)
    while not cluster.simulator.requests("addSupervise"):  # noqa: ASYNC110 - the gateway has it, its reply is under way
        await asyncio.sleep(0.005)
    await second.store.refuse()
    cluster.gateway.flow()
    assert (await listening.read()).HasField("accepted")
    await second.store.accept()
    assert (await second.ending(listening)).code is StatusCode.OK
    await agree([first], "LISTENING", "292")


async def test_bookmarks_on_every_replica_say_that_the_session_is_degraded(cluster, pair):
    """While the gateway switches over, watches on both replicas say so, and say when it is over."""
    streams = [one.watch() for one in pair]
    for stream in streams:
        assert (await stream.read()).HasField("subscribed")
    cluster.simulator.add_fault(Fault("retcode", operation="getAgentEvent", code="000-004", times=1000))
    for stream in streams:
        assert (await stream.read()).bookmark.session_state == sessions_pb2.SESSION_STATE_DEGRADED
    cluster.simulator.clear_faults()
    for stream in streams:
        assert (await stream.read()).bookmark.session_state == sessions_pb2.SESSION_STATE_ACTIVE
        stream.cancel()
