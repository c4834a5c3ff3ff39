"""What a pod would run, run here: the rendered settings, probes and times, with other ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from bench.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from deploy.tests.manifests import Manifests

PROGRAM: Final = shutil.which("qc-adapter", path=str(Path(sys.executable).parent))
_LISTENS: Final = {"grpc": "QC_LISTEN", "ops": "QC_OPS_LISTEN"}


class Pod:
    """A process with the settings of an overlay, and what the kubelet and people would ask of it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        manifests: Manifests,
        environment: dict[str, str],
        ports: dict[str, int],
    ) -> None:
        self.process = process
        self.environment = environment
        self.ports = ports
        [self.container] = manifests.adapter.pod["containers"]
        self._grace_seconds = manifests.adapter.pod["terminationGracePeriodSeconds"]

    async def probed(self, probe: str) -> int:
        """Return the status that a probe gets; 0 without an answer."""
        asked = self.container[probe]["httpGet"]
        return await self.status(asked["path"], asked["port"])

    async def status(self, path: str, port: str = "ops") -> int:
        """Return the status of a page."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as client,
                client.get(f"http://127.0.0.1:{self.ports[port]}{path}") as reply,
            ):
                return reply.status
        except aiohttp.ClientError:
            return 0

    async def becomes(self, probe: str, status: int) -> None:
        """Wait until a probe gets that status."""
        async with asyncio.timeout(30):
            while await self.probed(probe) != status:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.05)

    async def typed(self, *words: str, given: bytes = b"", **more: str) -> tuple[int, str, str]:
        """Run a command with the pod's own variables, as `kubectl exec` does; return how it ended and what it said."""
        pipe = asyncio.subprocess.PIPE
        environment = self.environment | more
        process = await asyncio.create_subprocess_exec(
            str(PROGRAM), *words, stdin=pipe, stdout=pipe, stderr=pipe, env=environment
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate(given)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def ended(self) -> tuple[int | None, list[dict[str, Any]], bytes]:
        """Send SIGTERM as the kubelet does, wait as long as it would; return exit status, log and audit records."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(self._grace_seconds):
            told, records = await self.process.communicate()
        return self.process.returncode, [json.loads(line) for line in told.splitlines()], records


@contextlib.asynccontextmanager
async def running(
    manifests: Manifests, environment: Mapping[str, str], *, grpc_host: str = "127.0.0.1"
) -> AsyncIterator[Pod]:
    """Start what the container of the manifests starts, with that environment in place of the rendered one."""
    ports = {name: free_port() for name in _LISTENS}
    variables = {name: value for name, value in os.environ.items() if not name.startswith("QC_")} | dict(environment)
    for name, variable in _LISTENS.items():
        assert variables[variable] == f"0.0.0.0:{manifests.adapter.ports[name]}"
        variables[variable] = f"{grpc_host if name == 'grpc' else '127.0.0.1'}:{ports[name]}"
    variables["QC_TARGET"] = variables.get("QC_TARGET", "localhost:0").rpartition(":")[0] + f":{ports['grpc']}"
    [container] = manifests.adapter.pod["containers"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(PROGRAM), *container["args"], stdout=pipe, stderr=pipe, env=variables
    )
    try:
        yield Pod(process, manifests, variables, ports)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
