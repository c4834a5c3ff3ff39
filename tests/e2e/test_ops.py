"""What the cluster and Prometheus see on the ops port, over a real socket."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from qc_adapter.environment import Listen
from qc_adapter.model.errors import StoreUnavailable
from qc_adapter.ops import Check, OpsServer
from qc_adapter.sessions.opening import open_store
from qc_adapter.store.opening import open_link
from qc_adapter.telemetry.labels import label_sets
from qc_adapter.telemetry.metrics import Metrics


@asynccontextmanager
async def serving(checks=None, registry=None, **options):
    """An ops server on a free port, and a function that gets a page."""
    server = OpsServer(Listen("127.0.0.1", 0), registry or CollectorRegistry(), checks or {}, **options)
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as client:

            async def get(path, **kwargs):
                async with client.get(path, **kwargs) as reply:
                    body = await (reply.json() if reply.content_type == "application/json" else reply.text())
                    return reply.status, body, reply.headers["Content-Type"]

            yield get
    finally:
        await server.stop()


async def test_metrics_are_served_from_the_own_registry():
    """Prometheus reads the catalogue in the text format."""
    registry = CollectorRegistry()
    Metrics(registry, label_sets({"default"}, {"intercept"}, {"0"}, set())).request_finished(
        "default", "intercept", "OK", 0.1
    )
    async with serving(registry=registry) as get:
        status, text, content_type = await get("/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    assert 'qc_requests_total{code="OK",gateway="default",method="intercept"} 1.0\n' in text
    assert "python_info" not in text


async def test_openmetrics_is_served_when_asked_for():
    """A scraper that accepts OpenMetrics gets it."""
    async with serving() as get:
        status, text, content_type = await get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert status == 200
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


async def test_many_who_want_metrics_at_once_share_them():
    """The page is made for all who wait, so that many scrapes cost what a few do; none is older than its question."""
    registry, made = CollectorRegistry(), []

    class Counting:
        def collect(self):
            made.append(time.monotonic())
            time.sleep(0.01)  # what a page costs
            return []

    registry.register(Counting())
    made.clear()
    async with serving(registry=registry) as get:
        await asyncio.gather(*(get("/metrics") for _ in range(50)))
        assert 1 <= len(made) < 25
        before = len(made)
        await get("/metrics")
        assert len(made) == before + 1


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=abc", "text/plain;version=.."])
async def test_a_client_with_an_odd_version_gets_the_plain_page(accept):
    """What a client says that it accepts may be any text, and is no fault of ours."""
    async with serving() as get:
        status, _, content_type = await get("/metrics", headers={"Accept": accept})
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")


async def test_a_running_loop_is_alive():
    """Right after start the process is alive, without any check."""
    async with serving({"store": lambda: Check(ok=False)}) as get:
        status, body, _ = await get("/livez")
    assert (status, body["alive"]) == (200, True)


async def test_a_loop_that_stopped_ticking_is_not_alive():
    """When the last tick is too old the process asks to be restarted, and says why."""
    now = [100.0]
    async with serving(clock=lambda: now[0], tick_seconds=3600, stuck_after_seconds=10) as get:
        now[0] += 9
        assert (await get("/livez"))[0] == 200
        now[0] += 2
        status, body, _ = await get("/livez")
    assert status == 503
    assert body == {"alive": False, "last_tick_seconds_ago": 11.0, "stuck_after_seconds": 10}


async def test_a_tick_makes_alive_again():
    """A loop that was held up and goes on is alive with its next tick."""
    now = [100.0]
    async with serving(clock=lambda: now[0], tick_seconds=0.01, stuck_after_seconds=10) as get:
        now[0] += 1000
        async with asyncio.timeout(10):
            while (await get("/livez"))[0] != 200:
                pass


async def test_a_late_tick_tells_how_late_it_was():
    """What a turn of the loop took longer than asked for is heard of; a tick in time is 0 late."""
    now, lags = [100.0], []
    async with serving(clock=lambda: now[0], tick_seconds=0.5, lagged=lags.append) as get:
        now[0] += 3.0
        async with asyncio.timeout(10):
            while len(lags) < 2:
                await get("/livez")
    assert lags[:2] == [2.5, 0.0]


async def test_a_check_that_is_left_out_does_not_count():
    """A probe that leaves the gateway out is told of the rest alone; a name that is no check leaves nothing out."""
    checks = {"store": lambda: Check(ok=True), "gateway": lambda: Check(ok=False)}
    async with serving(checks) as get:
        status, body, _ = await get("/readyz?exclude=gateway")
        assert (status, list(body["checks"])) == (200, ["store"])
        assert (await get("/readyz?exclude=gatewai"))[0] == 503
        assert (await get("/readyz"))[0] == 503


async def test_ready_when_every_check_passes():
    """Plain and awaited checks are named with their detail."""

    async def store():
        return Check(ok=True, detail="answers")

    async with serving({"store": store, "draining": lambda: Check(ok=True)}) as get:
        status, body, _ = await get("/readyz")
    assert status == 200
    assert body == {
        "ready": True,
        "checks": {"store": {"ok": True, "detail": "answers"}, "draining": {"ok": True, "detail": ""}},
    }


async def test_one_failing_check_is_enough_to_be_unready():
    """Each reason is told: a failed, a raising, a broken and a stuck check, without secrets."""

    def raising():
        raise StoreUnavailable("ping", "the connection failed")

    def broken():
        raise ValueError("canary")

    async def stuck():
        await asyncio.Event().wait()

    checks = {
        "fine": lambda: Check(ok=True),
        "gateway": lambda: Check(ok=False, detail="Guid: canary"),
        "store": raising,
        "broken": broken,
        "stuck": stuck,
    }
    async with serving(checks, check_seconds=0.05) as get:
        status, body, _ = await get("/readyz")
    details = {name: result["detail"] for name, result in body["checks"].items()}
    assert (status, body["ready"]) == (503, False)
    assert [name for name, result in body["checks"].items() if result["ok"]] == ["fine"]
    assert "the connection failed" in details["store"]
    assert details["broken"] == "the check failed with ValueError"
    assert details["stuck"] == "no answer within 0.05 s"
    assert "canary" not in str(body)


async def test_readiness_follows_the_store(own_redis_server):
    """With the store away the replica is unready, and ready again when it is back."""
    store = open_store(open_link(own_redis_server.url))

    async def ping():
        await store.ping()
        return Check(ok=True)

    async with serving({"store": ping}) as get:
        assert (await get("/readyz"))[0] == 200
        own_redis_server.stop()
        status, body, _ = await get("/readyz")
        assert status == 503
        assert "Connection refused" in body["checks"]["store"]["detail"]
        own_redis_server.start()
        assert (await get("/readyz"))[0] == 200
    await store.close()


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics/", "/a/b?c=d"])
async def test_an_unknown_path_lists_the_pages(path):
    """Whoever guesses wrong is told what there is."""
    async with serving() as get:
        status, body, _ = await get(path)
    assert status == 404
    assert body["pages"] == ["/metrics", "/livez", "/readyz"]


async def test_probes_leave_no_log_lines(caplog):
    """A page that is asked for every few seconds is not logged."""
    caplog.set_level(logging.DEBUG, logger="aiohttp")
    async with serving() as get:
        await get("/livez")
        await get("/metrics")
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


async def test_a_taken_port_is_an_error_that_leaves_nothing_behind():
    """Start fails with OSError, and the server can be stopped all the same."""
    first = OpsServer(Listen("127.0.0.1", 0), CollectorRegistry(), {})
    await first.start()
    second = OpsServer(Listen("127.0.0.1", first.port), CollectorRegistry(), {})
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    await second.stop()
    await first.stop()
    with pytest.raises(RuntimeError):
        _ = first.port
