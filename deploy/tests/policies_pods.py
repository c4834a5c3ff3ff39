"""What every pod has to be like. Each policy returns a line for everything that breaks it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from deploy.tests.manifests import MADE_BY_HAND, MADE_BY_HAND_CONFIG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.tests.manifests import Manifests, Workload

_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
_IMAGE = re.compile(r"(?P<name>[\w.:/-]+?)(:(?P<tag>[\w.-]+))?(@sha256:[0-9a-f]{64})?")
#: Beyond it calls wait for each other.
_MOST_OF_A_CORE = 0.8
_RESTRICTED_VOLUMES = {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected", "downwardAPI"}


def _containers(manifests: Manifests) -> Iterator[tuple[str, Workload, dict[str, Any]]]:
    for workload in manifests.workloads:
        for container in workload.containers:
            yield f"{workload.name}/{container['name']}", workload, container


def runs_as_nobody(manifests: Manifests) -> list[str]:
    """By number, so that the kubelet can see that it is not root, and with nothing to become it."""
    found = [f"{one.name}: {what}" for one in manifests.workloads for what in _wrong_with_pod(one.pod)]
    for name, _, container in _containers(manifests):
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
            found.append(f"{name}: may gain privileges")
        if security.get("capabilities") != {"drop": ["ALL"]}:
            found.append(f"{name}: does not drop all capabilities")
        if {"runAsUser", "runAsNonRoot", "seccompProfile"} & set(security):
            found.append(f"{name}: says otherwise than its pod")
    return found


def _wrong_with_pod(pod: dict[str, Any]) -> Iterator[str]:
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    for key in ("runAsUser", "runAsGroup"):
        if not (isinstance(security.get(key), int) and security[key] > 0):
            yield f"{key} is no number above 0"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "no seccomp profile"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield key
    for volume in pod.get("volumes", []):
        if not _RESTRICTED_VOLUMES & set(volume):
            yield f"volume {volume['name']} is not of the restricted kinds"


def root_is_read_only(manifests: Manifests) -> list[str]:
    """Nothing can be left in a container's own file system."""
    return [
        f"{name}: its root file system can be written to"
        for name, _, container in _containers(manifests)
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True
    ]


def has_sizes(manifests: Manifests) -> list[str]:
    """Requests and a limit of memory; no limit of CPU, which would stop polls in the middle of a second."""
    found = []
    for name, _, container in _containers(manifests):
        resources = container.get("resources", {})
        found += [
            f"{name}: no request for {one}" for one in ("cpu", "memory") if one not in resources.get("requests", {})
        ]
        if "memory" not in resources.get("limits", {}):
            found.append(f"{name}: no limit of memory")
        if "cpu" in resources.get("limits", {}):
            found.append(f"{name}: a limit of CPU")
    return found


def fits_one_core(manifests: Manifests) -> list[str]:
    """A process of the adapter uses one core: none asks for more, and there is another before one is full."""
    found = []
    for container in manifests.adapter.containers:
        asked = _cores(str(container.get("resources", {}).get("requests", {}).get("cpu", 0)))
        if asked > 1:
            found.append(f"{container['name']}: asks for {asked:g} cores and can use one")
        found += [
            f"the autoscaler waits until a process spends {asked * full / 100:g} cores"
            for scaler in manifests.kind("HorizontalPodAutoscaler")
            for full in _cpu_targets(scaler)
            if asked * full / 100 > _MOST_OF_A_CORE
        ]
    return found


def _cores(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def _cpu_targets(scaler: dict[str, Any]) -> list[int]:
    """In percent of what is asked for; the only other form is an amount, which we do not use."""
    resources = [one["resource"] for one in scaler["spec"]["metrics"] if one["type"] == "Resource"]
    return [one["target"]["averageUtilization"] for one in resources if one["name"] == "cpu"]


def is_probed(manifests: Manifests) -> list[str]:
    """All three probes, at ports that there are; only readiness may ask for what a restart does not mend."""
    found = []
    for name, workload, container in _containers(manifests):
        for probe in _PROBES:
            asked = container.get(probe)
            if asked is None:
                found.append(f"{name}: no {probe}")
                continue
            found += [
                f"{name}: {probe} asks a port that is not there"
                for kind in ("httpGet", "tcpSocket")
                if kind in asked and asked[kind]["port"] not in workload.ports
            ]
            path = asked.get("httpGet", {}).get("path", "")
            if probe != "readinessProbe" and "readyz" in path:
                found.append(f"{name}: {probe} asks for readiness: a restart does not bring the store back")
            if "grpc" in asked:
                found.append(f"{name}: {probe} asks the gRPC port: the kubelet has no certificate for it")
    return found


def is_pinned(manifests: Manifests) -> list[str]:
    """An image is named by a digest or a tag that says which."""
    found = []
    for name, _, container in _containers(manifests):
        image = _IMAGE.fullmatch(container["image"])
        if image is None or ("@" not in container["image"] and image["tag"] in {None, "latest", "unset", "main"}):
            found.append(f"{name}: {container['image']} does not say which image")
    return found


def has_no_token(manifests: Manifests) -> list[str]:
    """No pod gets the cluster's token, and none is told of all services."""
    found = []
    for workload in manifests.workloads:
        if workload.pod.get("automountServiceAccountToken") is not False:
            found.append(f"{workload.name}: a token of the API server is mounted")
        if workload.pod.get("enableServiceLinks") is not False:
            found.append(f"{workload.name}: gets a variable for each service")
    found += [
        f"service account {one['metadata']['name']}: hands out tokens"
        for one in manifests.kind("ServiceAccount")
        if one.get("automountServiceAccountToken") is not False
    ]
    return found


def is_spread(manifests: Manifests) -> list[str]:
    """Replicas are spread over nodes and zones, with selectors that take their own pods."""
    found = []
    for workload in manifests.workloads:
        if workload.spec.get("replicas", 3) < 2:
            continue
        spread = workload.pod.get("topologySpreadConstraints", [])
        keys = {one["topologyKey"] for one in spread}
        found += [
            f"{workload.name}: not spread over {key}"
            for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
            if key not in keys
        ]
        found += [
            f"{workload.name}: spreads other pods than its own"
            for one in spread
            if workload.name not in [each.name for each in manifests.selected(one["labelSelector"])]
        ]
    return found


def refers_to_what_is_there(manifests: Manifests) -> list[str]:
    """ConfigMaps, secrets and volumes that a pod names exist: built, made by cert-manager, or by hand as documented."""
    configs = {one["metadata"]["name"] for one in manifests.kind("ConfigMap")} | MADE_BY_HAND_CONFIG
    secrets = {one["spec"]["secretName"] for one in manifests.kind("Certificate")} | MADE_BY_HAND
    accounts = {one["metadata"]["name"] for one in manifests.kind("ServiceAccount")} | {"default"}
    found = []
    for workload in manifests.workloads:
        if workload.pod.get("serviceAccountName", "default") not in accounts:
            found.append(f"{workload.name}: no such service account")
        claims = workload.spec.get("volumeClaimTemplates", [])
        volumes = {one["name"] for one in (*workload.pod.get("volumes", []), *(claim["metadata"] for claim in claims))}
        for volume in workload.pod.get("volumes", []):
            if "configMap" in volume and volume["configMap"]["name"] not in configs:
                found.append(f"{workload.name}: there is no ConfigMap {volume['configMap']['name']}")
            if "secret" in volume and volume["secret"]["secretName"] not in secrets:
                found.append(f"{workload.name}: nobody makes the secret {volume['secret']['secretName']}")
        for container in workload.containers:
            mounted = {one["name"] for one in container.get("volumeMounts", [])}
            found += [f"{workload.name}: mounts no volume {one}" for one in mounted - volumes]
            found += [
                f"{workload.name}: there is no ConfigMap {source['configMapRef']['name']}"
                for source in container.get("envFrom", [])
                if source["configMapRef"]["name"] not in configs
            ]
    return found


PODS = (runs_as_nobody, root_is_read_only, has_sizes, fits_one_core, is_probed, is_pinned, has_no_token, is_spread,
        refers_to_what_is_there)  # fmt: skip
