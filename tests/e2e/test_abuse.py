"""What `make abuse` does to the ports, in short: the service lives on, serves, and keeps nothing of it."""

import os

import grpc
import pytest
from grpc_health.v1 import health_pb2

from bench.abuse.attacks import ATTACKS, GET, Port
from bench.abuse.http_attacks import HTTP_ATTACKS
from bench.abuse.wire import INITIAL_WINDOW_SIZE, Wire

#: Numbers are a hundredth of those of a run, and connections are held for no time that matters.
_SCALE, _HOLD_SECONDS = 0.01, 0.05


def descriptors():
    """How many descriptors this process has."""
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - a listing is all that is wanted


async def attacked(attack, number):
    """Attack a port, and return what the attackers saw."""
    return await attack(Port("127.0.0.1", number, _SCALE, _HOLD_SECONDS))


@pytest.mark.parametrize("name", ATTACKS)
async def test_abuse_of_the_grpc_port_harms_nobody(site, until, name):
    """After an attack its connections are gone, the caller is served, and no path of it has become a metric."""
    await site.listening("101", "292")
    series = (await site.page("/metrics")).count("\n")
    before = descriptors()
    seen = await attacked(ATTACKS[name], site.adapter.port)
    assert seen["connections"]
    await until(lambda: descriptors() <= before + 2, "the end of the attackers' connections")
    assert (await site.ending(site.get("101"))).code is grpc.StatusCode.OK
    await site.goes_on()
    assert (await site.page("/metrics")).count("\n") < series + 150


async def test_a_header_that_is_no_text_is_quoted_nowhere(site, until):
    """A token with a wrong byte in it is the caller's secret still: no line shows it, and the call ends."""
    wire = await Wire.open("127.0.0.1", site.adapter.port)
    secret = b"Bearer canary-4711-token"
    await wire.send(wire.call(GET, b"", [("authorization", secret + b"\xff\xfe")]))
    await until(lambda: wire.seen["ended"], "the end of the call")
    await wire.close()
    assert b"canary-4711" not in site.tape.getvalue()
    assert (await site.ending(site.get("101"))).code is grpc.StatusCode.OK


# Not the slow bodies: the library waits 10 s for the rest of one that nobody reads, also when its sender is gone.
@pytest.mark.parametrize("name", [name for name in HTTP_ATTACKS if name != "slow_bodies"])
async def test_abuse_of_the_operators_port_harms_nobody(site, until, name):
    """After an attack its connections are gone, and callers and operators are served."""
    await site.listening("101", "292")
    await site.page("/metrics")
    before = descriptors()
    seen = await attacked(HTTP_ATTACKS[name], site.adapter.ops_port)
    assert seen["connections"]
    await until(lambda: descriptors() <= before + 2, "the end of the attackers' connections")
    assert "qc_" in await site.page("/metrics")
    assert (await site.ending(site.get("101"))).code is grpc.StatusCode.OK


async def test_a_watcher_of_the_health_that_reads_nothing_holds_up_nobody(site, until):
    """Its window is shut: others are told all the same, the state may change, and the service may stop."""
    wire = await Wire.open("127.0.0.1", site.adapter.port, settings=[(INITIAL_WINDOW_SIZE, 0)])
    await wire.send(wire.call("/grpc.health.v1.Health/Watch", b""))
    watchers = site.adapter._server._calls._open_to_all
    await until(lambda: watchers._streams == 1, "a watcher")
    watching = site.health.Watch(health_pb2.HealthCheckRequest(), timeout=10)
    assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
    site.adapter._server.serving(serving=False)
    assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watching.cancel()
    await wire.close()
