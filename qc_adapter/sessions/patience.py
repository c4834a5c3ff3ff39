"""Waits while a gateway switches over: what it refuses with 000-004 was not done, and will be taken a little later."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from qc_adapter.model.errors import GatewayRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qc_adapter.model.deadline import Deadline

T = TypeVar("T")

SWITCHING_OVER: Final = "000-004"
_LONGEST_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 1.0


async def patiently(ask: Callable[[], Awaitable[T]], deadline: Deadline) -> T:
    """Ask, again each second while the gateway switches over, as long as the deadline and half a minute allow."""
    patience = deadline.sooner(_LONGEST_SECONDS)
    while True:
        try:
            return await ask()
        except GatewayRefused as refused:
            if refused.retcode != SWITCHING_OVER or patience.remaining_seconds <= _PAUSE_SECONDS:
                raise
        await asyncio.sleep(_PAUSE_SECONDS)
