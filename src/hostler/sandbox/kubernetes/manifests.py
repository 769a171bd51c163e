"""Says what a session's pod, its volume and the policy of all pods are made of, in the words of the Kubernetes API.

The pod's root is ours alone and keeps the five rights that the init needs to become the agent, who has none. No service
account, no name server, nothing of the node's is inside. It asks nobody.
"""

from __future__ import annotations

import hashlib
import platform
from typing import Any

import msgspec

from hostler.sandbox import rootfs
from hostler.sandbox.container import setup
from hostler.sandbox.container.setup import INIT, INIT_FOLDER, PROGRAMS
from hostler.sandbox.contract import Limits, SandboxSpec
from hostler.sandbox.kubernetes.settings import KubernetesConfig

CONTAINER = "sandbox"
MANAGED = {"app.kubernetes.io/managed-by": "hostler", "app.kubernetes.io/component": "sandbox"}
INSTALL_LABEL = "hostler.io/install"
SESSION_ANNOTATION = "hostler.io/session"
POLICY = "hostler-sandboxes"
_VOLUME = "files"
_MIB = 1024 * 1024
# The places of the agent's files. What is not the agent's in them (as /mnt/session/uploads) is root's.
_FOLDERS = {"workspace": "/workspace", "home": "/home", "mnt": "/mnt", "tmp": "/tmp", "vartmp": "/var/tmp"}
_RIGHTS = ["CHOWN", "KILL", "SETGID", "SETPCAP", "SETUID"]
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_PAUSE = "sleep 0.05 2>/dev/null || sleep 1"
# Any image with a shell will do: our init comes through `pods/exec` and takes the shell's place.
_BOOT = (
    f"umask 022; chmod 0755 {PROGRAMS} /home /mnt; chmod 0700 {INIT_FOLDER}; n=0; "
    f"until [ -x {INIT} ]; do n=$((n+1)); [ $n -gt 2400 ] && exit 75; {_PAUSE}; done; exec env -i {INIT} container"
)
_UPLOAD = (
    f"umask 022; head -c {{size}} > {INIT}.new && chmod 0755 {INIT}.new && mv {INIT}.new {INIT} || exit; n=0; "
    f"until [ -S {INIT_FOLDER}/init.sock ]; do n=$((n+1)); [ $n -gt 200 ] && exit 75; {_PAUSE}; done"
)


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What all pods of a backend have in common."""

    install: str  # names the data folder
    image: str
    runtime: str
    config: KubernetesConfig

    @property
    def labels(self) -> dict[str, str]:
        return {**MANAGED, INSTALL_LABEL: self.install}

    def name(self, key: str) -> str:
        """A session's id may have more letters, and other ones, than a name here."""
        return f"hostler-{self.install}-{hashlib.sha256(key.encode()).hexdigest()[:20]}"

    def claim_name(self, key: str) -> str:
        """As a Sandbox resource names the claim that it makes of a template."""
        return f"{_VOLUME}-{self.name(key)}"


def upload(size: int) -> list[str]:
    """The program that takes our init on its stdin. It reads no further: not every cluster can say where stdin ends."""
    return ["/bin/sh", "-c", _UPLOAD.format(size=size)]


def template(made: Made, spec: SandboxSpec, limits: Limits, *, claimed: bool) -> dict[str, Any]:
    """What a session's pod is, without a name. `claimed`: whoever makes it adds the volume of the agent's files."""
    metadata = {"labels": made.labels, "annotations": {SESSION_ANNOTATION: spec.key}}
    return {"metadata": metadata, "spec": _pod_spec(made, spec, limits, claimed)}


def pod(name: str, body: dict[str, Any]) -> dict[str, Any]:
    metadata = {**body["metadata"], "name": name}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body["spec"]}


def claim(made: Made, key: str, limits: Limits) -> dict[str, Any]:
    metadata = {"name": made.claim_name(key), "labels": made.labels, "annotations": {SESSION_ANNOTATION: key}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": _claim_spec(made, limits),
    }


def sandbox_resource(
    made: Made, spec: SandboxSpec, limits: Limits, version: str, running: dict[str, Any]
) -> dict[str, Any]:
    """A Sandbox of agents.x-k8s.io; `running` is how its version says that there is to be a pod."""
    key = spec.key
    claims = [{"metadata": {"name": _VOLUME, "labels": made.labels}, "spec": _claim_spec(made, limits)}]
    metadata = {"name": made.name(key), "labels": made.labels, "annotations": {SESSION_ANNOTATION: key}}
    return {
        "apiVersion": f"agents.x-k8s.io/{version}",
        "kind": "Sandbox",
        "metadata": metadata,
        "spec": {
            "podTemplate": template(made, spec, limits, claimed=True),
            "volumeClaimTemplates": claims,
            **running,
        },
    }


def network_policy() -> dict[str, Any]:
    """Nothing goes in or out: what a sandbox may reach comes through the server."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": POLICY, "labels": MANAGED},
        "spec": {"podSelector": {"matchLabels": MANAGED}, "policyTypes": ["Ingress", "Egress"]},
    }


def closes(policy: dict[str, Any]) -> bool:
    """Whether a policy keeps all our pods from everything: others can then only be meant to add something."""
    spec = policy.get("spec") or {}
    selector = spec.get("podSelector") or {}
    if selector.get("matchExpressions") or not (selector.get("matchLabels") or {}).items() <= MANAGED.items():
        return False
    types = spec.get("policyTypes") or []
    return "Ingress" in types and "Egress" in types and not spec.get("ingress") and not spec.get("egress")


def _claim_spec(made: Made, limits: Limits) -> dict[str, Any]:
    size = limits.disk_bytes or 10 * 1024 * _MIB
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{max(1, size // _MIB)}Mi"}},
    }
    return spec | ({"storageClassName": made.config.storage_class} if made.config.storage_class else {})


def _pod_spec(made: Made, spec: SandboxSpec, limits: Limits, claimed: bool) -> dict[str, Any]:
    config = made.config
    files = {"name": _VOLUME, "persistentVolumeClaim": {"claimName": made.claim_name(spec.key)}}
    found: dict[str, Any] = {
        "hostname": "sandbox",
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "nodeSelector": {"kubernetes.io/os": "linux", "kubernetes.io/arch": _machine(), **config.node_selector},
        "securityContext": {"runAsUser": 0, "runAsGroup": 0, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(made, spec, limits)],
        "volumes": [
            *([] if claimed else [files]),
            {"name": "programs", "emptyDir": {"sizeLimit": "256Mi"}},
            {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
        ],
    }
    found |= {"runtimeClassName": made.runtime} if made.runtime else {}
    found |= {"hostUsers": False} if config.user_namespaces else {}
    found |= {"tolerations": config.tolerations} if config.tolerations else {}
    found |= {"imagePullSecrets": [{"name": name} for name in config.pull_secrets]} if config.pull_secrets else {}
    return found


def _machine() -> str:
    return _MACHINES.get(platform.machine(), platform.machine())


def _container(made: Made, spec: SandboxSpec, limits: Limits) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": made.image,
        "imagePullPolicy": made.config.pull_policy,
        "command": ["/bin/sh", "-c", _BOOT],
        "workingDir": "/",
        "resources": _resources(made.config, limits),
        "volumeMounts": [
            *({"name": _VOLUME, "mountPath": path, "subPath": name} for name, path in _folders(spec).items()),
            {"name": "programs", "mountPath": PROGRAMS},
            {"name": "run", "mountPath": INIT_FOLDER},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
        "securityContext": {
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": _RIGHTS},
        },
    }


def _folders(spec: SandboxSpec) -> dict[str, str]:
    """The folders of the session's volume, and where they are inside."""
    extra = {setup.extra_name(path): path for path in rootfs.outside(spec.folders)}
    return _FOLDERS | extra


def _resources(config: KubernetesConfig, limits: Limits) -> dict[str, Any]:
    """Requests are small, as most sandboxes wait most of the time. The init holds the memory limit itself and ends what
    takes most: the node's limit is higher, since it ends the whole pod."""
    ceilings: dict[str, str] = {}
    memory = min(config.memory_request_mb * _MIB, limits.memory_bytes or config.memory_request_mb * _MIB)
    cpu = min(config.cpu_request, limits.cpus or config.cpu_request)
    if limits.memory_bytes:
        ceilings["memory"] = f"{(limits.memory_bytes + limits.memory_bytes // 8) // _MIB + 64}Mi"
    if limits.cpus:
        ceilings["cpu"] = f"{max(1, int(limits.cpus * 1000))}m"
    if limits.disk_bytes:
        ceilings["ephemeral-storage"] = f"{limits.disk_bytes // _MIB + 512}Mi"
    requests = {"memory": f"{max(1, memory // _MIB)}Mi", "cpu": f"{max(1, int(cpu * 1000))}m"}
    return {"requests": requests | {"ephemeral-storage": "64Mi"}, "limits": ceilings}
