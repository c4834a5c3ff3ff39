"""The session store: whether Redis answers, takes writes, forgets nothing by itself, and holds sessions of ours."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from qc_adapter import variables as at
from qc_adapter.cli.connect.findings import resolved
from qc_adapter.model.errors import SessionUnreadable, StoreUnavailable
from qc_adapter.model.inspector import gateway_of
from qc_adapter.sessions.records import PLAIN, Records, forms_of
from qc_adapter.sessions.redis import RedisSessionStore
from qc_adapter.sessions.script import ASKS
from qc_adapter.store import keys
from qc_adapter.store.opening import open_link, parse_store_url
from qc_adapter.store.script import Script
from qc_adapter.store.seal import Seal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.cli.connect.findings import Findings
    from qc_adapter.settings import Settings
    from qc_adapter.store.link import RedisLink

_OLDEST: Final = (6, 2)
_LINK_SECONDS: Final = 2.0
#: So many records are read; who has more learns of those.
_MOST_RECORDS: Final = 2000
_BATCH: Final = 50
_MOST_NAMED: Final = 3
#: A script, since all that the adapter writes is written by scripts. ARGV: the key. It ends by itself.
_WRITE: Final = Script.of("return redis.call('SET', ARGV[1], '1', 'PX', 1000)")
_URL: Final = at.STORE_URL.name
_CHANGES: Final = (
    ("credentials", f"check user and password in {_URL} (redis://user:password@host:port/db); '@' stands there as %40"),
    ("certificate is not trusted", f"name the file with the CA that signed it in {_URL}: rediss://...?ca_file=/path"),
    ("TLS handshake", f"check that the port in {_URL} speaks TLS; without it the URL begins with redis://"),
    ("no sentinel", f"check hosts and the master's name in {_URL}: redis+sentinel://host:port,host:port/name/db"),
    ("takes no writes", f"name the master in {_URL}, or let Sentinel find it: redis+sentinel://...; see its replicas"),
    ("OOM", "give Redis more memory"),
    ("NOPERM", "allow the user of the adapter all commands on the keys and channels qc:*"),
)


async def look_at_store(settings: Settings, findings: Findings) -> None:
    """Go as far as it goes; what fails says what to change."""
    url = settings.store_url.reveal()
    address = parse_store_url(url)
    if address.kind == "memory":
        findings.good("memory: sessions end with the process, and there is one replica")
        return
    findings.begin("the session store", f"check host and port in {_URL}, and network policies on the way")
    known = await asyncio.gather(*(_resolves(host, port) for host, port in address.nodes))
    if not any(known):
        hosts = ", ".join(host for host, _ in address.nodes)
        findings.problem(f"the session store cannot be reached: {hosts} does not resolve", findings.change)
        return
    link = open_link(url, timeout_seconds=_LINK_SECONDS)
    if link is None:
        raise TypeError("only memory has no link")
    try:
        await _look(link, settings, findings, sentinel=address.kind == "sentinel")
    except StoreUnavailable as failure:
        findings.problem(failure.message, _change(failure, findings.change))
    finally:
        await link.close()


async def _resolves(host: str, port: int) -> bool:
    try:
        await resolved(host, port)
    except OSError:
        return False
    return True


def _change(failure: StoreUnavailable, otherwise: str) -> str:
    return next((change for words, change in _CHANGES if words in failure.message), otherwise)


async def _look(link: RedisLink, settings: Settings, findings: Findings, *, sentinel: bool) -> None:
    await link.command("ping", "PING")
    try:
        info = await link.command("info", "INFO")
    except StoreUnavailable as failure:
        findings.good("answers")
        findings.warning(
            f"INFO is not allowed ({failure.message}): version, role, persistence and memory policy are not known",
            "allow the user INFO, or look at them yourself: 6.2 or newer, appendonly yes, noeviction",
        )
    else:
        findings.good(f"answers: Redis {info.get('redis_version', 'of an unknown version')}")
        _judge(info, findings, sentinel=sentinel)
        if info.get("role") == "slave":
            text = "this server is a replica: what is written there is lost, if it takes writes at all"
            findings.problem(text, dict(_CHANGES)["takes no writes"])
            return
    await _write(link, findings)
    await _look_at_records(link, settings, findings)


async def _write(link: RedisLink, findings: Findings) -> None:
    try:
        await link.script("write", _WRITE, f"{keys.CHECK}{secrets.token_hex(6)}")
    except StoreUnavailable as failure:
        findings.problem(failure.message, _change(failure, "allow the user SET, EVAL and EVALSHA on qc:*"))
    else:
        findings.good("takes writes")


def _judge(info: Mapping[str, Any], findings: Findings, *, sentinel: bool) -> None:
    """Say what of the server's own account does not fit."""
    version = str(info.get("redis_version", ""))
    if version and tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < _OLDEST:
        findings.problem(f"Redis {version} is too old", "run Redis 6.2 or newer, or Valkey")
    if info.get("redis_mode") == "cluster":
        findings.problem("this is a Redis Cluster, which is not supported", "run one Redis, or three with Sentinel")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        findings.warning(f"maxmemory-policy is {policy}: a full Redis forgets sessions", "set it to noeviction")
    if not info.get("aof_enabled", 1):
        findings.warning(
            "appendonly is no: a Redis that starts again has lost what came since its last snapshot",
            "set appendonly to yes",
        )
    if sentinel and info.get("role") == "master":
        if not info.get("connected_slaves"):
            findings.warning("the master has no replica: nothing can take over", "run two replicas beside it")
        if "min_slaves_good_slaves" not in info:  # told only where it is set
            findings.warning(
                "min-replicas-to-write is 0: a master that is cut off goes on, and what it was told is lost",
                "set min-replicas-to-write to 1 on all servers",
            )


def _tell_forms(forms: Mapping[str, int], records: Records, findings: Findings) -> None:
    """Say how many sessions are sealed with which key: a key of which none is told may be taken away."""
    if not forms or set(forms) == {PLAIN} == {records.key or PLAIN}:
        return
    names = {key: f"sealed with {'the present' if key == records.key else 'another'} key {key}" for key in forms}
    names[PLAIN] = "in plain text"
    findings.good("of these are " + ", ".join(f"{count} {names[form]}" for form, count in sorted(forms.items())))


async def _tell_waiting(link: RedisLink, records: Records, findings: Findings) -> None:
    """Say that sessions are not sealed for now although there are keys."""
    if records.seals != ASKS:
        return
    names = [
        name for key in (keys.REPLICAS, keys.DEPARTING) for name in await link.command("scan", "ZRANGE", key, 0, -1)
    ]
    strangers = [name for name in names if not await link.command("scan", "EXISTS", keys.RING + name.decode())]
    sealing, waits = [await link.command("scan", "EXISTS", key) for key in (keys.SEALING, keys.UNSEALED)]
    if strangers and sealing:
        findings.problem(
            f"sessions are sealed, and {len(strangers)} replicas of a release are there that cannot read them",
            f"start this release again with {at.STORE_PLAIN.name}=1 before you go back: docs/secrets.md",
        )
    elif strangers or waits:
        findings.good("sessions are not sealed beside a release that reads plain ones only, nor for an hour after it")


async def _look_at_records(link: RedisLink, settings: Settings, findings: Findings) -> None:
    """Count the sessions, and those that no replica can read."""
    findings.begin("reading the sessions", "have Redis looked at: it answers slowly")
    seal = Seal(settings.seal_keys) if settings.seal_keys else None
    records = Records(seal, plain=settings.store_plain, at_once=settings.seal_at_once)
    store = RedisSessionStore(link, records)
    agent_ids = sorted(await store.agent_ids())
    unreadable: list[str] = []
    forms, lacking = Counter[str](), Counter[str]()
    looked_at = agent_ids[:_MOST_RECORDS]
    for start in range(0, len(looked_at), _BATCH):
        batch = looked_at[start : start + _BATCH]
        for agent_id, stored in zip(
            batch, await asyncio.gather(*map(store.stored, batch), return_exceptions=True), strict=True
        ):
            try:
                if isinstance(stored, BaseException):
                    raise stored
                forms.update(forms_of(stored))
                records.read(agent_id, stored)
            except SessionUnreadable as failure:
                if failure.key:
                    lacking[failure.key] += 1
                else:
                    unreadable.append(failure.message)
    of = f", of which {len(looked_at)} were read" if len(looked_at) < len(agent_ids) else ""
    findings.good(f"{len(agent_ids)} sessions are stored{of}")
    _tell_forms(forms, records, findings)
    await _tell_waiting(link, records, findings)
    if lacking:
        told = ", ".join(f"{count} with {key}" for key, count in sorted(lacking.items())[:_MOST_NAMED])
        findings.problem(
            f"sessions are sealed with keys that are not in {at.SEAL_KEYS.name}: {told}",
            f"add the key to {at.SEAL_KEYS.name}, behind the present ones, on every replica",
        )
    if unreadable:
        more = "; ..." if len(unreadable) > _MOST_NAMED else ""
        findings.warning(
            f"{len(unreadable)} sessions cannot be read: {'; '.join(unreadable[:_MOST_NAMED])}{more}",
            "have the system that writes them follow the record format, or sign the inspectors in again",
        )
    named = {gateway.name for gateway in settings.gateways}
    if strangers := Counter(gateway for one in agent_ids if (gateway := gateway_of(one)) not in named):
        told = ", ".join(f"{count} at {gateway}" for gateway, count in sorted(strangers.items())[:_MOST_NAMED])
        findings.warning(
            f"sessions are stored for gateways that are not set: {told}", f"name them in {at.GATEWAYS.name}"
        )
