"""One HTTP client as a process: makes requests and holds polls at the stub of a gateway, as the parent says."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
import httpx
import httpx_aiohttp
import uvloop

from bench.answers import answer
from bench.limits import raise_descriptors
from qc_adapter.gateway import requests
from qc_adapter.gateway.settings import GatewaySettings
from qc_adapter.gateway.transport import GatewayTransport

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH: Final = "/agentgateway/resource"
_GUID: Final = "0a" * 24 + ".AgentGateway0"
_HEADERS: Final = {
    "Content-Type": "application/json; charset=UTF-8",
    "Accept": "application/json",
    "User-Agent": "qc-adapter",
    "Guid": _GUID,
}
_PATIENCE_SECONDS: Final = 30.0
_FIRST: Final = 1000
#: Connections that are kept without a bound, or the client would be measured at closing them.
_ALL: Final = 1 << 20


class Client(Protocol):
    """What is compared: a command, and a poll, of an inspector; both return the body."""

    async def command(self, inspector: int) -> bytes: ...

    async def poll(self, inspector: int) -> bytes: ...


class Ours:
    """The transport of the adapter, with nothing of what stands around it."""

    def __init__(self, url: str) -> None:
        self._transport = GatewayTransport(GatewaySettings(url))

    async def command(self, inspector: int) -> bytes:
        request = requests.listen(str(inspector), "292")
        return (await self._transport.send(request, _HEADERS, _PATIENCE_SECONDS, _untold)).body

    async def poll(self, inspector: int) -> bytes:
        request = requests.poll(str(inspector))
        return (await self._transport.poll(request, _HEADERS, _PATIENCE_SECONDS, _untold)).body


class Aiohttp:
    """A session of aiohttp."""

    def __init__(self, url: str) -> None:
        self._url = url + _PATH
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=_PATIENCE_SECONDS),
        )

    async def command(self, inspector: int) -> bytes:
        url = f"{self._url}/qualitycontrol/{inspector}/addsupervise/292"
        async with self._session.put(url, headers=_HEADERS) as reply:
            return await reply.read()

    async def poll(self, inspector: int) -> bytes:
        async with self._session.get(f"{self._url}/agentevent/{inspector}", headers=_HEADERS) as reply:
            return await reply.read()


class Httpx:
    """A client of httpx, over its own transport or another one."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._client = httpx.AsyncClient(
            base_url=url + _PATH,
            headers=_HEADERS,
            timeout=_PATIENCE_SECONDS,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=_ALL),
            transport=transport,
        )

    async def command(self, inspector: int) -> bytes:
        return (await self._client.put(f"/qualitycontrol/{inspector}/addsupervise/292")).content

    async def poll(self, inspector: int) -> bytes:
        return (await self._client.get(f"/agentevent/{inspector}")).content


def _httpx_aiohttp(url: str) -> Httpx:
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())
    return Httpx(url, httpx_aiohttp.AiohttpTransport(client=session))


CLIENTS: Final[dict[str, Callable[[str], Client]]] = {
    "ours": Ours,
    "aiohttp": Aiohttp,
    "httpx-aiohttp": _httpx_aiohttp,
    "httpx": Httpx,
}


def _untold() -> None:
    """Stand for who is told that bytes go out."""


class Load:
    """What one client is made to do."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._polls: list[asyncio.Task[None]] = []
        self.polled = 0

    async def run(self, count: str, at_once: str) -> float:
        """Send that many commands; return the CPU microseconds of one."""
        left = iter(range(int(count)))

        async def send_on(inspector: int) -> None:
            for _ in left:
                await self._client.command(inspector)

        began = time.process_time()
        await asyncio.gather(*(send_on(_FIRST + number) for number in range(int(at_once))))
        return (time.process_time() - began) / int(count) * 1e6

    async def hold(self, count: str, seconds: str) -> int:
        """Begin to poll for that many inspectors, spread over that time."""

        async def poll_on(inspector: int, pause: float) -> None:
            await asyncio.sleep(pause)
            while True:
                await self._client.poll(inspector)
                self.polled += 1

        for number in range(int(count)):
            pause = number / int(count) * float(seconds)
            self._polls.append(asyncio.create_task(poll_on(_FIRST + number, pause)))
        await asyncio.sleep(float(seconds))
        return len(self._polls)

    def failed(self) -> int:
        """Return how many have stopped to poll."""
        return sum(task.done() for task in self._polls)


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


async def run(name: str, url: str) -> None:
    """Answer until the parent closes the pipe."""
    load = Load(CLIENTS[name](url))
    await answer(
        {
            "run": load.run,
            "hold": load.hold,
            "polled": lambda: load.polled,
            "failed": load.failed,
            "objects": _objects,
        }
    )


if __name__ == "__main__":
    raise_descriptors()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(sys.argv[1], sys.argv[2]))
