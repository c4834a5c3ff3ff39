"""What services, network policies, budgets and objects of operators have to be like; as in policies_pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.tests.manifests import Manifests

_RESTRICTED = "pod-security.kubernetes.io/"
#: QcCertificateExpiresSoon fires that long before the end.
_ALERT_HOURS = 21 * 24


def is_in_a_restricted_namespace(manifests: Manifests) -> list[str]:
    """Everything is in one namespace, which admits restricted pods only."""
    found = []
    for namespace in manifests.kind("Namespace"):
        labels = namespace["metadata"].get("labels", {})
        found += [
            f"namespace: {mode} is not restricted"
            for mode in ("enforce", "audit", "warn")
            if labels.get(_RESTRICTED + mode) != "restricted"
        ]
    for one in manifests.objects:
        if one["kind"] != "Namespace" and one["metadata"].get("namespace") != "qc-adapter":
            found.append(f"{one['kind']} {one['metadata']['name']}: not in the namespace")
    return found or ([] if manifests.kind("Namespace") else ["there is no namespace"])


def services_lead_somewhere(manifests: Manifests) -> list[str]:
    """A service takes the pods of one workload, and leads to ports that they have and say by name."""
    found = []
    for service in manifests.kind("Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        behind = manifests.selected(spec["selector"])
        if len(behind) != 1:
            found.append(f"service {name}: takes the pods of {[one.name for one in behind]}")
            continue
        for port in spec["ports"]:
            if behind[0].ports.get(port["targetPort"]) != port["port"]:
                found.append(f"service {name}: {port['name']} leads to no port {port['port']} of {behind[0].name}")
            if "appProtocol" not in port:
                found.append(f"service {name}: {port['name']} does not say its protocol")
    found += [
        f"there is no service {name}"
        for name in ("qc-adapter", "qc-adapter-headless", "qc-adapter-ops")
        if manifests.find("Service", name) is None
    ]
    return found


def grpc_says_its_protocol(manifests: Manifests) -> list[str]:
    """HTTP/2 in plain where the adapter has no certificate, TLS where it has one."""
    wanted = "https" if "QC_TLS_CERT_FILE" in manifests.environment else "kubernetes.io/h2c"
    return [
        f"service {service['metadata']['name']}: grpc is not {wanted}"
        for service in manifests.kind("Service")
        for port in service["spec"]["ports"]
        if port["name"] == "grpc" and port["appProtocol"] != wanted
    ]


def only_the_known_get_through(manifests: Manifests) -> list[str]:
    """Every pod is under a policy for both ways; no rule is without a peer or port; ports are those of the pods."""
    found = []
    ways: dict[str, set[str]] = {one.name: set() for one in manifests.workloads}
    let_in: dict[str, set[str]] = {one.name: set() for one in manifests.workloads}
    for policy in manifests.kind("NetworkPolicy"):
        name, spec = policy["metadata"]["name"], policy["spec"]
        pods = manifests.selected(spec["podSelector"])
        if not spec["podSelector"] or not pods:
            found.append(f"network policy {name}: is about all pods, or none")
        for workload in pods:
            ways[workload.name] |= set(spec["policyTypes"])
        rules = [(rule, rule.get("from")) for rule in spec.get("ingress", [])]
        rules += [(rule, rule.get("to")) for rule in spec.get("egress", [])]
        for rule, peers in rules:
            if not peers or not rule.get("ports") or any(not _narrow(peer) for peer in peers):
                found.append(f"network policy {name}: a rule lets everybody or every port through")
        named = {port["port"] for rule in spec.get("ingress", []) for port in rule.get("ports", [])}
        for workload in pods:
            let_in[workload.name] |= named & set(workload.ports)
        found += [
            f"network policy {name}: {port} is no port of its pods"
            for port in named
            if not any(port in workload.ports for workload in pods)
        ]
        found += _leads_nowhere(manifests, name, spec.get("egress", []))
    for workload in manifests.workloads:
        if ways[workload.name] != {"Ingress", "Egress"}:
            found.append(f"{workload.name}: is not under a policy for both ways")
        found += [
            f"{workload.name}: nobody is let in to {port}" for port in set(workload.ports) - let_in[workload.name]
        ]
    return found


def _narrow(peer: dict[str, Any]) -> bool:
    if "ipBlock" in peer:
        return int(peer["ipBlock"]["cidr"].partition("/")[2]) >= 8
    selectors = [peer[key] for key in ("podSelector", "namespaceSelector") if key in peer]
    return bool(selectors) and all(one.get("matchLabels") or one.get("matchExpressions") for one in selectors)


def _leads_nowhere(manifests: Manifests, name: str, rules: list[dict[str, Any]]) -> list[str]:
    """Return named ports that the pods at the other end do not have."""
    return [
        f"network policy {name}: {port['port']} is no port of whom it lets us reach"
        for rule in rules
        for peer in rule.get("to") or []
        if "podSelector" in peer and "namespaceSelector" not in peer
        for port in rule.get("ports", [])
        if not any(port["port"] in one.ports for one in manifests.selected(peer["podSelector"]))
    ]


def budgets_allow_one(manifests: Manifests) -> list[str]:
    """What has replicas has a budget, which takes its pods, keeps all but one and lets that one go."""
    found = []
    under = {one.name: 0 for one in manifests.workloads}
    for budget in manifests.kind("PodDisruptionBudget"):
        name, spec = budget["metadata"]["name"], budget["spec"]
        pods = manifests.selected(spec["selector"])
        if len(pods) != 1:
            found.append(f"budget {name}: takes the pods of {[one.name for one in pods]}")
            continue
        under[pods[0].name] += 1
        replicas = manifests.replicas if pods[0].name == "qc-adapter" else pods[0].spec["replicas"]
        leave = spec.get("maxUnavailable", replicas - spec.get("minAvailable", 0))
        if leave != 1:
            found.append(f"budget {name}: lets {leave} of {replicas} go at once")
        if replicas < 2:
            found.append(f"budget {name}: is about one pod")
    for workload in manifests.workloads:
        several = manifests.replicas if workload.name == "qc-adapter" else workload.spec.get("replicas", 1)
        if several > 1 and under[workload.name] != 1:
            found.append(f"{workload.name}: has {under[workload.name]} budgets")
    return found


def certificates_fit(manifests: Manifests) -> list[str]:
    """cert-manager's objects, for which there is no schema here: mounted, for the names in use, renewed in time."""
    found = []
    mounted = [volume.get("secret", {}).get("secretName") for volume in manifests.adapter.pod.get("volumes", [])]
    for certificate in manifests.kind("Certificate"):
        name, spec = certificate["metadata"]["name"], certificate["spec"]
        if spec["secretName"] not in mounted:
            found.append(f"certificate {name}: its secret is not mounted")
        if set(spec["issuerRef"]) != {"group", "kind", "name"} or not spec["dnsNames"]:
            found.append(f"certificate {name}: no issuer or no names")
        if _hours(spec["renewBefore"]) * 2 > _hours(spec["duration"]) or _hours(spec["renewBefore"]) <= _ALERT_HOURS:
            found.append(f"certificate {name}: is renewed too often, or after the alert for its end")
    if (ours := manifests.find("Certificate", "qc-adapter")) is not None:
        wanted = {
            f"{service['metadata']['name']}.qc-adapter.svc"
            for service in manifests.kind("Service")
            if any(port["name"] == "grpc" for port in service["spec"]["ports"])
        }
        if missing := wanted - set(ours["spec"]["dnsNames"]):
            found.append(f"certificate qc-adapter: is not for {missing}")
        target = manifests.environment.get("QC_TARGET", "").partition(":")[0]
        if target not in ours["spec"]["dnsNames"] or "client auth" not in ours["spec"]["usages"]:
            found.append("certificate qc-adapter: commands in a pod cannot call with it")
    return found


def monitoring_fits(manifests: Manifests) -> list[str]:
    """The Prometheus operator's objects, without a schema as well: who is scraped under which names, whole rules."""
    found = []
    for monitor in manifests.kind("ServiceMonitor"):
        spec = monitor["spec"]
        labels = spec["selector"]["matchLabels"].items()
        services = [one for one in manifests.kind("Service") if labels <= one["metadata"].get("labels", {}).items()]
        if [one["metadata"]["name"] for one in services] != ["qc-adapter-ops"]:
            found.append("service monitor: takes other services than ops")
        elif {one["port"] for one in spec["endpoints"]} - {port["name"] for port in services[0]["spec"]["ports"]}:
            found.append("service monitor: asks for a port that ops does not have")
        elif services[0]["metadata"]["labels"].get(spec.get("jobLabel")) != "qc-adapter":
            found.append("service monitor: the job would not be called qc-adapter")
        targets = [one.get("targetLabel") for each in spec["endpoints"] for one in each.get("relabelings", [])]
        if "instance" not in targets:
            found.append("service monitor: the instance would not be the pod")
    found += [
        f"rules {group['name']}: one without an expression, or neither record nor alert"
        for rules in manifests.kind("PrometheusRule")
        for group in rules["spec"]["groups"]
        for rule in group["rules"]
        if not rule.get("expr") or len({"record", "alert"} & set(rule)) != 1
    ]
    return found


def _hours(text: str) -> int:
    return int(text.removesuffix("h"))


NETWORK = (is_in_a_restricted_namespace, services_lead_somewhere, grpc_says_its_protocol, only_the_known_get_through,
           budgets_allow_one, certificates_fit, monitoring_fits)  # fmt: skip
