"""What `qc-adapter simulate` does: run until asked to stop, and tell a newcomer what to try."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from qc_adapter.simulator.activity import line
from qc_adapter.simulator.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qc_adapter.simulator.scenario import Scenario
    from qc_adapter.simulator.settings import SimulatorSettings


async def run(
    settings: SimulatorSettings,
    *,
    scenario: Scenario | None = None,
    announce: Callable[[str], object] = print,
    watch_seconds: float = 0.0,
    report: Callable[[str], object] = print,
) -> None:
    """Run the simulator until it is cancelled or the process gets SIGINT or SIGTERM; report what is going on."""
    async with Simulator(settings) as simulator:
        if scenario is not None:
            scenario.apply(simulator)
        announce(offer(simulator))
        with _asked_to_stop() as asked:
            if watch_seconds > 0:
                await _report(simulator, asked, watch_seconds, report)
            await asked.wait()


async def _report(simulator: Simulator, asked: asyncio.Event, seconds: float, report: Callable[[str], object]) -> None:
    """Say what is going on every few seconds, when it is not what was said before."""
    said = ""
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asked.wait()
        if asked.is_set():
            return
        text = line(simulator.floor())
        if text != said:
            report(text)
        said = text


@contextmanager
def _asked_to_stop() -> Iterator[asyncio.Event]:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    taken = []
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, asked.set)
        except (NotImplementedError, RuntimeError, ValueError):
            # Not the main thread, or a platform without it: cancelling still works.
            continue
        taken.append(number)
    try:
        yield asked
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


def _nodes(settings: SimulatorSettings) -> list[str]:
    if settings.nodes == 1:
        return []
    last = settings.node_number + settings.nodes - 1
    return [f"Nodes: AgentGateway{settings.node_number} to AgentGateway{last}."]


def _staff(settings: SimulatorSettings) -> list[str]:
    if not settings.agents:
        return []
    last = settings.first_agent + settings.agents - 1
    calls = f"{settings.calls_per_minute:g} calls a minute"
    return [f"Agents {settings.first_agent} to {last} work by themselves, with {calls}."]


def offer(simulator: Simulator) -> str:
    """Return what the simulator offers, with commands to copy."""
    base = f"{simulator.url}/agentgateway/resource"
    secure = f" and {simulator.tls_url}" if simulator.settings.tls_port is not None else ""
    settings = simulator.settings
    lines = [
        f"CC-Gateway simulator on {simulator.url}{secure}",
        f"GUIDs: {settings.auth_mode}. Agents: 101 to {settings.agent_id_max}, any password.",
        f"Silence of {settings.max_silence_seconds:g} s signs out.",
        *_nodes(settings),
        *_staff(settings),
        "",
        "# Sign inspector 101 in and keep the GUID",
        f"GUID=$(curl -si -X PUT {base}/onlineagent/101/forcelogin -H 'Content-Type: application/json' \\",
        """  -d '{"password": "", "phonenum": "40101"}' | sed -n 's/^Set-GUID: JSESSIONID=//p' | tr -d '\\r')""",
        f"# Read the next event: waits up to {settings.poll_hold_seconds:g} s. Repeat it; a Set-GUID replaces the GUID",
        f'curl -si {base}/agentevent/101 -H "Guid: $GUID"',
    ]
    if settings.control_enabled:
        lines += [
            "# A customer talks with agent 292",
            f"""curl -s -X POST {simulator.url}/simulator/calls -d '{{"agent_id": "292"}}'""",
        ]
    lines += [
        "# Listen to 292; once the phone is picked up, take the call over",
        f'curl -s -X PUT {base}/qualitycontrol/101/addsupervise/292 -H "Guid: $GUID"; sleep 1',
        f'curl -s -X PUT {base}/qualitycontrol/101/intercept/292 -H "Guid: $GUID"',
        "# Be told of the states of 292 and 293 from now on",
        f'curl -s -X POST "{base}/qualitycontrol/101/beginmonitor?agents=292;293" -H "Guid: $GUID"',
    ]
    if settings.control_enabled:
        fault = '{"match": {"operation": "intercept"}, "action": "reset_after"}'
        lines += [
            "# The next intercept is done, but its reply never arrives",
            f"curl -s -X POST {simulator.url}/simulator/faults -d '{fault}'",
            "# The gateway starts again, and is away for 6 s; a node fails, and its sign-ins move",
            f"""curl -s -X POST {simulator.url}/simulator/restart -d '{{"down_seconds": 6}}'""",
            f"curl -s -X POST {simulator.url}/simulator/nodes/{settings.node_number}/fail",
            "# What the gateway saw; what is going on, in full and in figures; everything else on offer",
            f"curl -s {simulator.url}/simulator/record",
            f"curl -s {simulator.url}/simulator/state",
            f"curl -s {simulator.url}/simulator/floor",
            f"curl -s {simulator.url}/simulator",
        ]
    return "\n".join(lines)
