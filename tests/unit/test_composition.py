"""The composition root: what it built it takes down, also when a start fails half-way."""

import asyncio
import socket

import pytest

from qc_adapter.app import Adapter
from qc_adapter.cli.serve import start_failed
from qc_adapter.settings import read_settings


def settings(**changes):
    """Settings of an adapter on free ports that has no gateway to reach."""
    environment = {
        "QC_GATEWAY_URL": "http://127.0.0.1:1",
        "QC_LISTEN": "127.0.0.1:0",
        "QC_OPS_LISTEN": "127.0.0.1:0",
        "QC_DRAIN_SECONDS": "0",
        "QC_AUDIT_LOG": "off",
    }
    return read_settings(environment | changes)


async def test_a_stopped_adapter_leaves_no_task():
    """Every task has an owner that ends it."""
    before = asyncio.all_tasks()
    async with Adapter(settings()) as adapter:
        assert adapter.port
        assert asyncio.all_tasks() > before
    assert asyncio.all_tasks() == before


async def test_a_drained_adapter_can_be_stopped():
    """Draining comes before stopping, and neither minds the other's work."""
    before = asyncio.all_tasks()
    adapter = Adapter(settings())
    await adapter.start()
    await adapter.drain()
    await adapter.stop()
    assert asyncio.all_tasks() == before


async def test_a_start_that_fails_leaves_nothing_behind():
    """When the port for calls is taken, the other one is free again."""
    before = asyncio.all_tasks()
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as probe:
        ops_port = probe.getsockname()[1]
        probe.close()
        adapter = Adapter(
            settings(QC_LISTEN=f"127.0.0.1:{taken.getsockname()[1]}", QC_OPS_LISTEN=f"127.0.0.1:{ops_port}")
        )
        with pytest.raises(OSError, match="cannot listen"):
            async with adapter:
                pytest.fail("it started")
    assert asyncio.all_tasks() == before
    with socket.create_server(("127.0.0.1", ops_port)):
        pass


async def test_an_audit_file_that_cannot_be_made_ends_the_start(tmp_path):
    """Where it went wrong after the settings were read: before any port is open, and with the names of both."""
    before = asyncio.all_tasks()
    missing = tmp_path / "folder" / "audit.jsonl"
    missing.parent.mkdir()
    read = settings(QC_AUDIT_LOG=str(missing))
    missing.parent.rmdir()
    with pytest.raises(FileNotFoundError) as failure:
        async with Adapter(read):
            pytest.fail("it started")
    assert asyncio.all_tasks() == before
    said = start_failed(failure.value)
    assert str(missing) in said.what
    assert "QC_AUDIT_LOG" in said.advice


def test_a_gateway_is_required():
    """An adapter without a gateway is a mistake in the settings, said before anything opens."""
    without = read_settings({"QC_LISTEN": "127.0.0.1:0"}, gateway_required=False)
    with pytest.raises(ValueError, match="QC_GATEWAY_URL"):
        Adapter(without)
