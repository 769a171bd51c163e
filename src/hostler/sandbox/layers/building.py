"""Layers: sets of packages, each built once on this machine, kept under a name made from its content, and shared.

A build runs whatever packages bring along, so it happens in a sandbox of its own, never on the host. What is in the
folder under its final name is whole: it gets there by one rename, after everything in it has been looked at. It must
not know sessions or skills, nor where builds run.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec

from hostler.sandbox import files, machine
from hostler.sandbox.contract import CommandResult, Exec, Layer, Limits, Sandbox, SandboxSpec, SandboxUnavailable
from hostler.sandbox.layers import buildlog, manifests
from hostler.sandbox.layers.packages import (
    Kept,
    LayerUnavailable,
    Manager,
    Missing,
    PackageSet,
    Programs,
    Progress,
)
from hostler.sandbox.layers.places import BUILT, Place, provisioned
from hostler.sandbox.layers.storage import LayerFolder

log = logging.getLogger(__name__)

FORMAT = 2  # of what a build makes: counted up, everything is built anew
KEEP_SECONDS = 30 * 24 * 3600.0
SWEEP_SECONDS = 24 * 3600.0  # until what nobody has used is looked for again, whenever a layer is asked for
RETRY_SECONDS = 60.0
BUILDS_AT_ONCE = 2
_MOST_LINES, _LONGEST_LINE = 1000, 1000


class BuiltLayers:
    """The layers of one folder, built in sandboxes of `place`, which keeps what it knows of them in `folder/building`.

    Several processes may share the folder: a lock of each key's own lets one build and the others wait.
    """

    def __init__(
        self,
        folder: Path,
        place: Place,
        managers: Mapping[str, Manager],
        *,
        build_seconds: float = 600.0,
        max_bytes: int = 2 * 1024**3,
    ) -> None:
        self._folder = LayerFolder(folder)
        self._place = place
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
        key = await self.key(packages)
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
        key = await self.key(packages)
        return await asyncio.to_thread(self._folder.look, key)

    async def key(self, packages: PackageSet) -> str:
        """The name that the layer has, or would have. Raises LayerUnavailable."""
        base = await self.key(packages.base) if packages.base else None
        try:
            programs = await self._place.programs(self._folder.layer(base) if base else None)
        except SandboxUnavailable as error:
            raise LayerUnavailable(f"{packages.manager} can't install packages here: {error}.") from error
        return await asyncio.to_thread(self._name, packages, programs, base)

    async def progress(self, packages: PackageSet, position: int = 0) -> Progress | None:
        log_file, redact = self._log(await self.key(packages)), self._managers[packages.manager].reach.redact
        return await asyncio.to_thread(buildlog.read, log_file, position, redact)

    async def obstacle(self, manager: str = "pip") -> str | None:
        try:
            programs = await self._place.programs(None)
            await asyncio.to_thread(self._managers[manager].fingerprint, programs)
            await asyncio.to_thread(self._managers[manager].folders, programs)
        except (Missing, SandboxUnavailable) as missing:
            return str(missing)
        return None

    async def mounted(self, sandboxes: Path) -> set[str]:
        try:
            return await self._place.in_use(sandboxes)
        except SandboxUnavailable as error:
            raise LayerUnavailable(f"Nobody knows which layers are in use: {error}.") from error

    async def aclose(self) -> None:
        tasks = [*self._begun, *self._builds.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._place.aclose()

    # -- names --

    def _name(self, packages: PackageSet, programs: Programs, base: str | None) -> str:
        """`base` is the name of what they are built upon. Raises LayerUnavailable."""
        manager, lines = self._managers[packages.manager], packages.lines
        try:
            if len(lines) > _MOST_LINES or any(len(line) > _LONGEST_LINE for line in lines):
                raise ValueError(f"there may be {_MOST_LINES} packages, each of {_LONGEST_LINE} characters")
            manager.check(lines)
            needed = programs.identity + manager.fingerprint(programs)
            about = [FORMAT, manager.name, needed, packages.compile, sorted(set(lines)), base]
        except ValueError as error:
            raise LayerUnavailable(f"{manager.name} can't install these packages: {error}.") from error
        except Missing as missing:
            raise LayerUnavailable(f"{manager.name} can't install packages here: {missing}.") from missing
        return hashlib.sha256(msgspec.json.encode(about)).hexdigest()[:32]

    def _log(self, key: str) -> Path:
        return self._folder.layout(key).files / "workspace" / buildlog.NAME

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
        except manifests.Unfit as unfit:
            raise LayerUnavailable(f"The packages of {packages.manager} cannot be used: {unfit}.") from unfit
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
        manager, backend = self._managers[packages.manager], self._place.backend(packages.manager)
        name, half = self._folder.place(key), self._folder.half(key)
        # What a process that was killed has left may still be at it.
        await backend.destroy(name)
        spec = await self._spec(name, manager, base)
        try:
            sandbox = await provisioned(backend, spec)
            if await self.key(packages) != key:
                raise LayerUnavailable(f"What the packages of {packages.manager} depend on has changed meanwhile.")
            async with self._place.hearing(sandbox, self._log(key)):
                result = await self._install(sandbox, manager, packages, key)
            self._check(result, key, packages)
            # Only once everything in it is dead can nothing change the result any more.
            await backend.hibernate(name)
            await self._place.take_out(manager, name, half)
        except BaseException:
            with contextlib.suppress(OSError):
                await asyncio.shield(asyncio.to_thread(files.remove_tree, half))
            raise
        finally:
            await asyncio.shield(backend.destroy(name))
        return half

    async def _spec(self, name: str, manager: Manager, base: Layer | None) -> SandboxSpec:
        programs = await self._place.programs(base)
        return SandboxSpec(
            key=name,
            env=await asyncio.to_thread(manager.environment, programs),
            shared=await asyncio.to_thread(manager.folders, programs),
            layers=[base] if base else [],
            limits=Limits(disk_bytes=2 * self._max_bytes),  # what is downloaded, and what is unpacked of it
            system=manager.system,
        )

    async def _install(self, sandbox: Sandbox, manager: Manager, packages: PackageSet, key: str) -> CommandResult:
        """The last command's end: that of the one that failed, if any did."""
        steps = manager.steps(packages.lines, BUILT, key, compile=packages.compile)
        wrapped: list[Exec] = [*map(buildlog.writing, manager.files().items()), *map(buildlog.logged, steps)]
        result = CommandResult(exit_code=0)
        for number, step in enumerate(wrapped):
            limited = msgspec.structs.replace(step, timeout_ms=int(self._build_seconds * 1000))
            result = await sandbox.run(f"step_{number}", limited)
            if result.exit_code != 0:
                break
        return result

    def _finish(self, key: str, half: Path, packages: PackageSet) -> None:
        """Look at what was built, describe it, and give it its name. Raises Unfit, OSError."""
        manager = self._managers[packages.manager]
        try:
            size = manifests.inspect(half, manager.tops, self._max_bytes)
            manifests.write(half, packages.manager, packages.lines, manager.installed(half), size)
            self._folder.keep(key, half)
        finally:
            with contextlib.suppress(OSError):
                files.remove_tree(half)

    def _check(self, result: CommandResult, key: str, packages: PackageSet) -> None:
        """Raise LayerUnavailable, with the end of what was said, unless the command went well."""
        if result.exit_code == 0:
            return
        manager = self._managers[packages.manager]
        tail = buildlog.tail(self._log(key))
        said = manager.reach.redact(tail)[-buildlog.TAIL_CHARACTERS :].strip()
        package = packages.lines[0] if len(packages.lines) == 1 else manager.blame(said)
        about = f" {package}" if package else " the packages"
        how = "took too long" if result.timed_out else "failed"
        raise LayerUnavailable(f"Installing{about} with {manager.name} {how}.", said or "(it said nothing)", package)

    # -- leftovers --

    async def sweep(self, keep_seconds: float = KEEP_SECONDS) -> None:
        """Remove what no session has asked for in that time, and what builds that were killed have left behind."""
        with contextlib.suppress(SandboxUnavailable):
            await self._place.tidy()
        for key in await asyncio.to_thread(self._folder.names):
            with contextlib.suppress(OSError, SandboxUnavailable):
                async with self._folder.locked(key, wait=False):
                    await asyncio.to_thread(self._folder.remove_halves, key)
                    await asyncio.to_thread(self._folder.remove, key, keep_seconds)
                    if key not in self._builds and self._folder.layout(key).folder.exists():
                        await self._place.destroy(self._folder.place(key))

    async def kept(self) -> list[Kept]:
        return await asyncio.to_thread(self._folder.kept)

    async def remove(self, key: str, keep_seconds: float) -> bool:
        try:
            async with self._folder.locked(key, wait=False):
                return await asyncio.to_thread(self._folder.remove, key, keep_seconds)
        except OSError:
            return False


def _no_sandbox(packages: PackageSet, error: SandboxUnavailable) -> str:
    """A build of apt needs more of the machine than the others."""
    hint = f" ({machine.OVERLAYS})" if packages.manager == "apt" or packages.base else ""
    return f"The packages of {packages.manager} cannot be installed without a sandbox: {error}{hint}."
