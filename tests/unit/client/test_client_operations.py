"""The client's methods for the commands: one for each, with the request that it stands for."""

from __future__ import annotations

import re

import pytest
from google.protobuf.duration_pb2 import Duration

from qc_adapter.client import Follow, Mode
from qc_adapter.client.command import BATCH, CommandUpdates
from qc_adapter.client.operations import Operations
from qc_adapter.client.timing import Timing
from qc_adapter.commands import monitoring
from qc_adapter.v1 import quality_control_pb2 as qc

RPCS = [method.name for method in qc.DESCRIPTOR.services_by_name["QualityControl"].methods]
#: What a method takes beside the inspector and the agent, and what stands in its request then.
MORE = {
    "Intercept": ({"call_id": "1-1"}, {"call_id": "1-1"}),
    "SwitchMode": ({"mode": Mode.WHISPER}, {"mode": qc.MODE_WHISPER}),
    "ForceRest": ({"seconds": 600, "cause": 7}, {"duration": Duration(seconds=600), "cause": 7}),
    "ForceDropCall": ({"call_id": "1-1"}, {"call_id": "1-1"}),
    "AdjustSkills": ({"skill_ids": (10, 25)}, {"skill_ids": [10, 25]}),
    "Monitor": ({"work_nos": ["292", "293"]}, {"work_nos": ["292", "293"]}),
    "StopMonitoring": ({"work_nos": ["292"]}, {"work_nos": ["292"]}),
}
NO_TARGET = {"ForceDropCall", "Monitor", "StopMonitoring"}


class Noted(Operations):
    """Notes what would be run."""

    async def run(self, rpc, request, **_):
        return rpc, request


@pytest.mark.parametrize("rpc", RPCS)
async def test_every_command_has_its_method(rpc):
    """Named like the rpc, with its request and the options of how to follow it."""
    method = getattr(Noted(), re.sub(r"(?<!^)(?=[A-Z])", "_", rpc).lower())
    given, fields = MORE.get(rpc, ({}, {}))
    target = {} if rpc in NO_TARGET else {"work_no": "292"}
    ran, request = await method("101", **target, **given, request_id="one", follow=Follow.NONE)
    options = qc.CommandOptions(request_id="one", follow=qc.FOLLOW_NONE)
    assert ran == rpc
    assert request == getattr(qc, f"{rpc}Request")(agent_id="101", **target, **fields, options=options)


@pytest.mark.parametrize(("agents", "receipts"), [(1, 1), (BATCH, 1), (BATCH + 1, 2), (2 * BATCH + 1, 3)])
def test_a_call_in_batches_is_complete_with_all_its_receipts(agents, receipts):
    """A stream that breaks after the first of several receipts is to be joined again."""
    request = qc.MonitorRequest(work_nos=["292"] * agents, options=qc.CommandOptions(follow=qc.FOLLOW_NONE))
    updates = CommandUpdates(
        lambda *_: None, request, timeout_seconds=1.0, retry_first_failure=True, timing=Timing(), jitter=lambda: 1.0
    )
    for number in range(receipts):
        assert not updates._complete
        told = qc.CommandUpdate(cursor="m-1", accepted=qc.CommandAccepted(method="beginMonitor"))
        told.accepted.time.FromSeconds(1000 + number)
        assert updates._told.admits(told)
        assert not updates._told.admits(told)
    assert updates._complete


def test_both_ends_know_the_same_batches():
    """The client counts the receipts that the adapter gives."""
    assert BATCH == monitoring.BATCH
