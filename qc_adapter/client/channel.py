"""The connection: one or several replicas behind one channel, whose calls take turns among those that answer."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Final

import grpc

from qc_adapter.client.rotation import CertificateFiles, RotatingChannel

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPTIONS: Final = (
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    # Connections of its own: another channel's to the same replicas is neither shared nor closed.
    ("grpc.use_local_subchannel_pool", 1),
    # A server that is gone without a word is found out in half a minute, also while nothing is called.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A replica that comes back is found within 3 s. The second one is also the time that a connection may take.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)
_LOOKUP_SECONDS: Final = 10.0


def replicas_of(target: str | Sequence[str]) -> tuple[str, ...]:
    """Return the single replicas of a list, or of a text `host:port,host:port`; any other target stays as it is."""
    if not isinstance(target, str):
        return tuple(target)
    if ":///" in target or target.startswith(("dns:", "ipv4:", "ipv6:", "unix:", "xds:")):
        return (target,)
    return tuple(one.strip() for one in target.split(",") if one.strip())


async def open_channel(
    replicas: Sequence[str],
    credentials: grpc.ChannelCredentials | CertificateFiles | None,
    options: Sequence[tuple[str, str | int]],
) -> grpc.aio.Channel | RotatingChannel:
    """
    Open a channel; the first call connects it.

    Raises OSError when a name in a list of several is not known, or a file cannot be read, ValueError when they cannot
    be used.
    """
    if not replicas:
        raise ValueError("no adapter to call: give host:port")
    target, given = replicas[0], [*_OPTIONS]
    if len(replicas) > 1:
        target = await _addresses(replicas)
        # What a certificate is checked against: the list itself is no name.
        given.append(("grpc.default_authority", replicas[0]))
    given += options
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=given)
    if isinstance(credentials, CertificateFiles):
        return RotatingChannel(lambda read: grpc.aio.secure_channel(target, read, options=given), credentials)
    return grpc.aio.secure_channel(target, credentials, options=given)


async def _addresses(replicas: Sequence[str]) -> str:
    """Return the target for several replicas; gRPC takes such a list of addresses only, all of one kind."""
    found: list[list[tuple[int, str]]] = []
    async with asyncio.timeout(_LOOKUP_SECONDS):
        for replica in replicas:
            host, _, port = replica.rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError(f"{replica!r} must be host:port")
            found.append(await _look_up(host.strip("[]"), int(port)))
    for version, scheme in ((4, "ipv4"), (6, "ipv6")):
        chosen = [address for one in found for kind, address in one if kind == version]
        if all(any(kind == version for kind, _ in one) for one in found):
            return f"{scheme}:{','.join(dict.fromkeys(chosen))}"
    raise ValueError("replicas in one list must be all IPv4 or all IPv6")


async def _look_up(host: str, port: int) -> list[tuple[int, str]]:
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    parsed = [ipaddress.ip_address(info[4][0]) for info in infos]
    return [(one.version, f"{one}:{port}" if one.version == 4 else f"[{one}]:{port}") for one in parsed]
