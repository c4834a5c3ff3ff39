"""From the address in QC_STORE_URL to a link with Redis, or to none for memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.maint_notifications import MaintNotificationsConfig

from qc_adapter.model.session import NO_SECRET, Secret
from qc_adapter.store.link import RedisLink
from qc_adapter.store.sentinels import Sentinels

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["memory", "redis", "sentinel"]


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where the store is. `nodes` are hosts and ports: one Redis, or the sentinels that know the master."""

    kind: Kind
    nodes: tuple[tuple[str, int], ...] = ()
    master_name: str = ""
    db: int = 0
    username: str = ""
    password: Secret = NO_SECRET
    tls: bool = False
    ca_file: str = ""


def parse_store_url(url: str) -> StoreAddress:
    """Return the address, or raise `ValueError` with what to write instead. The text never repeats the URL."""
    scheme = url.partition("://")[0].lower()
    if scheme == "memory":
        if url.lower().rstrip("/") != "memory:":
            raise ValueError("memory:// takes nothing after it")
        return StoreAddress("memory")
    if scheme not in {"redis", "rediss", "redis+sentinel"}:
        raise ValueError("must begin with memory://, redis://, rediss:// or redis+sentinel://")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is not a URL: an IPv6 host stands in [brackets]") from None
    if parts.fragment:
        raise ValueError("has a '#': write it as %23 in a password")
    user_info, _, hosts = parts.netloc.rpartition("@")
    username, _, password = user_info.partition(":")
    sentinel = scheme == "redis+sentinel"
    path = parts.path.strip("/")
    master_name, _, db = path.partition("/") if sentinel else ("", "", path)
    if sentinel and not master_name:
        raise ValueError("needs the master's name: redis+sentinel://host:port,host:port/name/db")
    return StoreAddress(
        kind="sentinel" if sentinel else "redis",
        nodes=tuple(_node(host, 26379 if sentinel else 6379) for host in _hosts(hosts, many=sentinel)),
        master_name=unquote(master_name),
        db=_db(db),
        username=unquote(username),
        password=Secret(unquote(password)),
        tls=scheme == "rediss",
        ca_file=_ca_file(parts.query, tls=scheme == "rediss"),
    )


def open_link(
    url: str,
    *,
    timeout_seconds: float = 2.0,
    on_error: Callable[[str], None] = lambda _operation: None,
) -> RedisLink | None:
    """Return the link to the URL, connected at the first command, or None for memory; `ValueError` if it is no URL."""
    address = parse_store_url(url)
    if address.kind == "memory":
        return None
    options = _connection_options(timeout_seconds)
    mine = options | {"db": address.db, "username": address.username or None}
    mine |= {"password": address.password.reveal() or None, "health_check_interval": 30}
    if address.kind == "sentinel":
        sentinel = Sentinels(list(address.nodes), options)
        # One client for good: each call of master_for would open a pool of its own (redis/redis-py#3433).
        client = sentinel.master_for(address.master_name, **mine)
        return RedisLink(client, timeout_seconds=timeout_seconds, on_error=on_error, on_close=sentinel.aclose)
    [(host, port)] = address.nodes
    if address.tls:
        mine |= {"ssl": True, "ssl_ca_certs": address.ca_file or None}
    client = Redis(host=host, port=port, **mine)
    return RedisLink(client, timeout_seconds=timeout_seconds, on_error=on_error)


def _connection_options(timeout_seconds: float) -> dict[str, Any]:
    """Return what every connection has in common, with nothing left to the library's defaults that matters."""
    return {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        # Once more, and only when the connection failed: after a timeout the caller's patience is used up.
        "retry": Retry(ExponentialWithJitterBackoff(cap=0.1, base=0.01), 1, supported_errors=(RedisConnectionError,)),
        "protocol": 2,
        # Bytes are decoded by the record reader: a bad byte must not break the connection's parser.
        "decode_responses": False,
        # With these on, the pool no longer refuses a connection that has an unread reply on it.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def _hosts(text: str, *, many: bool) -> list[str]:
    hosts = [host.strip() for host in text.split(",")] if many else [text]
    if not all(hosts):
        raise ValueError("needs a host")
    return hosts


def _node(text: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("has a port that is not a number from 1 to 65535") from None
    if not host or port == 0:
        raise ValueError("needs a host, and a port from 1 to 65535")
    return host, port or default_port


def _db(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("has a database that is not a number")
    return int(text or 0)


def _ca_file(query: str, *, tls: bool) -> str:
    options = parse_qs(query)
    unknown = set(options) - ({"ca_file"} if tls else set())
    if unknown:
        raise ValueError("has an option after '?' that is not known: only rediss:// takes one, ca_file")
    path = options.get("ca_file", [""])[-1]
    if path and not _is_file(path):
        raise ValueError("names a ca_file that does not exist")
    return path


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # a name that is too long for one
        return False
