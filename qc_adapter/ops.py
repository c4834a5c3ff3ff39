"""The port for operators and the cluster: /metrics, /livez, /readyz. No call passes through here."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from qc_adapter.http_listener import HttpListener
from qc_adapter.model.errors import AdapterError
from qc_adapter.telemetry.redaction import scrub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from prometheus_client import CollectorRegistry

    from qc_adapter.environment import Listen


@dataclass(frozen=True, slots=True)
class Check:
    """What one condition of readiness came to; `detail` is for people."""

    ok: bool
    detail: str = ""


#: Of the time that the page of metrics takes, for all others before it is made again.
_REST_TIMES: Final = 4

CheckFunction: TypeAlias = "Callable[[], Check | Awaitable[Check]]"


class Heartbeat:
    """A task that notes at each tick that the event loop still gets round, and how late; it knows nothing else."""

    def __init__(self, clock: Callable[[], float], tick_seconds: float, lagged: Callable[[float], None]) -> None:
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._lagged = lagged
        self._last_tick = clock()
        self._task: asyncio.Task[None] | None = None

    @property
    def age_seconds(self) -> float:
        """Seconds since the last tick."""
        return self._clock() - self._last_tick

    def start(self) -> None:
        """Begin to tick; the start counts as the first one."""
        self._last_tick = self._clock()
        self._task = asyncio.create_task(self._beat(), name="ops-heartbeat")

    async def stop(self) -> None:
        """End the task and wait for its end."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._tick_seconds)
            asked_for, self._last_tick = self._last_tick + self._tick_seconds, self._clock()
            self._lagged(max(0.0, self._last_tick - asked_for))


async def _nothing_to_count() -> None:
    """Stand in where all that the metrics tell is counted as it happens."""


class MetricsPage:
    """
    The metrics as text, made once for all who asked before it was begun.

    To make it takes the event loop some milliseconds: it is left alone for a multiple of these between two of them, so
    that many who ask cannot hold up calls.
    """

    def __init__(self, registry: CollectorRegistry, counted: Callable[[], Awaitable[None]]) -> None:
        self._registry = registry
        self._counted = counted
        self._making = asyncio.Lock()
        self._made: tuple[str, float, bytes] = ("", 0.0, b"")
        self._rest_until = 0.0

    async def text(self, accept: str) -> tuple[bytes, str]:
        """Return the page as a client accepts it, and its type."""
        asked_at = time.monotonic()
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is none, in what a client accepts
            encode, content_type = choose_encoder("")
        async with self._making:
            kind, begun_at, page = self._made
            if kind != content_type or begun_at < asked_at:
                await asyncio.sleep(max(0.0, self._rest_until - time.monotonic()))
                begun_at = time.monotonic()
                await self._counted()
                page = encode(self._registry)
                self._made = (content_type, begun_at, page)
                ended_at = time.monotonic()
                self._rest_until = ended_at + _REST_TIMES * (ended_at - begun_at)
        return page, content_type


class OpsServer:
    """
    Serves the registry and the state of the process over plain HTTP.

    Alive means that the event loop made a turn within `stuck_after_seconds`; only a restart helps otherwise. Ready
    means that every check passes within `check_seconds`; it says whether to send calls here. `lagged` hears of each
    tick how late it came. `counted` is awaited before each page of metrics: there is counted what takes long to count.
    """

    def __init__(
        self,
        listen: Listen,
        registry: CollectorRegistry,
        checks: Mapping[str, CheckFunction],
        *,
        stuck_after_seconds: float = 10.0,
        tick_seconds: float = 0.25,
        check_seconds: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
        lagged: Callable[[float], None] = lambda _seconds: None,
        counted: Callable[[], Awaitable[None]] = _nothing_to_count,
    ) -> None:
        self._listener = HttpListener(listen, stop_seconds=1.0)
        self._metrics_page = MetricsPage(registry, counted)
        self._checks = dict(checks)
        self._stuck_after_seconds = stuck_after_seconds
        self._check_seconds = check_seconds
        self._heartbeat = Heartbeat(clock, tick_seconds, lagged)
        self._pages = {
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
        }

    @property
    def port(self) -> int:
        """The port that is listened on; known after `start`."""
        return self._listener.port

    async def start(self) -> None:
        """Listen; raises `OSError` when the address cannot be had."""
        app = web.Application()
        for path, page in self._pages.items():
            app.router.add_get(path, page)
        app.router.add_route("*", "/{path:.*}", self._elsewhere)
        await self._listener.start(app)
        self._heartbeat.start()

    async def stop(self) -> None:
        """Stop listening; a page that is being written gets a second to end."""
        await self._heartbeat.stop()
        await self._listener.stop()

    async def _metrics(self, request: web.Request) -> web.Response:
        page, content_type = await self._metrics_page.text(request.headers.get("Accept", ""))
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def _livez(self, _request: web.Request) -> web.Response:
        age_seconds = self._heartbeat.age_seconds
        alive = age_seconds <= self._stuck_after_seconds
        body = {
            "alive": alive,
            "last_tick_seconds_ago": round(age_seconds, 3),
            "stuck_after_seconds": self._stuck_after_seconds,
        }
        return _json(200 if alive else 503, body)

    async def _readyz(self, request: web.Request) -> web.Response:
        # As Kubernetes' own servers have it: a check that is left out is not asked. An unknown name leaves nothing out.
        left_out = request.query.getall("exclude", [])
        checks = {name: check for name, check in self._checks.items() if name not in left_out}
        results = await asyncio.gather(*map(self._result, checks.values()))
        ready = all(result.ok for result in results)
        shown = {
            name: {"ok": result.ok, "detail": scrub(result.detail)}
            for name, result in zip(checks, results, strict=True)
        }
        return _json(200 if ready else 503, {"ready": ready, "checks": shown})

    async def _result(self, check: CheckFunction) -> Check:
        try:
            async with asyncio.timeout(self._check_seconds):
                result = check()
                return await result if inspect.isawaitable(result) else result
        except TimeoutError:
            return Check(ok=False, detail=f"no answer within {self._check_seconds:g} s")
        except AdapterError as error:
            return Check(ok=False, detail=error.message)
        except Exception as error:  # noqa: BLE001 - a check that fails in an unforeseen way is a failed check
            return Check(ok=False, detail=f"the check failed with {type(error).__name__}")

    async def _elsewhere(self, _request: web.Request) -> web.Response:
        return _json(404, {"error": "there is no such page", "pages": list(self._pages)})


def _json(status: int, body: object) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
