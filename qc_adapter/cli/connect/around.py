"""What `check --connect` looks at: all of it at once, and nothing of it touches an inspector."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from qc_adapter.cli.connect.certificates import look_at_certificates
from qc_adapter.cli.connect.findings import bounded
from qc_adapter.cli.connect.gateway import look_at_gateway
from qc_adapter.cli.connect.keys import look_at_keys
from qc_adapter.cli.connect.ports import look_at_ports
from qc_adapter.cli.connect.push import look_at_push
from qc_adapter.cli.connect.store import look_at_store

if TYPE_CHECKING:
    from qc_adapter.cli.connect.findings import Finding
    from qc_adapter.settings import Settings


async def look_around(settings: Settings) -> list[Finding]:
    """Return what was found of everything that the settings name, in the order of the flow."""
    several = len(settings.gateways) > 1
    looks = [bounded("store", partial(look_at_store, settings))]
    for gateway in settings.gateways:
        part = f"gateway {gateway.name}" if several else "gateway"
        looks.append(bounded(part, partial(look_at_gateway, gateway)))
    looks.append(bounded("certificates", partial(look_at_certificates, settings)))
    looks.append(bounded("ports", partial(look_at_ports, settings)))
    if settings.push is not None:
        looks.append(bounded("push", partial(look_at_push, settings.push)))
    if settings.tokens is not None:
        looks.append(bounded("keys of tokens", partial(look_at_keys, settings.tokens)))
    return [finding for found in await asyncio.gather(*looks) for finding in found]
