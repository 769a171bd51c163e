"""The life of a pod: waiting until it runs or is gone, and saying in a few words why it does not run.

It makes and ends none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

from hostler.sandbox.contract import SandboxUnavailable
from hostler.sandbox.kubernetes.api import Api
from hostler.sandbox.kubernetes.manifests import CONTAINER

# What no waiting mends.
_HOPELESS = {
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
}
_LOOK_SECONDS = 5
_PAUSE = 0.2

Pod = dict[str, Any]


def container_of(pod: Pod) -> dict[str, Any]:
    """The state of the pod's one container."""
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        if status.get("name") == CONTAINER:
            return dict(status.get("state") or {})
    return {}


def uid_of(pod: Pod) -> str:
    return str(pod["metadata"].get("uid") or "")


def leaving(pod: Pod) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def runs(pod: Pod | None) -> bool:
    return pod is not None and not leaving(pod) and "running" in container_of(pod) and _phase(pod) == "Running"


def over(pod: Pod) -> bool:
    return _phase(pod) in ("Succeeded", "Failed")


def hopeless(pod: Pod) -> bool:
    """Whether it will not run any more, or ever."""
    return over(pod) or leaving(pod) or (container_of(pod).get("waiting") or {}).get("reason") in _HOPELESS


def explain(pod: Pod | None) -> str:
    """Why a pod does not run; nothing when it does."""
    if pod is None:
        return "the pod was deleted"
    if runs(pod):
        return ""
    status, state = pod.get("status") or {}, container_of(pod)
    said = [str(status.get("reason") or ""), str(status.get("message") or "")]
    if ended := state.get("terminated"):
        said += [str(ended.get("reason") or ""), f"exit code {ended.get('exitCode')}", str(ended.get("message") or "")]
    if waiting := state.get("waiting"):
        said += [str(waiting.get("reason") or ""), str(waiting.get("message") or "")]
    for condition in status.get("conditions") or []:
        if condition.get("type") in ("PodScheduled", "DisruptionTarget") and condition.get("message"):
            said.append(f"{condition.get('reason')}: {condition['message']}")
    if leaving(pod):
        said.append("the pod is being deleted")
    words = ", ".join(dict.fromkeys(word for word in said if word))
    return f"the pod is {_phase(pod)}: {words or 'no reason is given'}"[:600]


def _phase(pod: Pod) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


async def wait(api: Api, path: str, done: Callable[[Pod | None], bool], seconds: float) -> Pod | None:
    """Watch one pod until `done` says so. Raises `SandboxUnavailable` with the pod's own reason when it never does."""
    pod: Pod | None = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                pod = await api.find(path)
                if done(pod):
                    return pod
                if pod is None:
                    await asyncio.sleep(_PAUSE)
                    continue
                async with contextlib.aclosing(_changes(api, path, pod)) as changes:
                    async for changed in changes:
                        if done(changed):
                            return changed
                await asyncio.sleep(_PAUSE)  # the watch has ended: look anew
    except TimeoutError:
        raise SandboxUnavailable(f"after {seconds:g} seconds, {explain(pod) or 'the pod still runs'}") from None


async def _changes(api: Api, path: str, pod: Pod) -> AsyncGenerator[Pod | None, None]:
    """What becomes of a pod, for a while; ends where the API's watch ends."""
    folder, _, name = path.rpartition("/")
    version = str(pod["metadata"].get("resourceVersion") or "")
    watch = api.watch(folder, version, f"metadata.name={name}", _LOOK_SECONDS)
    async with contextlib.aclosing(watch):
        async for event in watch:
            if event.get("type") == "DELETED":
                yield None
            elif event.get("type") in ("ADDED", "MODIFIED"):
                yield dict(event["object"])
            elif event.get("type") == "ERROR":
                return
