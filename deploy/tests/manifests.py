"""What kustomize makes of the folders below deploy/kustomize, as objects that the checks can ask."""

from __future__ import annotations

import os
import subprocess
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from scripts.tools import kustomize

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy" / "kustomize"
COMPONENTS: Final = tuple(sorted(one.name for one in (FOLDER / "components").iterdir() if one.is_dir()))
OVERLAYS: Final = tuple(sorted(one.name for one in (FOLDER / "overlays").iterdir() if one.is_dir()))
#: What stands in a cluster before us: made by hand (deploy/README.md says how).
MADE_BY_HAND: Final = frozenset({"qc-adapter", "qc-redis"})
MADE_BY_HAND_CONFIG: Final = frozenset({"qc-adapter-gateway-ca", "kube-root-ca.crt"})
_WORKLOADS: Final = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


@dataclass(frozen=True)
class Workload:
    """An object that makes pods."""

    name: str
    labels: dict[str, str]
    pod: dict[str, Any]
    spec: dict[str, Any]

    @property
    def containers(self) -> list[dict[str, Any]]:
        """Return all containers, those that run first as well."""
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """Return the ports by their names."""
        return {port["name"]: port["containerPort"] for one in self.containers for port in one.get("ports", [])}


class Manifests:
    """The objects of one build."""

    def __init__(self, objects: Iterable[dict[str, Any]]) -> None:
        self.objects = list(objects)

    def copy(self) -> Manifests:
        """Return a copy to be spoilt."""
        return Manifests(deepcopy(self.objects))

    def kind(self, kind: str) -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        return [one for one in self.objects if one["kind"] == kind]

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return the one with that name, or None."""
        found = [one for one in self.kind(kind) if one["metadata"]["name"] == name]
        assert len(found) < 2, f"two {kind} {name}"
        return found[0] if found else None

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return the one that has to be there."""
        found = self.find(kind, name)
        assert found is not None, f"there is no {kind} {name}"
        return found

    @property
    def workloads(self) -> list[Workload]:
        """Return whatever makes pods."""
        return [
            Workload(
                one["metadata"]["name"],
                one["spec"]["template"]["metadata"]["labels"],
                one["spec"]["template"]["spec"],
                one["spec"],
            )
            for one in self.objects
            if one["kind"] in _WORKLOADS
        ]

    @property
    def adapter(self) -> Workload:
        """Return the adapter's own."""
        return next(one for one in self.workloads if one.name == "qc-adapter")

    @property
    def environment(self) -> dict[str, str]:
        """Return what the adapter's process gets as variables, those of the downward API left out."""
        [container] = self.adapter.pod["containers"]
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            found |= self.get("ConfigMap", source["configMapRef"]["name"])["data"]
        return found | {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}

    @property
    def replicas(self) -> int:
        """Return how many replicas of the adapter there are at least."""
        for scaler in self.kind("HorizontalPodAutoscaler"):
            return int(scaler["spec"]["minReplicas"])
        return int(self.adapter.spec.get("replicas", 1))

    def selected(self, labels: dict[str, Any]) -> list[Workload]:
        """Return whose pods a selector takes: plain labels, or matchLabels and matchExpressions."""
        plain = labels.get("matchLabels", {} if "matchExpressions" in labels else labels)
        wanted = [*plain.items()]
        among = labels.get("matchExpressions", [])
        assert all(one["operator"] == "In" for one in among), "only In is understood here"
        return [
            one
            for one in self.workloads
            if all(one.labels.get(key) == value for key, value in wanted)
            and all(one.labels.get(rule["key"]) in rule["values"] for rule in among)
        ]


def build(folder: Path) -> Manifests:
    """Build a kustomization."""
    made = subprocess.run(  # noqa: S603 - kustomize, and a folder of ours
        [*kustomize(), str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 0, made.stderr
    return Manifests(one for one in yaml.safe_load_all(made.stdout) if one)


def overlay(name: str) -> Manifests:
    """Build an overlay."""
    return build(FOLDER / "overlays" / name)


def together(place: Path, *components: str, on: str = "base", settings: dict[str, str] | None = None) -> Manifests:
    """Build components on the base, or on an overlay, with more settings."""
    kustomization: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "qc-adapter",
        "resources": [os.path.relpath(FOLDER / on, place)],
        "components": [os.path.relpath(FOLDER / "components" / one, place) for one in components],
    }
    if settings:
        literals = [f"{name}={value}" for name, value in settings.items()]
        kustomization["configMapGenerator"] = [{"name": "qc-adapter", "behavior": "merge", "literals": literals}]
    (place / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return build(place)
