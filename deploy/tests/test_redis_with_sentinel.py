"""The scripts of the component redis-sentinel, run with real servers: three of them, each on an address of its own."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError
from redis.sentinel import Sentinel

from bench.redis_server import redis_binary
from deploy.tests.manifests import FOLDER, together
from qc_adapter.store.opening import open_link

SCRIPTS = FOLDER / "components" / "redis-sentinel"
PASSWORD = "a-password-of-the-test"
WAIT_SECONDS = 90


def environment_of(container):
    """The plain variables of a container."""
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


class Servers:
    """What the StatefulSet would run: a Redis and a sentinel in each pod, on 127.x.y.1 to 3 in place of names."""

    def __init__(self, folder, stateful_set):
        self.folder = folder
        net = f"127.{random.randint(16, 250)}.{random.randint(1, 250)}"  # noqa: S311 - no secret
        self.names = [f"{net}.{number}" for number in (1, 2, 3)]
        self.containers = {one["name"]: one for one in stateful_set.containers}
        self.processes = {}
        (folder / "password").write_text(PASSWORD)
        binary = Path(redis_binary())
        self.path = f"{binary.parent}:{os.environ['PATH']}"

    def environment(self, name):
        """What a container gets, with places of this machine."""
        place = self.folder / name
        values = environment_of(self.containers["redis"])
        assert values["PEERS"].split() == ["redis-0.redis", "redis-1.redis", "redis-2.redis"]
        assert environment_of(self.containers["sentinel"]) == values
        for part in ("data", "run"):
            (place / part).mkdir(parents=True, exist_ok=True)
        return os.environ | values | {
            "PATH": self.path,
            "SELF": name,
            "PEERS": " ".join(self.names),
            "BIND": name,
            "HERE": name,
            "DATA": str(place / "data"),
            "RUN": str(place / "run"),
            "PASSWORD_FILE": str(self.folder / "password"),
        }  # fmt: skip

    def start(self, name):
        """Start both containers of a pod."""
        self.processes[name] = [self.run(container, name) for container in ("redis", "sentinel")]

    def run(self, container, name):
        """Start one container."""
        command, script = self.containers[container]["command"]
        log = (self.folder / f"{container}-{name}.log").open("ab")
        with log:
            return subprocess.Popen(  # noqa: S603 - a script of ours
                [command, str(SCRIPTS / Path(script).name)], env=self.environment(name), stdout=log, stderr=log
            )

    def kill(self, name):
        """Let a pod go away without a word, and forget what it had in memory."""
        for process in self.processes.pop(name, []):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder / name / "run")

    def end(self):
        """End all that still run."""
        for name in list(self.processes):
            self.kill(name)

    def probe(self, container, probe, name, **changed):
        """The exit status of a probe, with other variables."""
        command, script, *arguments = self.containers[container][probe]["exec"]["command"]
        return subprocess.run(  # noqa: S603 - a script of ours
            [command, str(SCRIPTS / Path(script).name), *arguments],
            env=self.environment(name) | changed, capture_output=True, check=False,
        ).returncode  # fmt: skip

    def redis(self, name):
        """A client of one server."""
        return contextlib.closing(Redis(host=name, password=PASSWORD, socket_timeout=2, decode_responses=True))

    def sentinel(self, name):
        """What a sentinel knows of the master: its name, and how many it knows of each other kind."""
        sentinel = Sentinel([(name, 26379)], socket_timeout=2, decode_responses=True)
        with contextlib.closing(sentinel.sentinels[0]) as client:
            known = client.sentinel_master("qc")
        return known["ip"], known["num-slaves"], known["num-other-sentinels"]

    def master(self, *, told_by):
        """The master that these sentinels agree on, or None."""
        told = {self.sentinel(name)[0] for name in told_by}
        return told.pop() if len(told) == 1 else None


def until(condition, what):
    """Wait for a condition of other processes; an error of Redis is a no."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(RedisError):
            if found := condition():
                return found
        time.sleep(0.1)
    raise AssertionError(f"not within {WAIT_SECONDS} s: {what}")


@pytest.fixture
def pods(tmp_path):
    """Three servers of which none runs yet."""
    with tempfile.TemporaryDirectory() as folder:
        manifests = together(Path(folder), "redis-sentinel")
    made = Servers(tmp_path, next(one for one in manifests.workloads if one.name == "redis"))
    yield made
    made.end()


@pytest.fixture
def servers(pods):
    """Three servers that have found each other."""
    for name in pods.names:
        pods.start(name)
    until(lambda: all(pods.sentinel(name)[1:] == (2, 2) for name in pods.names), "all know each other")
    return pods


@pytest.mark.timeout(300)
async def test_the_servers_survive_the_loss_of_the_master_and_of_all(servers):
    """A killed master is replaced and nothing is lost; it comes back empty as a replica; all know the master anew."""
    first, *others = servers.names
    assert servers.master(told_by=servers.names) == first
    assert {servers.probe("redis", "readinessProbe", name) for name in servers.names} == {0}
    assert {servers.probe("sentinel", "livenessProbe", name) for name in servers.names} == {0}
    link = open_link(f"redis+sentinel://:{PASSWORD}@{','.join(f'{name}:26379' for name in servers.names)}/qc/0")
    assert await link.command("ping", "PING")
    await link.close()
    with servers.redis(first) as client:
        client.set("kept", "1")
        assert client.wait(2, 5000) == 2

    servers.kill(first)
    assert servers.probe("redis", "livenessProbe", first) != 0
    second = until(lambda: (one := servers.master(told_by=others)) != first and one, "a new master")
    with servers.redis(second) as client:
        assert until(lambda: client.get("kept") == "1" and client.set("new", "2"), "the new master takes writes")

    shutil.rmtree(servers.folder / first / "data")
    servers.start(first)
    with servers.redis(first) as client:
        until(lambda: client.get("new") == "2" and client.role()[0] == "slave", "the first is a replica")
    until(lambda: all(servers.sentinel(name)[1:] == (2, 2) for name in servers.names), "all know each other")

    for name in servers.names:
        servers.kill(name)
    for name in servers.names:
        servers.start(name)
    until(lambda: servers.master(told_by=servers.names) == second, "the same master as before")
    with servers.redis(second) as client:
        until(lambda: client.role()[0] == "master" and client.set("again", "3"), "writes as before")
        assert client.mget("kept", "new") == ["1", "2"]


@pytest.mark.timeout(120)
def test_a_replica_is_ready_when_it_has_its_masters_data(pods):
    """One that is alive without them holds a rollout back: the next to be replaced may be the last that has them."""
    absent, name, _ = pods.names
    pods.environment(name)
    (pods.folder / name / "data" / "sentinel.conf").write_text(f"sentinel monitor qc {absent} 6379 2\n")
    pods.processes[name] = [pods.run("redis", name)]
    until(lambda: pods.probe("redis", "livenessProbe", name) == 0, "it lives")
    assert pods.probe("redis", "readinessProbe", name) != 0
    pods.processes[absent] = [pods.run("redis", absent)]
    until(lambda: pods.probe("redis", "readinessProbe", name) == 0, "it is in step")


@pytest.mark.timeout(120)
def test_no_server_is_killed_for_want_of_dns(pods):
    """The probes need no name of the cluster: they ask this pod itself."""
    assert environment_of(pods.containers["redis"])["HERE"] == "localhost"
    name = pods.names[0]
    pods.start(name)
    for container in ("redis", "sentinel"):
        for probe in ("livenessProbe", "readinessProbe"):
            until(lambda c=container, p=probe: pods.probe(c, p, name, SELF="gone.invalid") == 0, f"{container} {probe}")
