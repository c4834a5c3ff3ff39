"""What a good day does not have, so that each panel has something to show: done once in a while, on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration

from bench.pictures.site import PUSHING
from qc_adapter.v1 import quality_control_pb2 as pb
from qc_adapter.v1 import quality_control_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from bench.pictures.site import Site

#: Inspectors that are nobody else's.
VICTIM: Final = "9001"
FORGOTTEN: Final = "9002"
AGENT: Final = "20001"
#: Longer than the adapter waits for Redis.
FROZEN_SECONDS: Final = 2.6
_SECONDS: Final = 20.0


async def prepare(site: Site) -> None:
    """Sign those in to whom things happen."""
    await site.sign_in(VICTIM)


async def happens(site: Site, *, store: bool = True) -> None:
    """Let one thing of each kind happen; commands to each replica, for a counter shows from its second count on."""
    for replica in site.fleet.serving:
        commands = pb_grpc.QualityControlStub(replica.channel)
        await _refused(commands)
        await _unknown(site, commands)
    await _gap(site)
    await _pushed_without_token(site)
    await _forgotten(site)
    if store:
        await _store_away(site)


async def _give(call: Any) -> None:
    """Read a command to its end; how it ends is told by the metrics."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for _update in call:
            pass


async def _refused(commands: pb_grpc.QualityControlStub) -> None:
    """The gateway refuses, and so does the adapter."""
    await _give(commands.Intercept(pb.InterceptRequest(agent_id=VICTIM, work_no=AGENT), timeout=_SECONDS))
    await _give(commands.Listen(pb.ListenRequest(agent_id=VICTIM, work_no="nobody"), timeout=_SECONDS))


async def _unknown(site: Site, commands: pb_grpc.QualityControlStub) -> None:
    """The gateway closes the connection instead of a reply, and no event tells what it did."""
    match = {"operation": "addSupervise", "agent_id": VICTIM}
    await site.control("default", "POST", "faults", {"match": match, "action": "reset_before"})
    options = pb.CommandOptions(confirm_within=Duration(seconds=1))
    await _give(commands.Listen(pb.ListenRequest(agent_id=VICTIM, work_no=AGENT, options=options), timeout=_SECONDS))


async def _gap(site: Site) -> None:
    """The reply to a poll is lost on its way."""
    match = {"operation": "getAgentEvent", "agent_id": VICTIM}
    await site.control("default", "POST", "faults", {"match": match, "action": "reset_after"})
    event = {"eventType": "AgentState_Ready", "workNo": VICTIM, "content": None}
    await site.control("default", "POST", "events", {"agent_id": VICTIM, "event": event})


async def _pushed_without_token(site: Site) -> None:
    """Somebody else than the gateway pushes."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with site.http.post(f"{site.push_url}/{PUSHING}", json={}, ssl=trusting) as reply:
        assert reply.status == 401, reply.status


async def _forgotten(site: Site) -> None:
    """The gateway signs an inspector out."""
    await site.sign_in(FORGOTTEN)
    await site.control("default", "DELETE", f"agents/{FORGOTTEN}")


async def _store_away(site: Site) -> None:
    """Redis answers nothing for a while."""
    site.redis.freeze()
    try:
        await asyncio.sleep(FROZEN_SECONDS)
    finally:
        site.redis.thaw()
