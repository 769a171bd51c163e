"""Says what a cluster offers to sandboxes, by asking it: for `hostler doctor`.

It changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from hostler.sandbox import native
from hostler.sandbox.contract import Check, Limits, SandboxUnavailable
from hostler.sandbox.kubernetes import manifests
from hostler.sandbox.kubernetes.access import Access
from hostler.sandbox.kubernetes.api import Api, ApiError
from hostler.sandbox.kubernetes.settings import KubernetesConfig
from hostler.sandbox.kubernetes.workloads import Places, served_version

_PAGE = "docs/sandbox-kubernetes.md"
_Rights = dict[tuple[str, str, str], tuple[str, ...]]
_ALWAYS: _Rights = {
    ("", "pods", ""): ("get", "list", "watch", "delete"),
    ("", "pods", "exec"): ("create", "get"),  # a WebSocket begins with a GET; since Kubernetes 1.35 it is a create
}
_BY_MODE: dict[str, _Rights] = {
    "pods": {
        ("", "pods", ""): ("create",),
        ("", "persistentvolumeclaims", ""): ("get", "create", "delete"),
    },
    "agent-sandbox": {("agents.x-k8s.io", "sandboxes", ""): ("get", "create", "patch", "delete")},
}
_POLICIES: _Rights = {("networking.k8s.io", "networkpolicies", ""): ("list",)}


def checks(find: Callable[[], Access], config: KubernetesConfig, runtime: str, limits: Limits) -> list[Check]:
    """All that `hostler doctor` says of it."""
    with ThreadPoolExecutor(1) as thread:  # whoever asks may be within an event loop
        return thread.submit(lambda: asyncio.run(_checks(find, config, runtime, limits))).result()


async def _checks(find: Callable[[], Access], config: KubernetesConfig, runtime: str, limits: Limits) -> list[Check]:
    found = [_program("hostler-init"), _program("hostler-tools")]
    name = "sandbox: cluster"
    try:
        api = Api(find())
    except SandboxUnavailable as error:
        return [*found, _bad(name, str(error), "set `kubeconfig` or `context` in the table [sandbox.kubernetes]")]
    places = Places(config.namespace or api.access.namespace)
    try:
        version = await api.get("/version")
        detail = f"Kubernetes {version.get('gitVersion', '')} at {api.access.url}, namespace {places.namespace}"
        found += [_good(name, detail), await _permissions(api, places, config)]
        found += [*await _kind(api, config), *await _runtime(api, runtime), await _network(api, places, config)]
    except SandboxUnavailable as error:
        found.append(_bad(name, str(error), "check that the cluster is up and that the server may use it"))
    finally:
        await api.aclose()
    return [*found, *_limits(config, limits)]


def _good(name: str, detail: str) -> Check:
    return Check(name=name, ok=True, detail=detail)


def _bad(name: str, detail: str, remedy: str, *, required: bool = True) -> Check:
    return Check(name=name, ok=False, detail=detail, remedy=remedy, required=required)


def _program(name: str) -> Check:
    try:
        return _good(f"sandbox: {name}", str(native.program(name)))
    except SandboxUnavailable as error:
        return _bad(f"sandbox: {name}", str(error), "install a Hostler wheel, or gcc")


async def _permissions(api: Api, places: Places, config: KubernetesConfig) -> Check:
    """Ask the cluster itself, as who we are."""
    wanted: list[tuple[tuple[str, str, str], str]] = []
    for table in (_ALWAYS, _BY_MODE[config.mode], _POLICIES if config.network_policy else {}):
        wanted += [(what, verb) for what, verbs in table.items() for verb in verbs]
    missing = []
    for (group, resource, below), verb in wanted:
        attributes = {"namespace": places.namespace, "group": group, "resource": resource, "verb": verb}
        attributes |= {"subresource": below} if below else {}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        said = await api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
        if not (said.get("status") or {}).get("allowed"):
            missing.append(f"{verb} {resource}{'/' if below else ''}{below}")
    name = "sandbox: permissions"
    if missing:
        return _bad(name, f"the server may not {', '.join(missing)}", f"give it the Role of {_PAGE}")
    return _good(name, f"the server may do all it needs in {places.namespace}")


async def _kind(api: Api, config: KubernetesConfig) -> list[Check]:
    if config.mode == "pods":
        return []
    name, version = "sandbox: agent-sandbox", await served_version(api)
    if version is None:
        remedy = "install kubernetes-sigs/agent-sandbox, or set `mode` to pods"
        return [_bad(name, "the cluster has no Sandbox resource (agents.x-k8s.io) of a version known here", remedy)]
    return [_good(name, f"agents.x-k8s.io/{version}")]


async def _runtime(api: Api, runtime: str) -> list[Check]:
    name = "sandbox: runtime"
    if not runtime:
        remedy = "set `runtime` in the table [sandbox] to a RuntimeClass of gVisor or Kata Containers"
        return [_bad(name, "the nodes' default: containers share the node's kernel", remedy, required=False)]
    try:
        found = await api.find(f"/apis/node.k8s.io/v1/runtimeclasses/{runtime}")
    except ApiError as error:
        if error.status != 403:
            raise
        return [_bad(name, f"{runtime}: the server may not look", f"see {_PAGE}", required=False)]
    if found is None:
        return [_bad(name, f"the cluster has no RuntimeClass {runtime!r}", "make it, or correct `runtime`")]
    return [_good(name, f"{runtime}: {found.get('handler', '')}")]


async def _network(api: Api, places: Places, config: KubernetesConfig) -> Check:
    name = "sandbox: network policy"
    if not config.network_policy:
        remedy = "make sure that something else keeps sandboxes off the cluster's network"
        return _bad(name, "`network_policy` is off", remedy, required=False)
    try:
        policies = (await api.get(places.policies)).get("items") or []
    except ApiError as error:
        return _bad(name, str(error), f"give the server the Role of {_PAGE}")
    closing = [str(policy["metadata"].get("name")) for policy in policies if manifests.closes(policy)]
    if not closing:
        return _bad(name, "none yet: the first sandbox makes it", f"apply the NetworkPolicy of {_PAGE}", required=False)
    return _good(name, f"{', '.join(closing)}: nothing in, nothing out, where the cluster's network plugin enforces it")


def _limits(config: KubernetesConfig, limits: Limits) -> list[Check]:
    rows = [
        ("memory", _size(limits.memory_bytes), "the init ends what takes most, the node the pod", ""),
        ("processes", str(limits.processes), "", "set the kubelet's `podPidsLimit`"),
        ("cpu", f"{limits.cpus or 'all'} CPUs", "the node", ""),
        ("file size", _size(limits.file_bytes), "RLIMIT_FSIZE", ""),
        ("disk", _size(limits.disk_bytes), "", "the size of the claim, if its storage driver enforces one"),
    ]
    if config.user_namespaces:
        rows[1] = ("processes", str(limits.processes), "RLIMIT_NPROC, counted per user namespace", "")
    return [
        Check(
            name=f"sandbox limit: {name}",
            ok=bool(how),
            detail=f"{value}: {how or 'not held by the server'}",
            remedy=remedy,
            required=False,
        )
        for name, value, how, remedy in rows
    ]


def _size(count: int | None) -> str:
    return "no limit" if count is None else f"{count / 1024**3:g} GiB"
