#!/usr/bin/env python3
"""Checks rendered manifests: `check.py security FILE`, `check.py configs FILE BINARY`, `check.py served FILE SCHEMAS CRDS`.

`security` holds every pod template to the Pod Security Standard "restricted" (with a read-only root file system on top).
The host paths of the log DaemonSet are the one exception, and have to be there where it is. `configs` has the program check
every afflux.yaml, with the variables that its container gets. `served` looks for every kind in the schemas of a release of
Kubernetes: kubectl-validate falls back to the older ones that it brings, and would pass what has been removed since.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import yaml

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SELINUX = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}  # fmt: skip
PODS = {"Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Job"}
KINDS_WITHOUT_PODS = {
    "ClusterRole", "ClusterRoleBinding", "ConfigMap", "Namespace", "NetworkPolicy", "PodDisruptionBudget",
    "PrometheusRule", "Role", "RoleBinding", "ScaledObject", "Service", "ServiceAccount", "ServiceMonitor",
}  # fmt: skip
# What the log DaemonSet may do besides.
EXCEPTION = {"hostPath /var/log/pods", "hostPath of its state"}


def load(file):
    with open(file) as text:
        return [document for document in yaml.safe_load_all(text) if document]


def workloads(documents):
    for document in documents:
        if document["kind"] in PODS:
            yield f"{document['kind']} {document['metadata']['name']}", document
        elif document["kind"] not in KINDS_WITHOUT_PODS:
            # A kind that might hold pods is not passed over silently.
            sys.exit(f"{document['kind']} is unknown to this check")


def pod_violations(pod):
    security = pod.get("securityContext", {})
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name
    for volume in pod.get("volumes", []):
        for kind in volume.keys() - {"name"} - VOLUMES:
            path = volume[kind].get("path") if kind == "hostPath" else volume["name"]
            yield "hostPath of its state" if kind == "hostPath" and volume["name"] == "state" else f"{kind} {path}"
    for sysctl in security.get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    containers = [c for key in ("initContainers", "containers", "ephemeralContainers") for c in pod.get(key) or []]
    if not containers:
        yield "no containers"
    for container in containers:
        for violation in container_violations(container, security):
            yield f"{container['name']}: {violation}"


def container_violations(container, pod_security):
    own = container.get("securityContext", {})

    def setting(name):
        return own.get(name, pod_security.get(name))

    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if "ALL" not in own.get("capabilities", {}).get("drop", []):
        yield "capabilities are not all dropped"
    if set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if setting("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if setting("runAsUser") == 0:
        yield "runAsUser is root"
    if (setting("seccompProfile") or {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "no seccompProfile"
    if (setting("appArmorProfile") or {}).get("type") not in {None, "RuntimeDefault", "Localhost"}:
        yield "appArmorProfile"
    selinux = setting("seLinuxOptions") or {}
    if selinux.get("type") not in SELINUX or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    if (setting("windowsOptions") or {}).get("hostProcess"):
        yield "hostProcess"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort"
    if any(
        action.get(kind, {}).get("host")
        for action in [container.get(probe, {}) for probe in ("livenessProbe", "readinessProbe", "startupProbe")]
        + list(container.get("lifecycle", {}).values())
        for kind in ("httpGet", "tcpSocket")
    ):
        yield "a probe or hook names a host"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "root file system is writable"
    for mount in container.get("volumeMounts", []):
        if mount["mountPath"].startswith("/var/log") and not mount.get("readOnly"):
            yield f"{mount['mountPath']} is writable"


def security(file):
    failed, pods = [], 0
    for name, document in workloads(load(file)):
        pods += 1
        violations = set(pod_violations(document["spec"]["template"]["spec"]))
        labels = document["spec"]["template"]["metadata"].get("labels", {})
        logs = document["kind"] == "DaemonSet" and labels.get("app.kubernetes.io/component") == "logs"
        allowed = EXCEPTION if logs else set()
        failed += [f"{name}: {violation}" for violation in sorted(violations - allowed)]
        # An exception that nobody needs is to be taken out of here.
        failed += [f"{name}: is without `{missing}`, which is excepted" for missing in sorted(allowed - violations)]
    if not pods:
        failed.append("no pod templates at all")
    if failed:
        sys.exit("\n".join([f"{file}: not \"restricted\":", *failed]))
    print(f"{file}: {pods} pod templates are \"restricted\" but for the log DaemonSet's host paths")


def configs(file, binary):
    documents = load(file)
    maps = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    used, failed = set(), []
    for name, document in workloads(documents):
        pod = document["spec"]["template"]["spec"]
        config = next(v["configMap"]["name"] for v in pod["volumes"] if v["name"] == "config")
        used.add(config)
        [container] = pod["containers"]
        env = {v["name"]: v["value"].replace("$(NODE_NAME)", "node-1") for v in container.get("env", []) if "value" in v}
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "afflux.yaml")
            with open(path, "w") as text:
                text.write(maps[config]["afflux.yaml"])
            done = subprocess.run(
                [binary, "config", "check", path], env={**os.environ, **env}, capture_output=True, text=True
            )
        said = (done.stdout + done.stderr).strip()
        only = container["args"][container["args"].index("--only") + 1] if "--only" in container["args"] else None
        runs = said.partition("; runs ")[2].partition(" on the ")[0].split(", ")
        if done.returncode or (only and {part.split(".accumulate")[0] for part in runs} != {only}):
            failed.append(f"{name}: {said} (wanted: {only})")
    failed += [f"ConfigMap {unused} belongs to nothing" for unused in sorted(maps.keys() - used)]
    if failed or not used:
        sys.exit("\n".join([f"{file}: configurations that the program does not take:", *failed]))
    print(f"{file}: the program takes {len(used)} configurations")


def served(file, schemas, crds):
    kinds = set()
    for path in pathlib.Path(schemas).rglob("*.json"):
        for schema in json.loads(path.read_text())["components"]["schemas"].values():
            for kind in schema.get("x-kubernetes-group-version-kind", []):
                kinds.add((f"{kind['group']}/{kind['version']}".lstrip("/"), kind["kind"]))
    for path in pathlib.Path(crds).glob("*.yaml"):
        for crd in load(path):
            for version in crd["spec"]["versions"]:
                if version["served"]:
                    kinds.add((f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]))
    unknown = {(d["apiVersion"], d["kind"]) for d in load(file)} - kinds
    if unknown:
        sys.exit(f"{file}: not in {schemas}: {sorted(unknown)}")
    print(f"{file}: every kind is in {os.path.basename(schemas)}")


if __name__ == "__main__":
    {"security": security, "configs": configs, "served": served}[sys.argv[1]](*sys.argv[2:])
