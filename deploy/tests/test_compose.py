"""The compose file for a laptop, by its structure: no engine runs here."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.ports import free_port
from deploy.tests.manifests import ROOT
from qc_adapter import variables as at
from qc_adapter.settings import read_settings

PROGRAM = shutil.which("qc-adapter", path=str(Path(sys.executable).parent))
FOLDER = ROOT / "deploy"
COMPOSE = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
ADAPTERS = [name for name in SERVICES if name.startswith("adapter-")]


def seconds_of(variable, environment):
    """A time as the adapter reads it."""
    return variable.parse(environment.get(variable.name, "") or variable.default)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name):
    """Nothing runs with a writable root, capabilities, an image that may move, or without a limit of memory."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert re.fullmatch(r"qc-adapter:local|docker\.io/[\w/-]+:v?\d+\.\d+\.\d+(-\w+)?", service["image"])
    assert not {"privileged", "network_mode", "pid", "cap_add"} & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_only_this_machine_reaches_a_service(name):
    """Callers are not asked who they are, so no port is published elsewhere than on loopback, and none twice."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))
    assert len({port.rpartition(":")[0] for port in ports}) == len(ports)


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_adapters_would_start(name):
    """Their settings are taken, name services of this file, and leave time for the drain."""
    service = SERVICES[name]
    settings = read_settings(service["environment"])
    assert settings.gateways[0].url == "http://simulator:8043"
    assert settings.store_url.reveal() == "redis://redis:6379/0"
    assert {"simulator", "redis"} == set(service["depends_on"]) <= set(SERVICES)
    assert {int(port.rpartition(":")[2]) for port in service["ports"]} == {
        settings.listen.port,
        settings.ops_listen.port,
    }
    times = [seconds_of(one, service["environment"]) for one in (at.DRAIN, at.POLL_HOLD, at.GRACE, at.GRACE, at.GRACE)]
    assert int(service["stop_grace_period"].removesuffix("s")) >= sum(times) + 10


@pytest.mark.timeout(120)
def test_the_commands_for_a_laptop_work(tmp_path):
    """What deploy/README.md says to type, typed as it stands, with other ports: each ends with 0."""
    text = (FOLDER / "README.md").read_text()
    commands = re.search(r"up --detach\n(.*?)docker compose [^\n]* down", text, re.DOTALL)[1].splitlines()
    assert [one.split()[1] for one in commands if "qc-adapter" in one] == ["sign-in", "listen", "intercept"]
    gateway, grpc, ops = (free_port() for _ in range(3))
    # As the file has it, without calls that begin by themselves: they would be in the way by chance.
    simulate = SERVICES["simulator"]["command"]
    assert "--calls-per-minute" in simulate
    arguments = [one.replace("0.0.0.0:8043", f"127.0.0.1:{gateway}") for one in simulate]
    arguments[arguments.index("--calls-per-minute") + 1] = "0"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QC_")} | {
        "QC_GATEWAY_URL": f"http://127.0.0.1:{gateway}",
        "QC_LISTEN": f"127.0.0.1:{grpc}",
        "QC_OPS_LISTEN": f"127.0.0.1:{ops}",
        "QC_TARGET": f"127.0.0.1:{grpc}",
        "QC_PASSWORD": "any",
    }
    with contextlib.ExitStack() as running:
        for words in (arguments, ["serve"]):
            process = subprocess.Popen([PROGRAM, *words], env=environment, stdout=subprocess.DEVNULL, cwd=tmp_path)  # noqa: S603
            running.callback(process.wait)
            running.callback(process.kill)
        asked = f"curl -sf --retry 60 --retry-delay 1 --retry-all-errors http://127.0.0.1:{{}} > {os.devnull}"
        for place in (f"{gateway}/simulator", f"{ops}/readyz"):
            subprocess.run(asked.format(place), shell=True, check=True, timeout=60)  # noqa: S602 - our own words
        for command in commands:
            typed = command.partition("#")[0].replace(".venv/bin/qc-adapter", PROGRAM)
            typed = typed.replace("127.0.0.1:8043", f"127.0.0.1:{gateway}")
            made = subprocess.run(typed, shell=True, env=environment, capture_output=True, text=True, check=False)  # noqa: S602
            assert made.returncode == 0, (command, made.stderr)


def test_there_are_two_adapters():
    """A laptop shows what replicas are for."""
    assert len(ADAPTERS) == 2


def test_what_is_mounted_is_there():
    """Each file of ours that is mounted exists, and is mounted read only; the others are volumes."""
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, *rest = volume.split(":")
            if source.startswith("."):
                assert (FOLDER / source).exists(), source
                assert rest[1] == "ro"
            else:
                assert source in COMPOSE["volumes"]


def test_prometheus_scrapes_both_adapters():
    """The targets are the ops ports of the adapters, under the job name that rules and dashboards ask for."""
    [job] = yaml.safe_load((FOLDER / "compose" / "prometheus.yml").read_text())["scrape_configs"]
    assert job["job_name"] == "qc-adapter"
    [targets] = job["static_configs"]
    ops = {f"{name}:{SERVICES[name]['environment']['QC_OPS_LISTEN'].rpartition(':')[2]}" for name in ADAPTERS}
    assert set(targets["targets"]) == ops


def test_grafana_finds_its_data_and_dashboards():
    """The data source is the Prometheus of this file, and the dashboards are looked for where they are mounted."""
    provisioning = FOLDER / "compose" / "grafana"
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((provisioning / "dashboards" / "qc-adapter.yaml").read_text())["providers"]
    mounted = {Path(volume.split(":")[1]) for volume in SERVICES["grafana"]["volumes"]}
    assert Path(provider["options"]["path"]) in mounted
