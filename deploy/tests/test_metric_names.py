"""What Prometheus' own checker says of a scrape of an adapter that serves."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess

import aiohttp
import pytest
import trustme
from grpc import StatusCode

from qc_adapter.telemetry.catalogue import CATALOGUE
from scripts.tools import promtool
from tests.support.callers import Caller
from tests.support.opening import opened, simulated


@pytest.fixture
def certificates(tmp_path):
    """The environment of an adapter whose ports have certificates; the port for calls has none to keep it simple."""
    path = tmp_path / "adapter.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    return {
        "QC_PUSH_LISTEN": "127.0.0.1:0",
        "QC_PUSH_URL": "https://127.0.0.1:8443/events",
        "QC_PUSH_TOKEN": "pushtokencanary4711",
        "QC_PUSH_TLS_CERT_FILE": str(path),
        "QC_PUSH_TLS_KEY_FILE": str(path),
    }


@pytest.fixture
async def scrape(certificates):
    """The text that Prometheus gets from an adapter with traffic: confirmed, refused, streamed."""
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(simulated())
        adapter, channel = await opened(stack, {"QC_GATEWAY_URL": gateway.url} | certificates)
        caller = Caller(simulator=gateway, adapter=adapter, channel=channel)
        gateway.sign_in("292")
        assert (await caller.ending(caller.sign_in())).code is StatusCode.OK
        watching = caller.watch()
        assert (await watching.read()).HasField("subscribed")
        await caller.listening()
        assert (await caller.ending(caller.intercept())).outcome == "CONFIRMED"
        assert (await caller.ending(caller.intercept())).code is StatusCode.FAILED_PRECONDITION
        url = f"http://127.0.0.1:{adapter.ops_port}/metrics"
        async with aiohttp.ClientSession() as client, client.get(url) as reply:
            text = await reply.text()
        watching.cancel()
        return text


async def test_promtool_finds_nothing_to_complain_of(scrape):
    """Names, units and help texts follow the conventions, and the text parses."""
    checked = await asyncio.to_thread(
        subprocess.run, [promtool(), "check", "metrics"], input=scrape, capture_output=True, text=True, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


async def test_every_metric_has_series_in_a_scrape(scrape):
    """What the checker looked at is all there is: no metric stays empty with traffic."""
    lines = [line for line in scrape.splitlines() if not line.startswith("#")]
    empty = [row.name for row in CATALOGUE if not any(line.startswith(row.name) for line in lines)]
    assert empty == []
