"""What the manifests say about the adapter's settings, measured by the adapter's own; as in policies_pods."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deploy.tests.settings_in_files import with_files
from qc_adapter import variables as at
from qc_adapter.cli.environment_settings import CALLER_VARIABLES, service_environment
from qc_adapter.settings import InvalidSettings, read_settings
from qc_adapter.store.opening import parse_store_url

if TYPE_CHECKING:
    from deploy.tests.manifests import Manifests
    from qc_adapter.environment import Variable

#: What the OpenTelemetry SDK reads; the standard names, none of ours.
_TRACING = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES"}


def holds_no_secret(manifests: Manifests) -> list[str]:
    """No secret is in the repository: neither an object nor a value."""
    found = [f"secret {one['metadata']['name']}: is built" for one in manifests.kind("Secret")]
    for variable in at.VARIABLES:
        value = manifests.environment.get(variable.name, "")
        if variable.secret and value and (variable is not at.STORE_URL or parse_store_url(value).password):
            found.append(f"{variable.name}: its value is in the open")
    words = ("PASSWORD", "TOKEN", "KEY", "SECRET")
    for workload in manifests.workloads:
        for container in workload.containers:
            found += [
                f"{workload.name}: {one['name']} is in the open"
                for one in container.get("env", [])
                if any(word in one["name"] for word in words) and not one["name"].endswith("_FILE")
            ]
    return found


def settings_exist(manifests: Manifests) -> list[str]:
    """Every variable is one that the adapter knows."""
    known = {one.name for one in at.VARIABLES} | {f"{one.name}_FILE" for one in at.VARIABLES if one.secret}
    return [
        f"{name}: is no setting" for name in manifests.environment if name not in known | CALLER_VARIABLES | _TRACING
    ]


def settings_are_taken(manifests: Manifests) -> list[str]:
    """The adapter would start with them, and has doubts only where its gateway is in the same namespace: to try it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            settings = read_settings(service_environment(with_files(manifests.environment, Path(folder))))
        except InvalidSettings as invalid:
            return [str(problem) for problem in invalid.problems]
    inside = urlsplit(settings.gateways[0].url).hostname in {
        one["metadata"]["name"] for one in manifests.kind("Service")
    }
    tried = ("QC_GATEWAY_URL is not https", "anyone who reaches it")
    found = [one for one in settings.warnings if not (inside and any(words in one for words in tried))]
    if manifests.replicas > 1 and settings.store_url.reveal().startswith("memory:"):
        found.append("several replicas, and each has a store of its own")
    return found


def settings_files_are_mounted(manifests: Manifests) -> list[str]:
    """A file that a setting names lies below a mount that is read only."""
    [container] = manifests.adapter.pod["containers"]
    mounts = [Path(one["mountPath"]) for one in container.get("volumeMounts", []) if one.get("readOnly")]
    return [
        f"{name}: {value} is not mounted"
        for name, value in manifests.environment.items()
        if name.endswith("_FILE") and value and not any(mount in Path(value).parents for mount in mounts)
    ]


def ports_are_those_of_the_settings(manifests: Manifests) -> list[str]:
    """The container's ports are where the adapter listens, for all and not only for the pod itself."""
    listens = {"grpc": at.LISTEN, "ops": at.OPS_LISTEN, "push": at.PUSH_LISTEN}
    wanted = {}
    found = []
    for name, variable in listens.items():
        where = variable.parse(_text(manifests, variable))
        if where is None:
            continue
        wanted[name] = where.port
        if where.loopback:
            found.append(f"{variable.name}: {where} is for the pod alone")
    if wanted != manifests.adapter.ports:
        found.append(f"the ports are {manifests.adapter.ports}, the settings say {wanted}")
    return found


def goes_out_where_the_settings_say(manifests: Manifests) -> list[str]:
    """The network policies let the adapter out to the ports of its gateway, store and collector, and to DNS."""
    ports = {53, urlsplit(_text(manifests, at.GATEWAY.url)).port or 443}
    if store := manifests.environment.get("QC_STORE_URL", ""):
        ports |= {port for _, port in parse_store_url(store).nodes}
    else:
        ports.add(6379)
    if collector := manifests.environment.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        ports.add(urlsplit(collector).port or 4317)
    if keys := _text(manifests, at.JWT_JWKS_URL):
        ports.add(urlsplit(keys).port or 443)
    out: set[int] = set()
    for policy in manifests.kind("NetworkPolicy"):
        if manifests.adapter in manifests.selected(policy["spec"]["podSelector"]):
            for rule in policy["spec"].get("egress", []):
                out |= _numbers(manifests, rule)
    return [f"nothing lets the adapter out to port {port}" for port in sorted(ports - out)]


def _numbers(manifests: Manifests, rule: dict[str, Any]) -> set[int]:
    behind: dict[str, int] = {}
    for peer in rule["to"]:
        if "podSelector" in peer and "namespaceSelector" not in peer:
            for workload in manifests.selected(peer["podSelector"]):
                behind |= workload.ports
    return {port["port"] if isinstance(port["port"], int) else behind.get(port["port"], 0) for port in rule["ports"]}


def has_time_to_drain(manifests: Manifests) -> list[str]:
    """Nothing kills a pod before its drain can be over, and no hook takes part of that time."""
    needed = _seconds(manifests, at.DRAIN) + _seconds(manifests, at.POLL_HOLD) + 3 * _seconds(manifests, at.GRACE) + 10
    given = manifests.adapter.pod.get("terminationGracePeriodSeconds", 30)
    found = [f"the drain takes up to {needed:g} s and gets {given}"] if given < needed else []
    [container] = manifests.adapter.pod["containers"]
    if "lifecycle" in container:
        found.append("a preStop hook takes part of the time that the drain needs")
    return found


def rolls_without_a_sign_out(manifests: Manifests) -> list[str]:
    """One more before one less, each with time to take its share; scaling down waits for the last one to be gone."""
    spec = manifests.adapter.spec
    rolling = spec.get("strategy", {}).get("rollingUpdate", {})
    found = []
    if rolling.get("maxUnavailable") != 0 or rolling.get("maxSurge") != 1:
        found.append("the update takes a replica away before there is another, or several at once")
    if spec.get("minReadySeconds", 0) < _seconds(manifests, at.POLL_HOLD):
        found.append("the next replica leaves before the new one can have its share of the leases")
    for scaler in manifests.kind("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) != ("Deployment", "qc-adapter"):
            found.append("the autoscaler is for something else")
        if "replicas" in spec:
            found.append("the deployment has a number of replicas, and each apply undoes the autoscaler's")
        downs = scaler["spec"]["behavior"]["scaleDown"]["policies"]
        grace = manifests.adapter.pod.get("terminationGracePeriodSeconds", 30)
        if any(one["type"] != "Pods" or one["value"] != 1 or one["periodSeconds"] < grace for one in downs):
            found.append("the autoscaler takes replicas away faster than they drain")
    return found


def _text(manifests: Manifests, variable: Variable[Any]) -> str:
    return manifests.environment.get(variable.name, "") or variable.default


def _seconds(manifests: Manifests, variable: Variable[float]) -> float:
    return variable.parse(_text(manifests, variable))


#: Of whole deployments: the base alone names no gateway and no callers.
WHOLE = (settings_are_taken, goes_out_where_the_settings_say)
SETTINGS = (holds_no_secret, settings_exist, settings_files_are_mounted, ports_are_those_of_the_settings,
            has_time_to_drain, rolls_without_a_sign_out)  # fmt: skip
