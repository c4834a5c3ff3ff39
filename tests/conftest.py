"""What tests of every kind share: a real Redis of their own."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

import pytest

from bench.redis_server import RedisServer, Sentinel

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun in the background of a shell: the processes that tests start would be deaf to Ctrl-C as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_server():
    """One server for the whole run; a test that stops or freezes Redis takes `own_redis_server`."""
    with tempfile.TemporaryDirectory(prefix="qc-redis-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def redis_url(redis_server):
    """The URL of an empty Redis."""
    with redis_server.client() as client:
        client.flushall()
        client.script_flush()
    return redis_server.url


@pytest.fixture
def own_redis_server(tmp_path):
    """A server that the test may stop, start, freeze and thaw."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_sentinel(own_redis_server, tmp_path):
    """A sentinel that watches `own_redis_server` under the name `calls`."""
    sentinel = RedisServer(tmp_path, sentinel_of=Sentinel("calls", own_redis_server.port))
    sentinel.start()
    yield sentinel
    sentinel.stop()


@pytest.fixture
def locked_redis_server(tmp_path):
    """A server with a password."""
    server = RedisServer(tmp_path, password="open-sesame")
    server.start()
    yield server
    server.stop()
