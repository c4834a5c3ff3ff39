"""
Sends spans to a collector, if the settings name one and the SDK is installed (the extra `tracing`).

Nothing of the SDK is imported without need: it costs memory and time that a replica without traces does not have to
spend. What goes wrong here costs traces and nothing else.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from qc_adapter.model.version import version

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from qc_adapter.telemetry.sdk import Pipeline

INSTALL: Final = "pip install qc-adapter[tracing]"
SERVICE_NAME: Final = "qc-adapter"
#: What spans that are still in hand may cost at the end of the process, and what giving them up may cost then.
FLUSH_SECONDS: Final = 2.0
GIVE_UP_SECONDS: Final = 0.5
_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.grpc.trace_exporter")


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """
    Where spans go and which ones: `sampler` is one of the names of OTEL_TRACES_SAMPLER.

    The SDK reads the rest (headers, certificates, batches, limits) from the environment by itself.
    """

    endpoint: str
    sampler: str = "parentbased_always_on"
    ratio: float = 1.0


def installed() -> bool:
    """Whether the SDK and the exporter can be imported."""
    return all(map(_found, _NEEDED))


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a package above it is missing
        return False


class Export:
    """The pipeline of one replica. Without settings, or without the SDK, it does nothing and has no provider."""

    def __init__(self, settings: TracingSettings | None, instance: str) -> None:
        """Take the settings and the name of this replica."""
        self._pipeline: Pipeline | None = None
        if settings is not None and installed():
            self._pipeline = _build(settings, instance)

    @property
    def provider(self) -> TracerProvider | None:
        """Where tracers come from."""
        return None if self._pipeline is None else self._pipeline.provider

    def start(self) -> None:
        """Begin to send."""
        if self._pipeline is not None:
            self._pipeline.start()

    async def stop(self) -> None:
        """
        Send what is in hand, for a moment; then give it up.

        The SDK would wait for up to half a minute, in its own thread and ours. A thread that nobody waits for asks it,
        so a collector that hangs keeps neither the loop nor the process.
        """
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is None:
            return
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def flush() -> None:
            try:
                pipeline.flush()
            finally:
                _tell(loop, done)

        threading.Thread(target=flush, name="last spans", daemon=True).start()
        if not await _within(done, FLUSH_SECONDS):
            pipeline.give_up()
            await _within(done, GIVE_UP_SECONDS)
        pipeline.close()


def _tell(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(done.set)


async def _within(done: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        return False
    return True


def _build(settings: TracingSettings, instance: str) -> Pipeline | None:
    from qc_adapter.telemetry.sdk import Pipeline  # noqa: PLC0415 - the SDK is an extra

    own = {"service.name": SERVICE_NAME, "service.version": version()}
    try:
        return Pipeline(settings, own | {"service.instance.id": instance})
    except Exception as unforeseen:  # noqa: BLE001 - a variable of the SDK that it cannot read; calls come first
        detail = f"{type(unforeseen).__name__}: {unforeseen}"
        structlog.get_logger().warning("traces_off", detail=detail)
        return None
