"""The replicas of a chaos run: real adapter processes that come, go, freeze and die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import grpc

from bench.chaos.proxy import Proxy
from bench.children import ROOT
from bench.ports import free_port
from qc_adapter.audit.verify import Verifier

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping
    from pathlib import Path

    from bench.chaos.balancer import Balancer

START_SECONDS: Final = 30.0
END_SECONDS: Final = 40.0
_LOOK_SECONDS: Final = 0.02
_SERVE: Final = "import sys; from qc_adapter.cli import main; sys.argv[0] = 'qc-adapter'; sys.exit(main())"
#: Lines that only a defect writes.
DEFECTS: Final = frozenset({"call_failed", "reader_failed", "look_failed", "health_check_failed"})
_CHANNEL: Final = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))


class Replica:
    """One adapter process, its way to Redis, and a channel to it."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, proxy: Proxy | None, log: Path, push_port: int = 0
    ) -> None:
        self.name = name
        self.process = process
        self.proxy = proxy
        #: Where it takes pushes; 0 if it takes none.
        self.push_port = push_port
        self._log = log
        self.frozen = False
        #: Where it listens; known once it has started.
        self.listen = ""
        self.channel: grpc.aio.Channel | None = None

    async def started(self) -> None:
        """Wait for the log line that says where it listens."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                lines = await asyncio.to_thread(self.lines)
                found = next((line for line in lines if line.get("event") == "started"), None)
                if found is not None:
                    break
                if self.process.returncode is not None:
                    raise RuntimeError(f"{self.name} does not start: {self.last_words()}")
                await asyncio.sleep(_LOOK_SECONDS)
        self.listen = str(found["listen"])
        self.channel = grpc.aio.insecure_channel(self.listen, options=_CHANNEL)

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged; the last line may not be whole yet."""
        found = []
        for line in self._log.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def last_words(self) -> str:
        """Return the end of its standard error."""
        return self._log.with_suffix(".err").read_text(errors="replace")[-2000:].strip()

    def problems(self) -> list[str]:
        """Return what its logs hold that must not be."""
        found = [
            f"{self.name} logged {line['event']}: {str(line.get('exception', '')).strip().rpartition(chr(10))[2]}"
            for line in self.lines()
            if line.get("event") in DEFECTS
        ]
        found += self._breaks()
        if words := self.last_words():
            found.append(f"{self.name} wrote to standard error: {words}")
        return found

    def _breaks(self) -> list[str]:
        """Return what is wrong with its audit records; a process that was killed has not ended its chain."""
        path = self._log.with_suffix(".audit")
        if not path.exists():  # an older version keeps none
            return []
        verifier = Verifier()
        with path.open("rb") as file:
            verifier.read(path.name, file)
        kinds = sorted(verifier.finish().counts.keys() - {"not_ended"})
        return [f"{self.name} has audit records with breaks: {', '.join(kinds)}"] if kinds else []


class Fleet:
    """All replicas; `serving` are those that callers know of, as a headless service would tell them."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        redis_port: int | None,
        chance: random.Random,
        balancer: Balancer | None = None,
    ) -> None:
        """With a balancer each replica has a port for pushes, and the one that they go to changes with the replicas."""
        self._folder = folder
        self.environment = dict(environment)
        self._redis_port = redis_port
        self._chance = chance
        self.balancer = balancer
        #: What the next ones run with: this tree, or the environment that another version is installed in.
        self.python = sys.executable
        self._born = 0
        self._all: list[Replica] = []
        self.serving: list[Replica] = []
        self.violations: list[str] = []

    def any(self, but: Replica | None = None) -> Replica | None:
        """Return a replica by chance, not that one if there is another."""
        others = [replica for replica in self.serving if replica is not but]
        return self._chance.choice(others or self.serving) if self.serving else None

    async def start(self, number: int = 1) -> list[Replica]:
        """Start some more, all at once."""
        return list(await asyncio.gather(*(self._start_one() for _ in range(number))))

    async def _start_one(self) -> Replica:
        self._born += 1
        name = f"replica-{self._born}"
        proxy, environment = None, dict(self.environment)
        if self._redis_port is not None:
            proxy = Proxy(self._redis_port)
            await proxy.start()
            environment["QC_STORE_URL"] = f"redis://127.0.0.1:{proxy.port}/0"
        push_port = free_port() if self.balancer is not None else 0
        if push_port:
            environment["QC_PUSH_LISTEN"] = f"127.0.0.1:{push_port}"
        log = self._folder / f"{name}.log"
        environment["QC_AUDIT_LOG"] = str(log.with_suffix(".audit"))
        clean, place = _clean(environment), ROOT
        if self.python != sys.executable:
            clean.pop("PYTHONPATH", None)
            place = self._folder  # Python looks for packages there first
        with log.open("wb") as out, log.with_suffix(".err").open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                self.python, "-c", _SERVE, "serve", cwd=place, env=clean, stdout=out, stderr=errors
            )
        replica = Replica(name, process, proxy, log, push_port)
        self._all.append(replica)
        await replica.started()
        self.serving.append(replica)
        if self.balancer is not None and self.balancer.replica is None:
            self.balancer.point(replica)
        return replica

    def push_elsewhere(self, replica: Replica) -> None:
        """Let pushes go to another replica than this one, as a balancer does that looks at readiness."""
        if self.balancer is not None and self.balancer.replica is replica:
            self.balancer.point(next((one for one in self.serving if one is not replica), None))

    async def terminate(self, replica: Replica) -> None:
        """End it as a rollout does, and wait for that."""
        self.serving.remove(replica)
        self.push_elsewhere(replica)
        if replica.process.returncode is not None:
            return  # noted at the end: nobody had told it to
        replica.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(END_SECONDS):
                code = await replica.process.wait()
        except TimeoutError:
            replica.process.kill()
            code = await replica.process.wait()
        if code != 0:
            self.violations.append(f"{replica.name} was told to end and exited with {code}")
        await self._gone(replica)

    async def kill(self, replica: Replica) -> None:
        """Let it die as a node does."""
        self.serving.remove(replica)
        replica.process.kill()
        await replica.process.wait()
        self.push_elsewhere(replica)
        await self._gone(replica)

    async def _gone(self, replica: Replica) -> None:
        self._all.remove(replica)
        self.violations += await asyncio.to_thread(replica.problems)
        await _close(replica)

    def freeze(self, replica: Replica) -> None:
        """Stop it in the middle of whatever it does; callers still know of it."""
        replica.process.send_signal(signal.SIGSTOP)
        replica.frozen = True

    def thaw(self, replica: Replica) -> None:
        """Let it go on."""
        replica.process.send_signal(signal.SIGCONT)
        replica.frozen = False

    def check(self) -> list[str]:
        """Return what went wrong with processes since the check before; a dead one is replaced by nobody."""
        for replica in tuple(self._all):
            if replica.process.returncode is not None:
                self.violations.append(f"{replica.name} died by itself with {replica.process.returncode}")
                self.violations.append(replica.last_words())
                self._all.remove(replica)
                if replica in self.serving:
                    self.serving.remove(replica)
        found, self.violations = self.violations, []
        return found

    async def end(self) -> list[str]:
        """End all of them in order and return what was wrong."""
        found = self.check()
        await asyncio.gather(*(self.terminate(replica) for replica in tuple(self.serving)))
        return found + self.check()

    async def close(self) -> None:
        """Kill whatever is left."""
        for replica in tuple(self._all):
            if replica.process.returncode is None:
                replica.process.kill()
                await replica.process.wait()
            await _close(replica)
        self._all.clear()
        self.serving.clear()


async def _close(replica: Replica) -> None:
    if replica.channel is not None:
        await replica.channel.close()
    if replica.proxy is not None:
        await replica.proxy.stop()


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process without settings that happen to be around."""
    return {name: value for name, value in os.environ.items() if not name.startswith("QC_")} | dict(environment)
