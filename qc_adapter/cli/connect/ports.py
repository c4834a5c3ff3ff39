"""Our own ports: whether serve could listen, unless it does so already."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from qc_adapter import variables as at
from qc_adapter.cli.connect.findings import resolved

if TYPE_CHECKING:
    from qc_adapter.cli.connect.findings import Findings
    from qc_adapter.environment import Listen, Variable
    from qc_adapter.settings import Settings

_CHANGES: Final = {
    errno.EADDRINUSE: "choose another port, or end what listens there",
    errno.EACCES: "choose a port from 1024 on: lower ones need a right of their own",
    errno.EADDRNOTAVAIL: "choose an address of this machine, or 0.0.0.0 for all",
}
_ALIVE_SECONDS: Final = 2.0


async def look_at_ports(settings: Settings, findings: Findings) -> None:
    """Say which address cannot be listened on. In a pod that serves they are taken, by ourselves."""
    findings.begin("our own ports", "")
    if settings.ops_listen.port and await _serves(settings.ops_listen):
        findings.good(f"an adapter serves here: /livez answers at {settings.ops_listen}")
        return
    listens: list[tuple[Variable[Any], Listen]] = [(at.LISTEN, settings.listen), (at.OPS_LISTEN, settings.ops_listen)]
    if settings.push is not None:
        listens.append((at.PUSH_LISTEN, settings.push.listen))
    for variable, listen in listens:
        try:
            await _try(listen)
        except OSError as error:
            number = max(0, error.errno or 0)  # what a name server says is below 0
            why = os.strerror(number) if number else "it is no address"
            change = _CHANGES.get(number, _CHANGES[errno.EADDRNOTAVAIL])
            findings.problem(f"{variable.name} {listen} cannot be listened on: {why}", change)
        else:
            findings.good(f"{variable.name} {listen} can be listened on")


async def _try(listen: Listen) -> None:
    for family, address in await resolved(listen.host, listen.port):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            probe.bind(address)
            probe.listen()


async def _serves(ops: Listen) -> bool:
    """Whether an adapter answers on the ops port."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(ops.host, ops.host)
    address = f"[{host}]" if ":" in host else host
    timeout = aiohttp.ClientTimeout(total=_ALIVE_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as client,
            client.get(f"http://{address}:{ops.port}/livez", allow_redirects=False) as reply,
        ):
            said = await reply.json()
    except (aiohttp.ClientError, OSError, ValueError):
        return False
    return isinstance(said, dict) and "alive" in said
