"""A session's pod in a cluster: how one is made, looked at and ended. The backend's `Containers`.

The whole state is the cluster's: nothing here must be lost when the server ends. It removes nothing that does not carry
its own data folder's label.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
from collections.abc import Callable
from pathlib import Path

import msgspec

from hostler.sandbox.container import installation, setup
from hostler.sandbox.container.backend import Life
from hostler.sandbox.container.setup import Conditions
from hostler.sandbox.contract import LAYERS, Check, Limits, SandboxSpec, SandboxUnavailable
from hostler.sandbox.kubernetes import manifests, pods, probe
from hostler.sandbox.kubernetes.access import Access
from hostler.sandbox.kubernetes.api import PASSING, Api, ApiError, Unreachable
from hostler.sandbox.kubernetes.manifests import CONTAINER, INSTALL_LABEL, SESSION_ANNOTATION, Made
from hostler.sandbox.kubernetes.pods import Pod
from hostler.sandbox.kubernetes.settings import KubernetesConfig
from hostler.sandbox.kubernetes.stream import ExecStream, open_exec
from hostler.sandbox.kubernetes.workloads import AgentSandboxes, Places, PlainPods, Workloads

_UPLOAD_SECONDS = 60.0
_EXEC_TRIES, _EXEC_PAUSE = 3, 0.3


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator chose, and what the server brings."""

    config: KubernetesConfig
    image: str
    runtime: str = ""
    ripgrep: Path | None = None
    bundle: Callable[[], Path | None] | None = None  # which certificates the inside trusts; none: the machine's
    lonely_seconds: int = 3600


class Cluster:
    """One namespace's pods, for one data folder. `access` finds the cluster, when it is first needed."""

    def __init__(self, folder: Path, settings: Settings, access: Callable[[], Access]) -> None:
        self._folder = folder.absolute()
        self._settings = settings
        self._find_access = access
        self._known: tuple[Api, Places, Made, Workloads] | None = None
        self._ready = False
        self._lock = asyncio.Lock()

    # -- what containers need --

    async def ready(self, spec: SandboxSpec) -> Conditions:
        async with self._lock:
            api, places, _, workloads = await self._all()
            if not self._ready:
                if isinstance(workloads, AgentSandboxes):
                    await workloads.version()
                if self._settings.config.network_policy:
                    await _close_network(api, places)
                self._ready = True
        brought = await asyncio.to_thread(self._programs)
        return Conditions(
            machine=platform.machine(),
            ripgrep=self._settings.ripgrep is not None,
            bundle=setup.BUNDLE in brought,
            watch_memory=True,
            count_processes=self._settings.config.user_namespaces,
            lonely_seconds=self._settings.lonely_seconds,
        )

    async def _all(self) -> tuple[Api, Places, Made, Workloads]:
        if self._known is None:
            access = await asyncio.to_thread(self._find_access)
            config = self._settings.config
            made = Made(
                install=await asyncio.to_thread(installation.name, self._folder),
                image=self._settings.image,
                runtime=self._settings.runtime,
                config=config,
            )
            api, places = Api(access), Places(config.namespace or access.namespace)
            kind: type[PlainPods | AgentSandboxes] = PlainPods if config.mode == "pods" else AgentSandboxes
            self._known = (api, places, made, kind(api, places))
        return self._known

    def _programs(self) -> dict[str, Path]:
        try:
            bundle = self._settings.bundle() if self._settings.bundle is not None else None
        except OSError as error:
            raise SandboxUnavailable(f"the certificates for sandboxes cannot be written: {error}") from error
        return installation.programs(self._settings.ripgrep, bundle)

    def copies(self, spec: SandboxSpec) -> dict[str, str]:
        brought = self._programs()
        found = {f"{setup.PROGRAMS}/{name}": str(path) for name, path in brought.items() if name != "init"}
        found |= {folder.target: str(folder.source) for folder in spec.shared}
        return found | {f"{LAYERS}/{layer.key}": str(layer.source) for layer in spec.layers}

    # -- the life of one --

    async def start(self, spec: SandboxSpec, limits: Limits) -> Life:
        _, _, made, workloads = await self._all()
        name = made.name(spec.key)
        await workloads.start(made, spec, limits)
        try:
            life = await self._await_pod(name)
            await self._bring_init(spec.key, life)
        except SandboxUnavailable:
            with contextlib.suppress(SandboxUnavailable):
                await workloads.stop(name)  # it would wait for us, and be paid for
            raise
        return life

    async def _await_pod(self, name: str) -> Life:
        api, places, _, _ = await self._all()
        seconds = self._settings.config.start_seconds

        def settled(pod: Pod | None) -> bool:
            return pod is not None and (pods.runs(pod) or pods.hopeless(pod))

        try:
            pod = await pods.wait(api, f"{places.pods}/{name}", settled, seconds)
        except SandboxUnavailable as error:
            raise SandboxUnavailable(f"the sandbox does not start: {error}") from error
        if pod is None or not pods.runs(pod):
            raise SandboxUnavailable(f"the sandbox does not start: {pods.explain(pod)}")
        return Life(name, pods.uid_of(pod))

    async def _bring_init(self, key: str, life: Life) -> None:
        program = await asyncio.to_thread(lambda: self._programs()["init"].read_bytes())
        said = ""
        for _ in range(_EXEC_TRIES):
            stream = await self.stream(key, life, manifests.upload(len(program)))
            try:
                async with asyncio.timeout(_UPLOAD_SECONDS):
                    stream.write(program)
                    await stream.drain()
                    while await stream.read():
                        pass
            except (OSError, EOFError) as error:
                said = str(error) or "no answer"
                continue
            finally:
                stream.close()
            if (stream.status or {}).get("status") == "Success":
                return
            said = stream.said
        raise SandboxUnavailable(f"our init can't be brought into the pod (its image needs /bin/sh and head): {said}")

    async def runs(self, key: str, life: Life) -> bool:
        api, places, _, _ = await self._all()
        pod = await api.find(f"{places.pods}/{life.container}")
        return pod is not None and pods.uid_of(pod) == life.started and pods.runs(pod)

    async def stream(self, key: str, life: Life, argv: list[str]) -> ExecStream:
        api, places, _, _ = await self._all()
        for left in reversed(range(_EXEC_TRIES)):
            try:
                return await open_exec(api, f"{places.pods}/{life.container}", CONTAINER, argv)
            except (ApiError, Unreachable) as error:
                if not left or (isinstance(error, ApiError) and error.status not in PASSING | {401}):
                    raise
            await asyncio.sleep(_EXEC_PAUSE)
        raise AssertionError

    async def explain(self, key: str, life: Life) -> str:
        try:
            api, places, _, _ = await self._all()
            pod = await api.find(f"{places.pods}/{life.container}")
        except SandboxUnavailable:
            return ""
        if pod is not None and pods.uid_of(pod) != life.started:
            return "another pod has taken its place"
        return pods.explain(pod)

    async def stop(self, key: str) -> None:
        _, _, made, workloads = await self._all()
        await workloads.stop(made.name(key))

    async def remove(self, key: str) -> None:
        _, _, made, workloads = await self._all()
        await workloads.remove(made, key)

    async def keys(self) -> set[str]:
        api, places, made, _ = await self._all()
        found = await api.get(places.pods, labelSelector=f"{INSTALL_LABEL}={made.install}")
        notes = [(one["metadata"].get("annotations") or {}) for one in found.get("items") or []]
        return {note[SESSION_ANNOTATION] for note in notes if SESSION_ANNOTATION in note}

    def probe(self, limits: Limits) -> list[Check]:
        return probe.checks(self._find_access, self._settings.config, self._settings.runtime, limits)

    async def aclose(self) -> None:
        if self._known is not None:
            await self._known[0].aclose()


async def _close_network(api: Api, places: Places) -> None:
    """See to it that no pod of ours reaches anything but through the server."""
    try:
        found = await api.get(places.policies)
        if any(manifests.closes(policy) for policy in found.get("items") or []):
            return
        await api.create(places.policies, manifests.network_policy())
    except ApiError as error:
        if error.status == 409:
            raise SandboxUnavailable(
                f"the NetworkPolicy {manifests.POLICY!r} lets something through: delete or correct it"
            ) from error
        if error.status == 403:
            raise SandboxUnavailable(
                "no NetworkPolicy keeps sandboxes off the cluster's network, and the server may not see or make one: "
                "see docs/sandbox-kubernetes.md"
            ) from error
        raise
