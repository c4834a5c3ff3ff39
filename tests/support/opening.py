"""Opens the parts of a site on free ports of this machine: a simulated gateway, and adapters with a client each."""

from __future__ import annotations

import grpc

from qc_adapter.app import Adapter
from qc_adapter.settings import read_settings
from qc_adapter.simulator import Simulator, SimulatorSettings

_SETTINGS = {
    "QC_LISTEN": "127.0.0.1:0",
    "QC_OPS_LISTEN": "127.0.0.1:0",
    "QC_POLL_PAUSE_SECONDS": "0.005",
    "QC_POLL_HOLD_SECONDS": "1",
    "QC_GATEWAY_TIMEOUT_SECONDS": "5",
    "QC_DRAIN_SECONDS": "0",
    "QC_GRACE_SECONDS": "5",
    "QC_AUDIT_LOG": "off",
}


def simulated(**settings):
    """Return a quick gateway."""
    quick = {"event_delay_seconds": 0.005, "poll_hold_seconds": 1.0, "control_enabled": False}
    return Simulator(SimulatorSettings(**quick | settings))


async def opened(stack, environment):
    """Start an adapter and a channel to it, both of which the stack closes."""
    adapter = await stack.enter_async_context(Adapter(read_settings(_SETTINGS | environment)))
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{adapter.port}", options=options))
    return adapter, channel


PUSH_TOKEN = "pushtokencanary4711"


def pushing(port, **more):
    """The environment of an adapter whose default gateway pushes to it at that port."""
    return {
        "QC_EVENT_SOURCE": "push",
        "QC_PUSH_LISTEN": f"127.0.0.1:{port}",
        "QC_PUSH_URL": f"http://127.0.0.1:{port}/events",
        "QC_PUSH_TOKEN": PUSH_TOKEN,
        "QC_PUSH_RETRY_SECONDS": "0.1",
        "QC_HEARTBEAT_SECONDS": "0.2",
        **more,
    }
