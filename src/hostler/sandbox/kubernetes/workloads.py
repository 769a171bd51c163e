"""The two ways to have a session's pod: one of our own with a claim beside it, or a Sandbox resource that makes both.

Each is safe to ask twice. It touches nothing whose session is another's.
"""

from __future__ import annotations

from typing import Any, Protocol

from hostler.sandbox.contract import Limits, SandboxSpec, SandboxUnavailable
from hostler.sandbox.kubernetes import manifests, pods
from hostler.sandbox.kubernetes.api import Api, ApiError
from hostler.sandbox.kubernetes.manifests import SESSION_ANNOTATION, Made
from hostler.sandbox.kubernetes.pods import Pod

GROUP = "/apis/agents.x-k8s.io"
_VERSIONS = ("v1beta1", "v1alpha1")
_GONE_SECONDS = 90.0
_GRACE_SECONDS = 1


class Places:
    """The paths of a namespace's objects."""

    def __init__(self, namespace: str) -> None:
        self.pods = f"/api/v1/namespaces/{namespace}/pods"
        self.claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
        self.policies = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
        self.namespace = namespace

    def sandboxes(self, version: str) -> str:
        return f"{GROUP}/{version}/namespaces/{self.namespace}/sandboxes"


class Workloads(Protocol):
    """All raise `SandboxUnavailable`."""

    async def start(self, made: Made, spec: SandboxSpec, limits: Limits) -> None:
        """Ask for a session's pod, in the place of any that is left over, which is waited for."""
        ...

    async def stop(self, name: str) -> None:
        """End the pod and wait until it is gone; the volume stays."""
        ...

    async def remove(self, made: Made, key: str) -> None:
        """End the pod and delete all there was."""
        ...


class PlainPods:
    """Pods and claims of our own."""

    def __init__(self, api: Api, places: Places) -> None:
        self._api = api
        self._places = places

    async def start(self, made: Made, spec: SandboxSpec, limits: Limits) -> None:
        name = made.name(spec.key)
        await self.stop(name)
        claim = f"{self._places.claims}/{made.claim_name(spec.key)}"
        if await self._api.find(claim) is None:
            await _unless_there(self._api, self._places.claims, manifests.claim(made, spec.key, limits))
        body = manifests.pod(name, manifests.template(made, spec, limits, claimed=False))
        await _unless_there(self._api, self._places.pods, body)

    async def stop(self, name: str) -> None:
        await end_pod(self._api, f"{self._places.pods}/{name}")

    async def remove(self, made: Made, key: str) -> None:
        await self.stop(made.name(key))
        await self._api.delete(f"{self._places.claims}/{made.claim_name(key)}")


class AgentSandboxes:
    """Sandbox resources of kubernetes-sigs/agent-sandbox, whose controller makes and ends pods and claims."""

    def __init__(self, api: Api, places: Places) -> None:
        self._api = api
        self._places = places
        self._version = ""

    async def version(self) -> str:
        """The newest version of the resource that both sides know."""
        if not self._version:
            self._version = await served_version(self._api) or ""
            if not self._version:
                raise SandboxUnavailable("the cluster has no Sandbox resource: install agent-sandbox, or use mode=pods")
        return self._version

    async def start(self, made: Made, spec: SandboxSpec, limits: Limits) -> None:
        version, name = await self.version(), made.name(spec.key)
        folder = self._places.sandboxes(version)
        body = manifests.sandbox_resource(made, spec, limits, version, _running(version, True))
        if await self._api.find(f"{folder}/{name}") is None:
            await _unless_there(self._api, folder, body)
            return
        await self.stop(name)
        wanted = {"podTemplate": body["spec"]["podTemplate"], **_running(version, True)}
        await self._api.replace(f"{folder}/{name}", {f"/spec/{field}": value for field, value in wanted.items()})

    async def stop(self, name: str) -> None:
        version = await self.version()
        path = f"{self._places.sandboxes(version)}/{name}"
        try:
            await self._api.merge(path, {"spec": _running(version, False)})
        except ApiError as error:
            if error.status != 404:
                raise
        await pods.wait(self._api, f"{self._places.pods}/{name}", lambda pod: pod is None, _GONE_SECONDS)

    async def remove(self, made: Made, key: str) -> None:
        name = made.name(key)
        await self._api.delete(f"{self._places.sandboxes(await self.version())}/{name}")
        await end_pod(self._api, f"{self._places.pods}/{name}")


async def served_version(api: Api) -> str | None:
    """The version of the Sandbox resource to use; None where there is none."""
    group = await api.find(GROUP) or {}
    served = {str(one.get("version")) for one in group.get("versions") or []}
    return next((version for version in _VERSIONS if version in served), None)


def _running(version: str, wanted: bool) -> dict[str, Any]:
    if version == "v1alpha1":
        return {"replicas": int(wanted)}
    return {"operatingMode": "Running" if wanted else "Suspended", "service": False}


async def end_pod(api: Api, path: str) -> None:
    """Delete a pod and wait until it is gone: its volume can't go to another before."""
    found = await api.find(path)
    if found is None:
        return
    await api.delete(path, grace_seconds=_GRACE_SECONDS)
    uid = pods.uid_of(found)

    def gone(pod: Pod | None) -> bool:
        return pod is None or pods.uid_of(pod) != uid

    await pods.wait(api, path, gone, _GONE_SECONDS)


async def _unless_there(api: Api, folder: str, body: dict[str, Any]) -> None:
    """Create; one of that name is ours when it says so, and was made by the same request, asked twice."""
    try:
        await api.create(folder, body)
    except ApiError as error:
        if error.status != 409:
            raise
        metadata = body["metadata"]
        found = await api.find(f"{folder}/{metadata['name']}")
        said = ((found or {}).get("metadata") or {}).get("annotations") or {}
        if said.get(SESSION_ANNOTATION) != metadata["annotations"][SESSION_ANNOTATION]:
            raise SandboxUnavailable(f"an object {metadata['name']!r} that is not ours is in the way") from error
