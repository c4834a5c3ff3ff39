"""What can go wrong, one named fault each; every act ends with all that it broke mended."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.chaos.store import OneRedis, Sentinels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bench.chaos.fleet import Replica
    from bench.chaos.form import Form
    from bench.chaos.proxy import Proxy
    from bench.chaos.site import Site

#: Why a gap may stand in a stream.
NONE: Final[frozenset[str]] = frozenset()
TAKEOVER: Final = frozenset({"TAKEOVER"})
REPLY_LOST: Final = frozenset({"POLL_REPLY_LOST"})
LOG_LOST: Final = frozenset({"LOG_LOST", "CURSOR_EXPIRED"})
#: Each direction of a Redis that takes 200 ms a command.
SLOW_SECONDS: Final = 0.1
_CUT_EVERY_SECONDS: Final = 0.3
_PAIRS: Final = 5
#: What goes wrong with replies to the gateway's clients, and with pushes and heartbeats.
_DAMAGES: Final = (("getAgentEvent", "reset_after"), ("getAgentEvent", "cut_json"))
_PUSH_DAMAGES: Final = (("pushEvent", "reset_after"), ("pushEvent", "reset_before"), ("handShake", "reset_after"))
#: One after the other: the first two cost a batch its answer twice in a row.
_ANSWERS_LOST: Final = 2
_LONGEST_ACT_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Scenario:
    """One fault: what to do, and which gaps are honest after it, with polls and with pushes."""

    name: str
    fault: str
    act: Callable[[Site], Awaitable[None]]
    gaps: frozenset[str] = NONE
    #: The gateway pushes again what was not answered: so only what the store or the gateway forgets can be missing.
    pushed_gaps: frozenset[str] = NONE
    #: The store is away for less than a lease lives; only in a tight form one may run out.
    strains_leases: bool = False
    #: Store or gateway loses its data: for a moment, until all is entered anew, nobody is signed in.
    forgets: bool = False
    sentinels: bool = False

    def gaps_allowed(self, form: Form) -> frozenset[str]:
        """Return the reasons that a gap may have."""
        if form.pushes:
            return self.pushed_gaps
        return self.gaps | TAKEOVER if self.strains_leases and form.tight else self.gaps

    def limit_seconds(self, form: Form) -> float:
        """Return how long the act may take; a rolling restart waits for each replica."""
        return _LONGEST_ACT_SECONDS + 10 * form.lease_seconds + form.storm_seconds


def _one(site: Site) -> Replica:
    """Return a replica by chance; where pushes come in, the one that takes them."""
    balancer = site.fleet.balancer
    replica = site.fleet.any() if balancer is None else balancer.replica
    assert replica is not None
    return replica


async def _longer_than_lease(site: Site, unwell: Replica) -> None:
    """Wait until others have taken over what a replica holds; after a while a balancer sees that it is not ready."""
    await asyncio.sleep(site.form.away_seconds)
    site.fleet.push_elsewhere(unwell)
    await asyncio.sleep(site.form.longer_than_lease_seconds - site.form.away_seconds)


def _one_redis(site: Site) -> OneRedis:
    assert isinstance(site.store, OneRedis)
    return site.store


def _sentinels(site: Site) -> Sentinels:
    assert isinstance(site.store, Sentinels)
    return site.store


def _redis_proxies(site: Site) -> list[Proxy]:
    return [replica.proxy for replica in site.fleet.serving if replica.proxy is not None]


async def sigterm(site: Site) -> None:
    """End one replica in order; another one starts in its place."""
    await site.fleet.terminate(_one(site))
    await site.fleet.start()


async def sigkill(site: Site) -> None:
    """Kill one replica; wait until its leases have been taken over; another one starts."""
    await site.fleet.kill(_one(site))
    await asyncio.sleep(site.form.longer_than_lease_seconds)
    await site.fleet.start()


async def sigstop(site: Site) -> None:
    """Freeze one replica for longer than its leases live, then let it go on."""
    replica = _one(site)
    site.fleet.freeze(replica)
    try:
        await _longer_than_lease(site, replica)
    finally:
        site.fleet.thaw(replica)
    await asyncio.sleep(site.form.hold_seconds)


async def rolling(site: Site) -> None:
    """Replace every replica, one after the other, the new one first."""
    for replica in tuple(site.fleet.serving):
        await site.fleet.start()
        await site.fleet.terminate(replica)


async def upgrade(site: Site) -> None:
    """
    Replace the replicas of another version by those of this tree, one after the other, and go back the same way.

    Sessions are not sealed beside a version that cannot read that, nor an hour after it, which is over at once here;
    the way back from there is what docs/secrets.md says.
    """
    other, store = site.fleet.python, _one_redis(site)
    site.fleet.python = sys.executable
    await rolling(site)
    await asyncio.sleep(site.form.away_seconds)
    while await store.sessions(sealed=False):
        await store.forget_versions()  # again and again: what has left counts as there for some seconds
        await asyncio.sleep(_LOOK_SECONDS)
    await asyncio.sleep(site.form.away_seconds)
    site.fleet.environment["QC_STORE_PLAIN"] = "1"
    await rolling(site)
    while await store.sessions(sealed=True):  # noqa: ASYNC110 - another process
        await asyncio.sleep(_LOOK_SECONDS)
    del site.fleet.environment["QC_STORE_PLAIN"]
    site.fleet.python = other
    await rolling(site)
    await asyncio.sleep(site.form.away_seconds)


async def scaling(site: Site) -> None:
    """Go down to one replica, up to four, down to one, and back."""
    number = len(site.fleet.serving)
    await _scale(site, 1)
    await _scale(site, 4)
    await asyncio.sleep(site.form.away_seconds)
    await _scale(site, 1)
    await _scale(site, number)


async def _scale(site: Site, number: int) -> None:
    if (missing := number - len(site.fleet.serving)) > 0:
        await site.fleet.start(missing)
    else:
        await asyncio.gather(*(site.fleet.terminate(replica) for replica in site.fleet.serving[number:]))


async def redis_cut(site: Site) -> None:
    """Reset all connections to Redis, refuse new ones for a while, then mend."""
    proxies = _redis_proxies(site)
    for proxy in proxies:
        proxy.refuse()
    await asyncio.sleep(site.form.away_seconds)
    for proxy in proxies:
        await proxy.start()


async def partition(site: Site) -> None:
    """Cut one replica off from Redis for longer than its leases live."""
    replica = _one(site)
    proxy = replica.proxy
    assert proxy is not None
    proxy.refuse()
    await _longer_than_lease(site, replica)
    await proxy.start()
    await asyncio.sleep(site.form.hold_seconds)


async def redis_stalled(site: Site) -> None:
    """Let Redis keep its connections and answer nothing for a while."""
    proxies = _redis_proxies(site)
    for proxy in proxies:
        proxy.stall()
    await asyncio.sleep(site.form.away_seconds)
    for proxy in proxies:
        proxy.flow()


async def redis_slow(site: Site) -> None:
    """Let each command take 200 ms."""
    proxies = _redis_proxies(site)
    for proxy in proxies:
        proxy.delay_seconds = SLOW_SECONDS
    await asyncio.sleep(site.form.trouble_seconds)
    for proxy in proxies:
        proxy.delay_seconds = 0.0


async def redis_restarted(site: Site) -> None:
    """Kill Redis; it comes back with its data."""
    store = _one_redis(site)
    await store.stop()
    await asyncio.sleep(site.form.away_seconds)
    await store.start()


async def redis_emptied(site: Site) -> None:
    """Kill Redis; it comes back without anything; callers repeat commands that it knew."""
    site.orders.forget()
    await asyncio.sleep(2 * site.form.pace_seconds)
    store = _one_redis(site)
    await store.stop()
    await store.forget()
    await asyncio.sleep(site.form.away_seconds)
    await store.start()
    await site.orders.ask_again()


async def sentinel_killed(site: Site) -> None:
    """Kill the master; the sentinels choose the other server; the dead one comes back as its replica."""
    store = _sentinels(site)
    dead = await store.master()
    await store.fail_over(dead.stop)
    await asyncio.sleep(site.form.away_seconds)
    await asyncio.to_thread(dead.start)


async def sentinel_frozen(site: Site) -> None:
    """Freeze the master until the sentinels have chosen the other server; it wakes up and still believes to be it."""
    store = _sentinels(site)
    frozen = await store.master()
    try:
        await store.fail_over(frozen.freeze)
    finally:
        frozen.thaw()
    await asyncio.sleep(site.form.away_seconds)


async def sentinel_demoted(site: Site) -> None:
    """Tell the sentinels to change places: the old master lives and takes no more writes."""
    store = _sentinels(site)
    await store.fail_over(store.order_failover)
    await asyncio.sleep(site.form.away_seconds)


async def gateway_restarted(site: Site) -> None:
    """Reset all connections to the gateway and refuse new ones for a while; it still knows who is signed in."""
    site.gateway_proxy.refuse()
    await asyncio.sleep(site.form.away_seconds)
    await site.gateway_proxy.start()


async def gateway_cut(site: Site) -> None:
    """Cut replies of the gateway at random: connections in the middle, bodies, and replies that never come."""
    async with _cutting(site):
        await asyncio.sleep(site.form.trouble_seconds)


async def polls_cut(site: Site) -> None:
    """
    Reset every held poll while nothing happens; bring events in pairs once new polls may be held.

    The gateway learns nothing of a client that is gone until it writes: for the rest of its hold the old poll may take
    an event, also after the new one has brought some.
    """
    await site.gateway.ask("emit", "0")
    await asyncio.sleep(site.form.hold_seconds)
    site.gateway_proxy.cut()
    await asyncio.sleep(site.form.hold_seconds * 0.4)
    for _ in range(_PAIRS):
        await site.gateway.ask("one_each")
        await site.gateway.ask("one_each")
        await asyncio.sleep(site.form.hold_seconds / _PAIRS)
    await site.gateway.ask("emit", f"{site.form.events_a_second}")


async def answers_lost(site: Site) -> None:
    """Lose the answers to all pushes for a while: what is logged comes again, with newer events behind it."""
    for _ in range(_PAIRS):
        await site.gateway.ask("damage", "reset_after", "pushEvent", str(_ANSWERS_LOST * site.form.inspectors))
        await site.gateway.ask("one_each")
        await asyncio.sleep(site.form.push_retry_seconds)
    await site.gateway.ask("mend")


async def pushes_refused(site: Site) -> None:
    """Reset all connections of pushes and refuse new ones for a while; then let them go to another replica."""
    balancer = site.fleet.balancer
    assert balancer is not None
    balancer.proxy.refuse()
    await asyncio.sleep(site.form.push_retry_seconds + site.form.away_seconds)
    site.fleet.push_elsewhere(_one(site))
    await balancer.proxy.start()


async def balancing(site: Site) -> None:
    """Let each replica in turn take the pushes while answers are cut: a batch comes again at another one."""
    async with _cutting(site):
        for _ in range(2 * len(site.fleet.serving)):
            await asyncio.sleep(site.form.push_retry_seconds)
            site.fleet.push_elsewhere(_one(site))


async def gateway_forgets(site: Site) -> None:
    """Let the gateway lose all sign-ins, as it does when it is restarted; wait until they are made anew."""
    await site.gateway.ask("restart")
    while await site.gateway.ask("signed_in") < site.form.inspectors:  # noqa: ASYNC110 - another process
        await asyncio.sleep(site.form.hold_seconds / 10)


@contextlib.asynccontextmanager
async def _cutting(site: Site) -> AsyncIterator[None]:
    async def cut() -> None:
        while True:
            await asyncio.sleep(site.chance.uniform(0, 2 * _CUT_EVERY_SECONDS))
            operation, action = site.chance.choice(_PUSH_DAMAGES if site.form.pushes else _DAMAGES)
            await site.gateway.ask("damage", action, operation, "1")
            site.gateway_proxy.cut(2 / (1 + site.gateway_proxy.connections), site.chance)
            if site.fleet.balancer is not None:
                proxy = site.fleet.balancer.proxy
                proxy.cut(1 / (1 + proxy.connections), site.chance)

    cutting = asyncio.create_task(cut(), name="cutting")
    try:
        yield
    finally:
        cutting.cancel()
        await asyncio.gather(cutting, return_exceptions=True)
        await site.gateway.ask("mend")


async def everything(site: Site) -> None:
    """Let random faults happen, two at a time, while replies of the gateway are cut."""
    until = asyncio.get_running_loop().time() + site.form.storm_seconds
    async with _cutting(site):
        while asyncio.get_running_loop().time() < until:
            redis, process = site.chance.choice(_TO_REDIS), site.chance.choice(_TO_PROCESSES)
            async with asyncio.TaskGroup() as both:
                both.create_task(redis(site), name="fault of the network")
                both.create_task(process(site), name="fault of a process")


#: A master that goes away may take along what it had not copied yet.
_MOVED: Final = TAKEOVER | LOG_LOST
_TO_REDIS: Final = (redis_cut, redis_stalled, redis_restarted, gateway_restarted)
_TO_PROCESSES: Final = (sigterm, sigkill, sigstop, rolling)

ALL: Final = (
    Scenario("sigterm", "SIGTERM to one replica, a new one starts", sigterm),
    Scenario("sigkill", "SIGKILL to one replica", sigkill, TAKEOVER),
    Scenario("sigstop", "SIGSTOP for longer than the lease, then SIGCONT", sigstop, TAKEOVER),
    Scenario("rolling", "Rolling restart of all replicas", rolling),
    Scenario("scaling", "Scaling 1 -> 4 -> 1", scaling),
    Scenario("redis-cut", "Redis connections cut and refused, then mended", redis_cut, strains_leases=True),
    Scenario("partition", "One replica cut off from Redis for longer than the lease", partition, TAKEOVER),
    Scenario("redis-stalled", "Redis answers nothing for a while", redis_stalled, strains_leases=True),
    Scenario("redis-slow", "Redis takes 200 ms a command", redis_slow, strains_leases=True),
    Scenario("redis-restarted", "Redis killed and restarted with its data", redis_restarted, strains_leases=True),
    Scenario(
        "redis-emptied",
        "Redis killed and restarted empty",
        redis_emptied,
        TAKEOVER | LOG_LOST,
        LOG_LOST,
        forgets=True,
    ),
    Scenario(
        "sentinel-killed", "Sentinel failover, the master killed", sentinel_killed, _MOVED, LOG_LOST, sentinels=True
    ),
    Scenario(
        "sentinel-frozen", "Sentinel failover, the master frozen", sentinel_frozen, _MOVED, LOG_LOST, sentinels=True
    ),
    Scenario("sentinel-demoted", "Sentinel failover by order", sentinel_demoted, _MOVED, LOG_LOST, sentinels=True),
    Scenario(
        "gateway-restarted", "Gateway gone for a while, sign-ins survive", gateway_restarted, REPLY_LOST | TAKEOVER
    ),
    Scenario("polls-cut", "Held polls cut, then events in pairs", polls_cut, REPLY_LOST | TAKEOVER),
    Scenario("gateway-cut", "Replies of the gateway cut at random", gateway_cut, REPLY_LOST | TAKEOVER),
    Scenario("everything", "Random faults together", everything, REPLY_LOST | TAKEOVER | LOG_LOST),
)
#: A form with pushes has no polls to cut, and answers of its own to lose.
PUSHED: Final = (
    *(scenario for scenario in ALL if scenario.act is not polls_cut),
    Scenario("answers-lost", "Answers to pushes lost, the same events again and again", answers_lost),
    Scenario("pushes-refused", "Pushes refused for a while, then taken by another replica", pushes_refused),
    Scenario("balancing", "Pushes to one replica after the other, answers cut at random", balancing),
    Scenario(
        "gateway-forgets",
        "Gateway restarted without its sign-ins, which are made anew",
        gateway_forgets,
        pushed_gaps=TAKEOVER,
        forgets=True,
    ),
)
#: With `--upgrade-from`: the site begins with another version.
UPGRADE: Final = Scenario("upgrade", "Rolling upgrade from another version, and back", upgrade)


def named(name: str, among: tuple[Scenario, ...] = ALL) -> Scenario:
    """Return the scenario of that name; raises LookupError with the names there are."""
    for scenario in among:
        if scenario.name == name:
            return scenario
    raise LookupError(f"no scenario {name}: there are {', '.join(one.name for one in among)}")
