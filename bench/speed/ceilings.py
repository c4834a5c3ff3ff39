"""How much more the stub of the gateway could take than any server of ours asks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.children import Child
from bench.speed.cpu import cpu_seconds
from bench.speed.figures import Reading

if TYPE_CHECKING:
    from pathlib import Path

_CONNECTIONS: Final = 64


async def measured(folder: Path, *, seconds: float, rounds: int) -> list[Reading]:
    """Measure it, plain and with TLS."""
    readings = []
    for name, options in (("plain", ()), ("TLS", ("--tls",))):
        costs, rates = await _stub(folder, options, seconds, rounds)
        readings.append(Reading(f"The stub of the gateway, {name}: a request", "CPU us", costs))
        readings.append(Reading(f"The stub of the gateway, {name}: beside one caller", "requests/s", rates))
    return readings


async def _stub(
    folder: Path, options: tuple[str, ...], seconds: float, rounds: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    gateway = await Child.start("lean_gateway_child", *options, errors=folder / "stub.err", environment={})
    caller = await Child.start("speed.blast_child", errors=folder / "blast.err", environment={})
    costs, rates = [], []
    try:
        question = ["blast", await gateway.ask("url"), str(_CONNECTIONS), str(seconds)]
        question += [ca] if (ca := await gateway.ask("ca")) else []
        for _ in range(rounds):
            answered, before = (await gateway.ask("counts"))["commands"], cpu_seconds(gateway.pid)
            found = await caller.ask(*question)
            spent = cpu_seconds(gateway.pid) - before
            costs.append(spent / ((await gateway.ask("counts"))["commands"] - answered) * 1e6)
            rates.append(found["answered"] / found["took"])
    finally:
        await caller.stop()
        await gateway.stop()
    return tuple(costs), tuple(rates)
