"""Says what a container engine offers to sandboxes, by asking it: for `hostler doctor`.

It changes nothing that stays.
"""

from __future__ import annotations

import asyncio
import platform
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hostler.sandbox import native
from hostler.sandbox.contract import Check, Limits, SandboxUnavailable
from hostler.sandbox.engine.api import Engine
from hostler.sandbox.engine.ground import Settings, machine_of


def checks(settings: Settings, limits: Limits) -> list[Check]:
    """All that `hostler doctor` says of it."""
    with ThreadPoolExecutor(1) as thread:  # whoever asks may be within an event loop
        return thread.submit(lambda: asyncio.run(_checks(settings, limits))).result()


async def _checks(settings: Settings, limits: Limits) -> list[Check]:
    engine = Engine(settings.http())
    found = [_program("hostler-init"), _program("hostler-tools")]
    name = "sandbox: engine"
    try:
        version, info = await engine.version(), await engine.info()
        image = await engine.image(settings.image)
    except SandboxUnavailable as error:
        remedy = (
            "start it (`systemctl start docker`, or `systemctl start podman.socket`), let this user use its socket, or "
            "set `engine` in the config file's table [sandbox]"
        )
        return [*found, Check(name=name, ok=False, detail=str(error), remedy=remedy)]
    found.append(Check(name=name, ok=True, detail=f"{_name(version)} at {settings.address}"))
    found += [_machine(info), _image(settings, image), *_runtime(settings, info), _users(info)]
    return [*found, *_limits(info, limits)]


def _name(version: dict[str, Any]) -> str:
    parts = version.get("Components") or []
    names = [str(part.get("Name", "")) for part in parts if isinstance(part, dict)]
    engine = "podman" if any("podman" in name.lower() for name in names) else "docker"
    return f"{engine} {version.get('Version', '')}"


def _program(name: str) -> Check:
    try:
        return Check(name=f"sandbox: {name}", ok=True, detail=str(native.program(name)))
    except SandboxUnavailable as error:
        return Check(name=f"sandbox: {name}", ok=False, detail=str(error), remedy="install a Hostler wheel, or gcc")


def _machine(info: dict[str, Any]) -> Check:
    here, there = platform.machine(), machine_of(info)
    remedy = "" if here == there else "run the server on a machine of the engine's kind"
    return Check(name="sandbox: machine", ok=here == there, detail=f"{there} (this server: {here})", remedy=remedy)


def _image(settings: Settings, image: dict[str, Any] | None) -> Check:
    remedy = "" if image else "build it from docker/Dockerfile, pull it, or set `image` in the table [sandbox]"
    detail = settings.image if image else f"the engine has no image {settings.image!r}"
    return Check(name="sandbox: image", ok=image is not None, detail=detail, remedy=remedy)


def _runtime(settings: Settings, info: dict[str, Any]) -> list[Check]:
    """An engine names the runtimes that it is set up with; podman also those that are not installed."""
    if not settings.runtime:
        return [Check(name="sandbox: runtime", ok=True, detail=f"{info.get('DefaultRuntime', 'the default')}")]
    known = info.get("Runtimes") or {}
    ok = settings.runtime in known or settings.runtime.startswith("/")
    remedy = "" if ok else f"add {settings.runtime!r} to the engine's runtimes (docker: /etc/docker/daemon.json)"
    return [Check(name="sandbox: runtime", ok=ok, detail=settings.runtime, remedy=remedy)]


def _users(info: dict[str, Any]) -> Check:
    options = [str(option) for option in info.get("SecurityOptions") or []]
    apart = any("userns" in option or "rootless" in option for option in options)
    return Check(
        name="sandbox: user namespace",
        ok=apart,
        detail="the container's users are others outside"
        if apart
        else "the agent is user 1000 of the engine's machine",
        remedy="" if apart else "docker: set `userns-remap`; podman: run it without root",
        required=False,
    )


def _limits(info: dict[str, Any], limits: Limits) -> list[Check]:
    engine = "the engine"
    rows = [
        ("memory", engine if info.get("MemoryLimit") else "the init adds up what processes hold, 4 a second"),
        ("processes", engine if info.get("PidsLimit") else ""),
        ("cpu", engine if info.get("CpuCfsQuota") else ""),
        ("file size", "RLIMIT_FSIZE"),
        ("disk", ""),
    ]
    values = {
        "memory": _size(limits.memory_bytes),
        "processes": str(limits.processes),
        "cpu": f"{limits.cpus or 'all'} CPUs",
        "file size": _size(limits.file_bytes),
        "disk": _size(limits.disk_bytes),
    }
    remedies = {"disk": "give the engine's volumes a disk of their own, or one with quotas"}
    return [
        Check(
            name=f"sandbox limit: {name}",
            ok=bool(how),
            detail=f"{values[name]}: {how or 'does not hold here'}",
            remedy="" if how else remedies.get(name, "run the engine with control groups"),
            required=False,
        )
        for name, how in rows
    ]


def _size(count: int | None) -> str:
    return "no limit" if count is None else f"{count / 1024**3:g} GiB"
