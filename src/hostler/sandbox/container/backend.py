"""The backend on containers: one a session, made by whatever engine, outliving the server.

Knows what a session's container needs and how one is taken up again; not how it is made. It must not read a file that
the agent made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

import msgspec

from hostler.sandbox import stacking
from hostler.sandbox.container import egress as container_egress
from hostler.sandbox.container import setup, transfer
from hostler.sandbox.container.egress import Egress
from hostler.sandbox.container.notes import Notes
from hostler.sandbox.container.relaylink import Ended, SteadyLink
from hostler.sandbox.container.session import ContainerSandbox, State
from hostler.sandbox.container.setup import Conditions
from hostler.sandbox.container.streams import OpenStream, Stream
from hostler.sandbox.contract import NO_NETWORK, Check, Limits, Sandbox, SandboxSpec, SandboxUnavailable, Snapshot
from hostler.sandbox.specs import KEY, check

_MEET_SECONDS = 60.0
_ENDLESS = 1 << 62
_SLACK = 2  # times the disk limit: what was over it when its processes were ended can still be written down
_log = logging.getLogger(__name__)


class Life(msgspec.Struct, frozen=True):
    """One life of a session's container: its name, and what tells it from an earlier and a later one."""

    container: str
    started: str


class Containers(Protocol):
    """What an engine does. Every method but `copies`, `probe` and `explain` raises `SandboxUnavailable`."""

    async def ready(self, spec: SandboxSpec) -> Conditions:
        """See to it that all is there that a container needs, and refuse what this engine can't give it."""
        ...

    async def start(self, spec: SandboxSpec, limits: Limits) -> Life:
        """Make the session's container run our init, in the place of any that is left over."""
        ...

    def copies(self, spec: SandboxSpec) -> dict[str, str]:
        """Files and folders of the host that the container can't see and must be given, by where they go inside."""
        ...

    async def runs(self, key: str, life: Life) -> bool:
        """Whether the container is still in that life."""
        ...

    async def stream(self, key: str, life: Life, argv: list[str]) -> Stream:
        """Start a program in it as its root."""
        ...

    async def explain(self, key: str, life: Life) -> str:
        """Why the container does not run, in a few words; none when it runs, or nobody knows."""
        ...

    async def stop(self, key: str) -> None:
        """End the container and wait until it is gone; what the agent has stays. No-op when there is none."""
        ...

    async def remove(self, key: str) -> None:
        """End the container and delete all it had."""
        ...

    async def keys(self) -> set[str]:
        """The sessions of this data folder that have a container. Asked at the start of a server: what else an earlier
        one left may be cleared away."""
        ...

    def probe(self, limits: Limits) -> list[Check]:
        """The contract's `probe`."""
        ...

    async def aclose(self) -> None:
        """Let go of the engine."""
        ...


class ContainerBackend:
    """The contract's `Backend`. `folder` holds what the server notes of each session, and belongs to it alone."""

    def __init__(
        self,
        folder: Path,
        containers: Containers,
        *,
        limits: Limits,
        egress: Egress | None = None,
        patience: float = 60.0,
    ) -> None:
        """`patience`: how many seconds calls wait for an engine that does not answer any more."""
        self._folder = folder.absolute()
        self._containers = containers
        self._egress = egress
        self._limits = limits
        self._patience = patience
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
        notes = self._notes(key)
        async with self._lock(key):
            if (state := notes.read()) is None:
                if notes.there():
                    raise SandboxUnavailable("the sandbox's last start was cut off: it can be kept after the next one")
                return None
            limit = min(limit_bytes or _ENDLESS, _SLACK * (self._limits.disk_bytes or _ENDLESS))
            if (sandbox := await self._find(key)) is not None:
                await notes.keep_shell_state(sandbox)
                return await transfer.pack(self._opener(key, _life(state)), state.folders, notes, target, limit)
            spec = SandboxSpec(key=key, network=NO_NETWORK, folders=state.folders, limits=state.limits)
            async with self._awake(spec) as life:
                return await transfer.pack(self._opener(key, life), state.folders, notes, target, limit)

    async def restore(self, key: str, source: Path, snapshot: Snapshot) -> None:
        notes, limit = self._notes(key), _SLACK * (self._limits.disk_bytes or _ENDLESS)
        async with self._lock(key):
            contents = await transfer.check(source, snapshot, limit)
            await self._erase(key)
            spec = SandboxSpec(key=key, network=NO_NETWORK, folders=contents.folders)
            try:
                async with self._awake(spec, whole=True) as life:
                    await transfer.unpack(self._opener(key, life), source, snapshot, limit)
                notes.restored(_resting(spec, self._effective(spec.limits)), contents.shell)
            except BaseException:
                with contextlib.suppress(SandboxUnavailable):
                    await self._erase(key)
                raise

    async def destroy(self, key: str) -> None:
        async with self._lock(key):
            await self._erase(key)

    @contextlib.asynccontextmanager
    async def resting(self, key: str) -> AsyncIterator[OpenStream]:
        """A way to the files of a sandbox that rests, in which nothing of the agent's runs. Raises
        `SandboxUnavailable`."""
        async with self._lock(key), self._awake(SandboxSpec(key=key, network=NO_NETWORK)) as life:
            yield self._opener(key, life)

    async def reap(self, keep: set[str]) -> None:
        try:
            found = await self._containers.keys()
        except SandboxUnavailable as error:
            _log.warning("sandboxes of an earlier server are left alone: %s", error)
            return
        for key in sorted(found):
            if key in keep or not KEY.fullmatch(key):
                continue
            async with self._lock(key):
                if key in self._live:
                    continue  # somebody has taken it up meanwhile
                try:
                    await self._put_to_sleep(key)
                except (SandboxUnavailable, OSError) as error:
                    _log.warning("a sandbox of an earlier server is left alone: %s", error)

    def probe(self) -> list[Check]:
        return self._containers.probe(self._limits)

    async def aclose(self, *, stop: bool) -> None:
        if stop:
            rested = await asyncio.gather(*(self.hibernate(key) for key in list(self._live)), return_exceptions=True)
            if any(isinstance(end, Exception) for end in rested):
                _log.warning("sandboxes run on, which the next server finds: %s", next(filter(None, rested)))
        for sandbox in list(self._live.values()):
            await sandbox.release()
        self._live.clear()
        await self._containers.aclose()

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
        if not state.container or not await self._containers.runs(key, _life(state)):
            return None
        return await self._enter(key, state)

    async def _enter(self, key: str, state: State) -> ContainerSandbox:
        """Connect to a running container, and finish its start if nobody has."""
        life = _life(state)

        async def relay() -> Stream:
            return await self._containers.stream(key, life, [*setup.RELAY])

        async def relay_again() -> Stream:
            if not await self._containers.runs(key, life):
                raise Ended(f"the sandbox has ended: {await self._containers.explain(key, life) or 'it is gone'}")
            return await relay()

        link = SteadyLink(await relay(), relay_again, patience=self._patience)
        notes = self._notes(key)
        sandbox = ContainerSandbox(notes.folder, link, state)
        try:
            async with asyncio.timeout(_MEET_SECONDS):
                await link.hello()
                await notes.finish_start(sandbox)
        except (SandboxUnavailable, OSError) as error:
            await sandbox.release()
            why = await self._containers.explain(key, life) or str(error) or type(error).__name__
            raise SandboxUnavailable(f"the sandbox did not answer: {why}") from error
        except BaseException:
            await sandbox.release()
            raise
        self._serve(key, life, sandbox)
        self._live[key] = sandbox
        return sandbox

    def _serve(self, key: str, life: Life, sandbox: ContainerSandbox) -> None:
        """Let the container's programs reach the egress proxy."""
        if self._egress is None or not sandbox.state.proxy:
            return
        serving = container_egress.serve(
            self._egress,
            lambda argv: self._containers.stream(key, life, [*argv]),
            self._notes(key).socket,
            key,
            sandbox.state.network,
        )
        sandbox.egress = asyncio.create_task(serving, name=f"egress of {key}")

    async def _start(self, spec: SandboxSpec) -> ContainerSandbox:
        if spec.system or any(stacking.is_folder(layer.source, "system") for layer in spec.layers):
            raise SandboxUnavailable("in a container no layer lies over the system's own folders")
        conditions = await self._containers.ready(spec)
        notes, limits = self._notes(spec.key), self._effective(spec.limits)
        proxied = not spec.network.closed and self._egress is not None
        proxy = proxied or (spec.gateway and self._egress is not None)
        config = setup.config(spec, limits, conditions, proxied=proxied, proxy=proxy)
        notes.begin()
        life = await self._containers.start(spec, limits)
        state = State(
            container=life.container,
            started=life.started,
            limits=limits,
            network=spec.network,
            folders=spec.folders,
            proxy=proxy,
            config=config,
            texts={f"/etc/{name}": text for name, text in spec.etc.items()},
            layers=[layer.key for layer in spec.layers],
            copies=self._containers.copies(spec),
        )
        notes.write(state)
        return await self._enter(spec.key, state)

    def _opener(self, key: str, life: Life) -> OpenStream:
        return lambda argv: self._containers.stream(key, life, [*argv])

    @contextlib.asynccontextmanager
    async def _awake(self, spec: SandboxSpec, *, whole: bool = False) -> AsyncIterator[Life]:
        """A container with the session's files in which nothing of the agent's runs, for a while. Nothing is noted of
        it: a server that finds it left over ends it, or takes its place. A `whole` start is not cut off, so that the
        engine makes nothing of it after it was taken back."""
        conditions, limits = await self._containers.ready(spec), self._effective(spec.limits)
        try:
            starting = asyncio.ensure_future(self._containers.start(spec, limits))
            try:
                life = await (asyncio.shield(starting) if whole else starting)
            finally:
                await asyncio.wait({starting})
            open_stream = self._opener(spec.key, life)
            link = SteadyLink(await open_stream(setup.RELAY), lambda: open_stream(setup.RELAY), patience=self._patience)
            try:
                config = setup.config(spec, limits, conditions, proxied=False, proxy=False)
                await transfer.prepare(link, config, _MEET_SECONDS)
                yield life
            finally:
                await link.aclose()
        finally:
            await self._containers.stop(spec.key)

    async def _erase(self, key: str) -> None:
        notes = self._notes(key)
        await self._let_go(key)
        await self._containers.remove(key)
        await notes.remove()

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
        await self._containers.stop(key)

    async def _let_go(self, key: str) -> None:
        sandbox = self._live.pop(key, None)
        if sandbox is not None:
            await sandbox.release()


def _life(state: State) -> Life:
    return Life(state.container, state.started)


def _resting(spec: SandboxSpec, limits: Limits) -> State:
    """Of a sandbox that has not run yet."""
    folders, network = spec.folders, spec.network
    return State(
        container="", started="", limits=limits, network=network, folders=folders, proxy=False, config=b"", texts={},
        layers=[],
    )  # fmt: skip
