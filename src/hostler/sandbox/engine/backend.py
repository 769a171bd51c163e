"""The backend on a container engine: a container a session, over Docker's or podman's API, outliving the server.

It removes nothing that does not carry its own data folder's label. It must not read a file that the agent made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from hostler.sandbox import stacking
from hostler.sandbox.container import egress as container_egress
from hostler.sandbox.container import setup
from hostler.sandbox.container.egress import Egress
from hostler.sandbox.container.notes import Notes
from hostler.sandbox.container.relaylink import RelayLink
from hostler.sandbox.container.session import ContainerSandbox, State
from hostler.sandbox.contract import Check, Limits, Sandbox, SandboxSpec, SandboxUnavailable, Snapshot
from hostler.sandbox.engine import probe
from hostler.sandbox.engine import spec as words
from hostler.sandbox.engine.api import Engine, Found
from hostler.sandbox.engine.ground import Ground, Settings
from hostler.sandbox.engine.http import EngineError
from hostler.sandbox.specs import KEY, check

_MEET_SECONDS = 30.0
_HELPER_SECONDS = 600.0
_NO_SNAPSHOTS = "sandboxes in containers have no snapshots: their files stay in the engine's volumes"
_log = logging.getLogger(__name__)


class EngineBackend:
    """The contract's `Backend`. `folder` holds what the server notes of each session, and belongs to it alone."""

    def __init__(self, folder: Path, settings: Settings, *, limits: Limits, egress: Egress | None = None) -> None:
        self._folder = folder.absolute()
        self._settings = settings
        self._egress = egress
        self._limits = limits
        self.engine = Engine(settings.http())
        self.ground = Ground(self._folder, settings, self.engine)
        self._live: dict[str, ContainerSandbox] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # each as long as somebody uses it

    # -- the contract --

    async def provision(self, spec: SandboxSpec) -> Sandbox:
        check(spec)
        async with self._lock(spec.key):
            sandbox = await self._find(spec.key) or await self._start(spec)
        await sandbox.set_mounts(spec.mounts)
        return sandbox

    async def find(self, key: str) -> Sandbox | None:
        async with self._lock(key):
            return await self._find(key)

    async def hibernate(self, key: str) -> None:
        async with self._lock(key):
            await self._put_to_sleep(key)

    async def snapshot(self, key: str, target: Path, *, limit_bytes: int | None = None) -> Snapshot | None:
        raise SandboxUnavailable(_NO_SNAPSHOTS)

    async def restore(self, key: str, source: Path, snapshot: Snapshot) -> None:
        raise SandboxUnavailable(_NO_SNAPSHOTS)

    async def destroy(self, key: str) -> None:
        async with self._lock(key):
            await self._let_go(key)
            made = await self.ground.known()
            await self.engine.remove(made.name(key))
            for volume in await self.engine.volumes(f"{words.SESSION_LABEL}={key}"):
                if volume.startswith(f"{made.name(key)}."):  # a label of ours may stand on another server's
                    await self.engine.remove_volume(volume)
            await self._notes(key).remove()

    async def reap(self, keep: set[str]) -> None:
        try:
            made = await self.ground.known()
            found = await self.engine.labelled(f"{words.FOLDER_LABEL}={made.install}")
        except SandboxUnavailable as error:
            _log.warning("sandboxes of an earlier server are left alone: %s", error)
            return
        await self._remove_helpers(found)
        for key in sorted({(one.get("Labels") or {}).get(words.SESSION_LABEL, "") for one in found}):
            if key in keep or not KEY.fullmatch(key):
                continue
            async with self._lock(key):
                if key not in self._live:  # else somebody has taken it up meanwhile
                    await self._put_to_sleep(key)

    async def _remove_helpers(self, found: list[dict[str, Any]]) -> None:
        """Those that a killed server left. One that is young may be another process's at work."""
        for one in found:
            old = time.time() - float(one.get("Created") or 0) > _HELPER_SECONDS
            if words.SESSION_LABEL not in (one.get("Labels") or {}) and old:
                with contextlib.suppress(SandboxUnavailable):
                    await self.engine.remove(str(one.get("Id")))

    def probe(self) -> list[Check]:
        return probe.checks(self._settings, self._limits)

    async def aclose(self, *, stop: bool) -> None:
        if stop:
            rested = await asyncio.gather(*(self.hibernate(key) for key in list(self._live)), return_exceptions=True)
            if any(isinstance(end, Exception) for end in rested):
                _log.warning("sandboxes run on, which the next server finds: %s", next(filter(None, rested)))
        for sandbox in list(self._live.values()):
            await sandbox.release()
        self._live.clear()

    # -- finding, starting, ending --

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    def _notes(self, key: str) -> Notes:
        if not KEY.fullmatch(key):
            raise ValueError(f"a sandbox cannot be named {key!r}")
        return Notes(self._folder / key)

    async def _find(self, key: str) -> ContainerSandbox | None:
        known = self._live.get(key)
        if known is not None and known.live:
            return known
        await self._let_go(key)
        if (state := self._notes(key).read()) is None:
            return None
        found = await self.engine.inspect(state.container)
        if found is None or not found.running or found.started != state.started:
            return None
        return await self._enter(key, state)

    async def _enter(self, key: str, state: State) -> ContainerSandbox:
        """Connect to a running container, and finish its start if nobody has."""
        link = RelayLink(await self.engine.stream(state.container, setup.RELAY))
        notes = self._notes(key)
        sandbox = ContainerSandbox(notes.folder, link, state)
        try:
            async with asyncio.timeout(_MEET_SECONDS):
                await link.hello()
                await notes.finish_start(sandbox)
        except (SandboxUnavailable, OSError) as error:
            await sandbox.release()
            raise SandboxUnavailable(f"the sandbox did not answer: {await self._explain(state, error)}") from error
        except BaseException:
            await sandbox.release()
            raise
        if self._egress is not None and state.proxy:
            serving = container_egress.serve(
                self._egress,
                lambda argv: self.engine.stream(state.container, argv),
                notes.socket,
                key,
                state.network,
            )
            sandbox.egress = asyncio.create_task(serving, name=f"egress of {key}")
        self._live[key] = sandbox
        return sandbox

    async def _explain(self, state: State, error: Exception) -> str:
        with contextlib.suppress(SandboxUnavailable):
            found = await self.engine.inspect(state.container)
            said = await self.engine.logs(state.container)
            if found is not None and not found.running:
                return f"it ended with {found.exit_code}: {found.error or said or 'without a word'}"
        return str(error) or type(error).__name__

    async def _start(self, spec: SandboxSpec) -> ContainerSandbox:
        if (spec.shared or spec.layers) and not self._settings.address.local:
            raise SandboxUnavailable("folders of this machine can't be shared with an engine on another one")
        if spec.system or any(stacking.is_folder(layer.source, "system") for layer in spec.layers):
            raise SandboxUnavailable("in a container no layer lies over the system's own folders")
        made = await self.ground.ready()
        notes, limits = self._notes(spec.key), self._effective(spec.limits)
        proxied = not spec.network.closed and self._egress is not None
        proxy = proxied or (spec.gateway and self._egress is not None)
        config = setup.config(spec, limits, self.ground.conditions(), proxied=proxied, proxy=proxy)
        notes.begin()
        labels = made.labels(spec.key)
        await asyncio.gather(*(self.engine.make_volume(name, labels) for name in made.volumes(spec)))
        container = await self.engine.create(made.name(spec.key), words.container(made, spec, limits))
        found = await self._run(container)
        state = State(
            container=found.id,
            started=found.started,
            limits=limits,
            network=spec.network,
            folders=spec.folders,
            proxy=proxy,
            config=config,
            texts={f"/etc/{name}": text for name, text in spec.etc.items()},
            layers=[layer.key for layer in spec.layers],
        )
        notes.write(state)
        return await self._enter(spec.key, state)

    async def _run(self, container: str) -> Found:
        try:
            await self.engine.start(container)
        except EngineError as error:
            await self.engine.remove(container)
            raise SandboxUnavailable(f"the container does not start: {error}") from error
        found = await self.engine.inspect(container)
        if found is None:
            raise SandboxUnavailable("the container vanished at its start")
        return found

    def _effective(self, limits: Limits) -> Limits:
        names = Limits.__struct_fields__
        ours = {n: v if (v := getattr(limits, n)) is not None else getattr(self._limits, n) for n in names}
        return Limits(**ours)

    async def _put_to_sleep(self, key: str) -> None:
        sandbox = None
        with contextlib.suppress(SandboxUnavailable):  # one that runs and does not answer is ended all the same
            sandbox = await self._find(key)
        if sandbox is not None:
            await self._notes(key).keep_shell_state(sandbox)
        await self._let_go(key)
        await self.engine.remove((await self.ground.known()).name(key))

    async def _let_go(self, key: str) -> None:
        sandbox = self._live.pop(key, None)
        if sandbox is not None:
            await sandbox.release()
