"""The manifests: built by kustomize, taken by Kubernetes' schemas, and by policies that are each shown to refuse."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from pathlib import Path

import kubernetes_validate
import pytest

from deploy.tests.manifests import COMPONENTS, FOLDER, OVERLAYS, build, overlay, together
from deploy.tests.policies_network import NETWORK
from deploy.tests.policies_pods import PODS
from deploy.tests.policies_settings import SETTINGS, WHOLE, settings_are_taken

#: The oldest that has everything we use, and the newest there are schemas for.
KUBERNETES = ("1.29", "1.37")
#: Objects of operators: cert-manager and the Prometheus operator. policies look at them.
WITHOUT_SCHEMA = {"Certificate", "ServiceMonitor", "PrometheusRule"}
STRUCTURE = (*PODS, *NETWORK, *SETTINGS)
#: Everything that goes together, as a site may have it.
ALL_BUT_ONE = {"everything with sentinels": "redis-external", "everything with another Redis": "redis-sentinel"}


@functools.cache
def built(name):
    """Build an overlay, a component on the base, or all that go together, once."""
    if name in OVERLAYS:
        return overlay(name)
    with tempfile.TemporaryDirectory() as folder:
        if name in ALL_BUT_ONE:
            components = [one for one in COMPONENTS if one != ALL_BUT_ONE[name]]
            settings = {"QC_GATEWAY_URL": "https://gateway.example.com:8043"}
            return together(Path(folder), *components, settings=settings)
        return together(Path(folder), *([] if name == "base" else [name]))


@functools.cache
def fits(text, version):
    """Raise where the object does not fit; what stands in several builds is looked at once, for schemas load slowly."""
    kubernetes_validate.validate(json.loads(text), version, strict=True)


EVERY = (*OVERLAYS, *ALL_BUT_ONE, "base", *COMPONENTS)
#: Where the base's placeholder stands for the image: only a deployment has to say which one.
NAMED_LATER = "qc-adapter:unset does not say which image"


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", EVERY)
def test_every_object_fits_the_schema(name, version):
    """Kubernetes' own schema takes every object, and no field is one that it does not know."""
    for one in built(name).objects:
        if one["kind"] not in WITHOUT_SCHEMA:
            fits(json.dumps(one), version)


def test_a_misspelt_field_does_not_fit_the_schema():
    """The schemas refuse what the API server would silently drop."""
    spoilt = built("production").copy()
    spoilt.adapter.pod["terminationGracePeriod"] = 60
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoilt.get("Deployment", "qc-adapter"), KUBERNETES[0], strict=True)


@pytest.mark.parametrize("policy", STRUCTURE, ids=lambda policy: policy.__name__)
@pytest.mark.parametrize("name", EVERY)
def test_every_build_keeps_every_policy(name, policy):
    """Overlays, and each component alone on the base, break none of the policies."""
    found = policy(built(name))
    if name not in OVERLAYS:
        found = [one for one in found if NAMED_LATER not in one]
    assert found == []


@pytest.mark.parametrize("policy", WHOLE, ids=lambda policy: policy.__name__)
@pytest.mark.parametrize("name", [*OVERLAYS, *ALL_BUT_ONE])
def test_every_whole_deployment_would_start(name, policy):
    """The adapter takes the settings of what is deployed as a whole, and may go where they say."""
    assert policy(built(name)) == []


def test_the_base_alone_does_not_start():
    """Who forgets to say how callers are known, and where the gateway is, gets no open port but a refusal."""
    problems = settings_are_taken(built("base"))
    assert [one.partition("=")[0].partition(":")[0] for one in problems] == ["QC_GATEWAY_URL", "QC_LISTEN"]


def test_the_production_overlay_names_no_image_yet():
    """A digest of zeros is nobody's image, so that nothing else is deployed by oversight."""
    [container] = built("production").adapter.pod["containers"]
    assert container["image"].endswith("@sha256:" + "0" * 64)
    assert built("production").replicas == 3


def test_a_sites_settings_win_over_those_of_components(tmp_path):
    """What settings.env of a copied folder says is what the adapter gets, whichever component says otherwise."""
    site = tmp_path / "site"
    shutil.copytree(FOLDER / "overlays" / "production", site)
    kustomization = site / "kustomization.yaml"
    text = kustomization.read_text()
    for name in ("push", "tracing"):
        text = text.replace(f"# - ../../components/{name}", f"- ../../components/{name}")
    kustomization.write_text(text.replace("../../", f"{os.path.relpath(FOLDER, site)}/"))
    said = {
        "QC_PUSH_URL": "https://push.site.example:8443/events",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.site:4317",
        "QC_TLS_CLIENT_CA_FILE": "/etc/qc-adapter/tls/callers.crt",
        "QC_DRAIN_SECONDS": "7",
    }
    with (site / "settings" / "settings.env").open("a") as settings:
        settings.writelines(f"{name}={value}\n" for name, value in said.items())
    environment = build(site).environment
    assert environment["QC_EVENT_SOURCE"] == "push"
    assert {name: environment[name] for name in said} == said


def _container(manifests, workload="qc-adapter"):
    return next(one for one in manifests.workloads if one.name == workload).pod["containers"][0]


def _setting(name, value):
    def spoil(manifests):
        [source] = _container(manifests)["envFrom"]
        manifests.get("ConfigMap", source["configMapRef"]["name"])["data"][name] = value

    return spoil


def _in_pod(**values):
    return lambda manifests: manifests.adapter.pod.update(values)


def _in_container(**values):
    return lambda manifests: _container(manifests).update(values)


def _in_spec(**values):
    return lambda manifests: manifests.adapter.spec.update(values)


def _in_security(**values):
    return lambda manifests: _container(manifests)["securityContext"].update(values)


def _in_object(kind, name, change):
    return lambda manifests: change(manifests.get(kind, name))


def _without(kind, name):
    return lambda manifests: manifests.objects.remove(manifests.get(kind, name))


def _add(one):
    return lambda manifests: manifests.objects.append(one)


def _scale(change):
    return lambda manifests: change(manifests.get("HorizontalPodAutoscaler", "qc-adapter"))


def _pods(change):
    return lambda manifests: change(manifests.adapter.pod)


_SECRET = {"kind": "Secret", "metadata": {"name": "qc", "namespace": "qc-adapter"}, "stringData": {"password": "x"}}
#: For each policy what breaks it, on a copy of everything with sentinels.
BROKEN = {
    "runs_as_nobody": {
        "as root": _pods(lambda pod: pod["securityContext"].update(runAsUser=0)),
        "by name": _pods(lambda pod: pod["securityContext"].pop("runAsUser")),
        "not said": _pods(lambda pod: pod["securityContext"].pop("runAsNonRoot")),
        "no seccomp": _pods(lambda pod: pod["securityContext"].pop("seccompProfile")),
        "host network": _in_pod(hostNetwork=True),
        "host path": _pods(lambda pod: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}})),
        "escalation": _in_security(allowPrivilegeEscalation=True),
        "a capability": _in_security(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}),
        "none dropped": _in_security(capabilities={}),
        "container says otherwise": _in_security(runAsUser=0),
    },
    "root_is_read_only": {
        "writable": _in_security(readOnlyRootFilesystem=False),
        "not said": _in_container(securityContext={}),
    },
    "has_sizes": {
        "no requests": _in_container(resources={"limits": {"memory": "1Gi"}}),
        "no limit": _in_container(resources={"requests": {"cpu": "1", "memory": "1Gi"}}),
        "a limit of CPU": lambda manifests: _container(manifests)["resources"]["limits"].update(cpu="1"),
    },
    "fits_one_core": {
        "two": lambda manifests: _container(manifests)["resources"]["requests"].update(cpu="2"),
        "full": lambda manifests: _container(manifests)["resources"]["requests"].update(cpu="1100m"),
        "too late": _scale(
            lambda one: one["spec"]["metrics"][1]["resource"]["target"].update(averageUtilization=400)
        ),
    },
    "is_probed": {
        "no liveness": lambda manifests: _container(manifests).pop("livenessProbe"),
        "no such port": _in_container(readinessProbe={"httpGet": {"path": "/readyz", "port": "http"}}),
        "restart for the store": _in_container(livenessProbe={"httpGet": {"path": "/readyz", "port": "ops"}}),
        "by gRPC": _in_container(readinessProbe={"grpc": {"port": 50051}}),
    },
    "is_pinned": {
        "latest": _in_container(image="registry.example.com/qc-adapter:latest"),
        "no tag": _in_container(image="registry.example.com:5000/qc-adapter"),
    },
    "has_no_token": {
        "token": _in_pod(automountServiceAccountToken=True),
        "links": lambda manifests: manifests.adapter.pod.pop("enableServiceLinks"),
        "account": _in_object("ServiceAccount", "qc-adapter", lambda one: one.pop("automountServiceAccountToken")),
    },
    "is_spread": {
        "not": _in_pod(topologySpreadConstraints=[]),
        "others": _pods(
            lambda pod: pod["topologySpreadConstraints"][0].update(labelSelector={"matchLabels": {"a": "b"}})
        ),
    },
    "refers_to_what_is_there": {
        "settings": _in_container(envFrom=[{"configMapRef": {"name": "qc-adapter-old"}}]),
        "secret": _pods(
            lambda pod: next(one for one in pod["volumes"] if "secret" in one)["secret"].update(secretName="other")
        ),
        "volume": _pods(lambda pod: pod.update(volumes=pod["volumes"][1:])),
        "account": _in_pod(serviceAccountName="other"),
    },
    "is_in_a_restricted_namespace": {
        "privileged": _in_object("Namespace", "qc-adapter", lambda one: one["metadata"]["labels"].clear()),
        "elsewhere": _in_object("Service", "redis", lambda one: one["metadata"].update(namespace="default")),
        "none": _without("Namespace", "qc-adapter"),
    },
    "services_lead_somewhere": {
        "nobody's": _in_object("Service", "qc-adapter", lambda one: one["spec"].update(selector={"a": "b"})),
        "port": _in_object("Service", "qc-adapter-ops", lambda one: one["spec"]["ports"][0].update(port=80)),
        "target": _in_object("Service", "redis", lambda one: one["spec"]["ports"][0].update(targetPort="db")),
        "protocol": _in_object("Service", "redis", lambda one: one["spec"]["ports"][0].pop("appProtocol")),
        "missing": _without("Service", "qc-adapter-headless"),
    },
    "grpc_says_its_protocol": {
        "h2c with TLS": _in_object(
            "Service", "qc-adapter", lambda one: one["spec"]["ports"][0].update(appProtocol="kubernetes.io/h2c")
        ),
    },
    "only_the_known_get_through": {
        "anybody": _in_object("NetworkPolicy", "qc-adapter", lambda one: one["spec"]["ingress"][0].pop("from")),
        "any namespace": _in_object(
            "NetworkPolicy", "qc-adapter", lambda one: one["spec"]["ingress"][0]["from"][0].update(namespaceSelector={})
        ),
        "any port": _in_object("NetworkPolicy", "qc-adapter", lambda one: one["spec"]["egress"][0].pop("ports")),
        "the world": _in_object(
            "NetworkPolicy",
            "qc-adapter-gateway",
            lambda one: one["spec"]["egress"][0]["to"][0]["ipBlock"].update(cidr="0.0.0.0/0"),
        ),
        "one way": _in_object("NetworkPolicy", "redis", lambda one: one["spec"].update(policyTypes=["Ingress"])),
        "no such port": _in_object(
            "NetworkPolicy", "redis", lambda one: one["spec"]["ingress"][0]["ports"][0].update(port="db")
        ),
        "no such port there": _in_object(
            "NetworkPolicy", "qc-adapter-redis", lambda one: one["spec"]["egress"][0]["ports"][0].update(port="db")
        ),
        "closed": _without("NetworkPolicy", "qc-adapter-push"),
        "about all": _in_object("NetworkPolicy", "redis", lambda one: one["spec"].update(podSelector={})),
    },
    "budgets_allow_one": {
        "none may go": _in_object(
            "PodDisruptionBudget", "qc-adapter", lambda one: one["spec"].update(maxUnavailable=0)
        ),
        "all may go": _in_object("PodDisruptionBudget", "qc-adapter", lambda one: one["spec"].update(maxUnavailable=3)),
        "nobody's": _in_object(
            "PodDisruptionBudget", "redis", lambda one: one["spec"].update(selector={"matchLabels": {"a": "b"}})
        ),
        "missing": _without("PodDisruptionBudget", "qc-adapter"),
        "one replica": _scale(lambda one: one["spec"].update(minReplicas=1)),
    },
    "certificates_fit": {
        "unmounted": _in_object("Certificate", "qc-adapter", lambda one: one["spec"].update(secretName="other")),
        "late": _in_object("Certificate", "qc-adapter", lambda one: one["spec"].update(renewBefore="48h")),
        "nameless": _in_object("Certificate", "qc-adapter", lambda one: one["spec"]["dnsNames"].pop(1)),
        "no callers in pods": _in_object(
            "Certificate", "qc-adapter", lambda one: one["spec"]["usages"].remove("client auth")
        ),
        "no issuer": _in_object("Certificate", "qc-adapter", lambda one: one["spec"]["issuerRef"].pop("kind")),
    },
    "monitoring_fits": {
        "other service": _in_object(
            "ServiceMonitor", "qc-adapter", lambda one: one["spec"]["selector"]["matchLabels"].update(a="b")
        ),
        "other port": _in_object(
            "ServiceMonitor", "qc-adapter", lambda one: one["spec"]["endpoints"][0].update(port="metrics")
        ),
        "other job": _in_object("ServiceMonitor", "qc-adapter", lambda one: one["spec"].pop("jobLabel")),
        "other instance": _in_object(
            "ServiceMonitor", "qc-adapter", lambda one: one["spec"]["endpoints"][0].pop("relabelings")
        ),
        "no expression": _in_object(
            "PrometheusRule", "qc-adapter", lambda one: one["spec"]["groups"][0]["rules"][0].pop("expr")
        ),
    },
    "holds_no_secret": {
        "object": _add(_SECRET),
        "token": _setting("QC_PUSH_TOKEN", "0123456789abcdef"),
        "password in the URL": _setting("QC_STORE_URL", "redis://:hunter2@redis:6379/0"),
        "variable": lambda manifests: _container(manifests, "redis")["env"].append({"name": "PASSWORD", "value": "x"}),
    },
    "settings_exist": {"misspelt": _setting("QC_DRAIN_SECOND", "10"), "foreign": _setting("HTTP_PROXY", "x")},
    "settings_are_taken": {
        "nobody is asked": lambda manifests: [
            _setting(name, "")(manifests)
            for name in ("QC_TLS_CLIENT_CA_FILE", "QC_JWT_ISSUER", "QC_JWT_AUDIENCE", "QC_JWT_JWKS_URL",
                         "QC_JWT_JWKS_CA_FILE", "QC_JWT_JWKS_TOKEN_FILE")
        ],
        "no policy": _setting("QC_POLICY_FILE", ""),
        "no seal": _setting("QC_SEAL_KEYS_FILE", ""),
        "no number": _setting("QC_DRAIN_SECONDS", "ten"),
        "no gateway": _setting("QC_GATEWAY_URL", ""),
        "plain HTTP": _setting("QC_GATEWAY_URL", "http://gateway.example.com:8043"),
        "unknown": _setting("QC_LISTENS", "0.0.0.0:1"),
        "stores of their own": lambda manifests: (
            _setting("QC_STORE_URL_FILE", "")(manifests), _setting("QC_STORE_URL", "memory://")(manifests)
        ),
    },
    "settings_files_are_mounted": {
        "elsewhere": _setting("QC_TLS_KEY_FILE", "/etc/tls/tls.key"),
        "writable": lambda manifests: [one.pop("readOnly") for one in _container(manifests)["volumeMounts"]],
    },
    "ports_are_those_of_the_settings": {
        "another": _setting("QC_LISTEN", "0.0.0.0:50052"),
        "loopback": _setting("QC_OPS_LISTEN", "127.0.0.1:8080"),
        "one too many": lambda manifests: _container(manifests)["ports"].append({"name": "x", "containerPort": 1}),
    },
    "goes_out_where_the_settings_say": {
        "gateway": _setting("QC_GATEWAY_URL", "https://gateway.example.com:9443"),
        "keys of tokens": _without("NetworkPolicy", "qc-adapter-issuer"),
        "store": _without("NetworkPolicy", "qc-adapter-redis"),
        "collector": _setting("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel-collector.observability:4318"),
    },
    "has_time_to_drain": {
        "too little": _in_pod(terminationGracePeriodSeconds=59),
        "not said": lambda manifests: manifests.adapter.pod.pop("terminationGracePeriodSeconds"),
        "longer drain": _setting("QC_DRAIN_SECONDS", "11"),
        "longer grace": _setting("QC_GRACE_SECONDS", "20"),
        "longer polls": _setting("QC_POLL_HOLD_SECONDS", "15"),
        "hook": _in_container(lifecycle={"preStop": {"sleep": {"seconds": 5}}}),
    },
    "rolls_without_a_sign_out": {
        "one less": lambda manifests: manifests.adapter.spec["strategy"]["rollingUpdate"].update(maxUnavailable=1),
        "all at once": lambda manifests: manifests.adapter.spec["strategy"]["rollingUpdate"].update(maxSurge="100%"),
        "at once": _in_spec(strategy={"type": "Recreate"}),
        "no time": _in_spec(minReadySeconds=0),
        "undone": _in_spec(replicas=3),
        "fast": _scale(lambda one: one["spec"]["behavior"]["scaleDown"]["policies"][0].update(periodSeconds=15)),
        "of something else": _scale(lambda one: one["spec"]["scaleTargetRef"].update(name="redis")),
    },
}  # fmt: skip
POLICIES = {policy.__name__: policy for policy in (*STRUCTURE, *WHOLE)}


@pytest.mark.parametrize(("name", "how"), [(name, how) for name, ways in BROKEN.items() for how in ways])
def test_a_policy_refuses_what_breaks_it(name, how):
    """Each policy says something of a copy that was spoilt, and of no other."""
    whole = built("everything with sentinels")
    found = set(POLICIES[name](whole))
    spoilt = whole.copy()
    BROKEN[name][how](spoilt)
    assert set(POLICIES[name](spoilt)) - found, f"{name} says nothing"


def test_no_policy_goes_untried():
    """There is a broken case for every policy."""
    assert set(BROKEN) == set(POLICIES)
