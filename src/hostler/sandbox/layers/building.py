"""Layers: sets of packages, each built once on this machine, kept under a name made from its content, and shared.

A build runs whatever packages bring along, so it happens in a sandbox of its own, never on the host. What is in the
folder under its final name is whole: it gets there by one rename, after everything in it has been looked at. It must
not know sessions or skills.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec

from hostler.sandbox import files, machine
from hostler.sandbox.contract import Backend, CommandResult, Layer, Limits, SandboxSpec, SandboxUnavailable
from hostler.sandbox.layers import buildlog, manifests, systembase
from hostler.sandbox.layers.packages import Kept, LayerUnavailable, Manager, Missing, PackageSet, Progress
from hostler.sandbox.layers.storage import LayerFolder
from hostler.sandbox.rootfs import Layout

log = logging.getLogger(__name__)

FORMAT = 2  # of what a build makes: counted up, everything is built anew
BUILT = "/workspace/layer"
KEEP_SECONDS = 30 * 24 * 3600.0
SWEEP_SECONDS = 24 * 3600.0  # until what nobody has used is looked for again, whenever a layer is asked for
RETRY_SECONDS = 60.0
BUILDS_AT_ONCE = 2
_MOST_LINES, _LONGEST_LINE = 1000, 1000


class BuiltLayers:
    """The layers of one folder, built in sandboxes of the manager's backend, whose folders are all `folder/building`.

    Several processes may share the folder: a lock of each key's own lets one build and the others wait.
    """

    def __init__(
        self,
        folder: Path,
        backends: Mapping[str, Backend],
        managers: Mapping[str, Manager],
        *,
        build_seconds: float = 600.0,
        max_bytes: int = 2 * 1024**3,
    ) -> None:
        self._folder = LayerFolder(folder)
        self._backends = backends
        self._managers = managers
        self._build_seconds = build_seconds
        self._max_bytes = max_bytes
        self._builds: dict[str, asyncio.Task[Layer]] = {}
        self._failed: dict[str, tuple[float, LayerUnavailable]] = {}
        self._seats = asyncio.Semaphore(BUILDS_AT_ONCE)
        self._begun: set[asyncio.Task[None]] = set()
        self._swept_at = float("-inf")

    # -- the contract --

    def begin(self, packages: PackageSet) -> None:
        async def work() -> None:
            with contextlib.suppress(LayerUnavailable):
                await self.ensure(packages)

        self._spawn(work())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="layer")
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    async def ensure(self, packages: PackageSet, *, again: bool = False) -> Layer:
        if time.monotonic() - self._swept_at > SWEEP_SECONDS:
            self._swept_at = time.monotonic()
            self._spawn(self.sweep())
        if packages.base is not None:
            await self.ensure(packages.base)  # which may bring the very program that these need
        key = await asyncio.to_thread(self._key, packages)
        if (layer := await asyncio.to_thread(self._folder.take, key)) is not None:
            return layer
        if key not in self._builds:
            when, failure = self._failed.get(key, (0.0, None))
            if failure is not None and not again and time.monotonic() - when < RETRY_SECONDS:
                raise failure
            self._builds[key] = asyncio.create_task(self._build(key, packages), name=f"layer {key}")
            self._builds[key].add_done_callback(lambda task: self._ended(key, task))
        return await asyncio.shield(self._builds[key])

    async def find(self, packages: PackageSet) -> Layer | None:
        return await asyncio.to_thread(lambda: self._folder.look(self._key(packages)))

    async def key(self, packages: PackageSet) -> str:
        """The name that the layer has, or would have. Raises LayerUnavailable."""
        return await asyncio.to_thread(self._key, packages)

    async def progress(self, packages: PackageSet, position: int = 0) -> Progress | None:
        def look() -> Progress | None:
            log_file = self._folder.layout(self._key(packages)).files / "workspace" / buildlog.NAME
            return buildlog.read(log_file, position, self._managers[packages.manager].reach.redact)

        return await asyncio.to_thread(look)

    async def obstacle(self, manager: str = "pip") -> str | None:
        def look() -> str | None:
            try:
                self._managers[manager].fingerprint(None)
                self._managers[manager].folders()
            except Missing as missing:
                return str(missing)
            return None

        return await asyncio.to_thread(look)

    async def aclose(self) -> None:
        tasks = [*self._begun, *self._builds.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for backend in self._backends.values():
            await backend.aclose(stop=False)

    # -- names --

    def _key(self, packages: PackageSet) -> str:
        """Raises LayerUnavailable."""
        manager, lines = self._managers[packages.manager], packages.lines
        base = self._folder.layer(key) if (key := self._base_key(packages)) else None
        try:
            if len(lines) > _MOST_LINES or any(len(line) > _LONGEST_LINE for line in lines):
                raise ValueError(f"there may be {_MOST_LINES} packages, each of {_LONGEST_LINE} characters")
            manager.check(lines)
            about = [FORMAT, manager.name, manager.fingerprint(base), packages.compile, sorted(set(lines)), key]
        except ValueError as error:
            raise LayerUnavailable(f"{manager.name} can't install these packages: {error}.") from error
        except Missing as missing:
            raise LayerUnavailable(f"{manager.name} can't install packages here: {missing}.") from missing
        return hashlib.sha256(msgspec.json.encode(about)).hexdigest()[:32]

    def _base_key(self, packages: PackageSet) -> str | None:
        return self._key(packages.base) if packages.base else None

    def _ended(self, key: str, task: asyncio.Task[Layer]) -> None:
        self._builds.pop(key, None)
        self._failed.pop(key, None)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, LayerUnavailable):
            log.warning("layer %s: %s", key, error)
            self._failed[key] = (time.monotonic(), error)

    # -- building --

    async def _build(self, key: str, packages: PackageSet) -> Layer:
        try:
            base = await self.ensure(packages.base) if packages.base else None
            async with self._seats:
                layer = await self._build_once(key, packages, base)
            await self.sweep()
        except TimeoutError:
            raise LayerUnavailable(
                f"{packages.manager} did not install the packages within {self._build_seconds:.0f} seconds "
                "(`layer_build_seconds` in the config file's table [sandbox])."
            ) from None
        except SandboxUnavailable as error:
            raise LayerUnavailable(_no_sandbox(packages, error)) from error
        except Missing as missing:
            raise LayerUnavailable(f"{packages.manager} can't install packages here: {missing}.") from missing
        except OSError as error:
            raise LayerUnavailable(f"The packages of {packages.manager} cannot be kept: {error.strerror}.") from error
        except LayerUnavailable:
            raise
        except Exception as error:  # sessions go on without them, whatever it was
            log.exception("layer %s: the server failed", key)
            raise LayerUnavailable(
                f"The packages of {packages.manager} cannot be installed: the server failed; its log says why."
            ) from error
        return layer

    async def _build_once(self, key: str, packages: PackageSet, base: Layer | None) -> Layer:
        loop, started = asyncio.get_running_loop(), time.monotonic()
        async with asyncio.timeout(self._build_seconds) as patience, self._folder.locked(key):
            if (layer := await asyncio.to_thread(self._folder.take, key)) is not None:
                return layer  # another process was first
            patience.reschedule(loop.time() + self._build_seconds)
            half = await self._run(key, packages, base)
            await asyncio.to_thread(self._finish, key, half, packages)
        log.info("layer %s: built in %.1f s", key, time.monotonic() - started)
        return self._folder.layer(key)

    async def _run(self, key: str, packages: PackageSet, base: Layer | None) -> Path:
        """Install in a sandbox that goes again; return where the result lies then."""
        manager, backend = self._managers[packages.manager], self._backends[packages.manager]
        # What a process that was killed has left may still be at it.
        await backend.destroy(self._folder.place(key))
        spec = SandboxSpec(
            key=self._folder.place(key),
            env=await asyncio.to_thread(manager.environment, base),
            shared=manager.folders(),
            layers=[base] if base else [],
            limits=Limits(disk_bytes=2 * self._max_bytes),  # what is downloaded, and what is unpacked of it
            system=manager.system,
        )
        half, steps = self._folder.half(key), manager.steps(packages.lines, BUILT, key, compile=packages.compile)
        try:
            sandbox = await backend.provision(spec)
            wrapped = [*map(buildlog.writing, manager.files().items()), *map(buildlog.logged, steps)]
            for number, step in enumerate(wrapped):
                limited = msgspec.structs.replace(step, timeout_ms=int(self._build_seconds * 1000))
                self._check(await sandbox.run(f"step_{number}", limited), key, packages)
            # Only once everything in it is dead can nothing change the result any more.
            await backend.hibernate(self._folder.place(key))
            await asyncio.to_thread(_take_out, self._folder.layout(key), manager, half)
        finally:
            await asyncio.shield(backend.destroy(self._folder.place(key)))
        return half

    def _finish(self, key: str, half: Path, packages: PackageSet) -> None:
        """Look at what was built, describe it, and give it its name. Raises LayerUnavailable, OSError."""
        manager = self._managers[packages.manager]
        try:
            size = manifests.inspect(half, manager.tops, self._max_bytes)
            manifests.write(half, packages.manager, packages.lines, manager.installed(half), size)
            self._folder.keep(key, half)
        except manifests.Unfit as unfit:
            raise LayerUnavailable(f"The packages of {packages.manager} cannot be used: {unfit}.") from unfit
        finally:
            with contextlib.suppress(OSError):
                files.remove_tree(half)

    def _check(self, result: CommandResult, key: str, packages: PackageSet) -> None:
        """Raise LayerUnavailable, with the end of what was said, unless the command went well."""
        if result.exit_code == 0:
            return
        manager = self._managers[packages.manager]
        tail = buildlog.tail(self._folder.layout(key).files / "workspace" / buildlog.NAME)
        said = manager.reach.redact(tail)[-buildlog.TAIL_CHARACTERS :].strip()
        package = packages.lines[0] if len(packages.lines) == 1 else manager.blame(said)
        about = f" {package}" if package else " the packages"
        how = "took too long" if result.timed_out else "failed"
        raise LayerUnavailable(f"Installing{about} with {manager.name} {how}.", said or "(it said nothing)", package)

    # -- leftovers --

    async def sweep(self, keep_seconds: float = KEEP_SECONDS) -> None:
        """Remove what no session has asked for in that time, and what builds that were killed have left behind."""
        for key in await asyncio.to_thread(self._folder.names):
            with contextlib.suppress(OSError, SandboxUnavailable):
                async with self._folder.locked(key, wait=False):
                    await asyncio.to_thread(self._folder.remove_halves, key)
                    await asyncio.to_thread(self._folder.remove, key, keep_seconds)
                    if key not in self._builds and self._folder.layout(key).folder.exists():
                        await next(iter(self._backends.values())).destroy(self._folder.place(key))

    async def kept(self) -> list[Kept]:
        return await asyncio.to_thread(self._folder.kept)

    async def remove(self, key: str, keep_seconds: float) -> bool:
        try:
            async with self._folder.locked(key, wait=False):
                return await asyncio.to_thread(self._folder.remove, key, keep_seconds)
        except OSError:
            return False


def _take_out(layout: Layout, manager: Manager, half: Path) -> None:
    """Raises OSError."""
    if manager.system:
        systembase.collect(layout, half)
    else:
        os.rename(layout.files / "workspace" / "layer", half)  # of a link, the link itself


def _no_sandbox(packages: PackageSet, error: SandboxUnavailable) -> str:
    """A build of apt needs more of the machine than the others."""
    hint = f" ({machine.OVERLAYS})" if packages.manager == "apt" or packages.base else ""
    return f"The packages of {packages.manager} cannot be installed without a sandbox: {error}{hint}."
