"""The embedded backend: a sandbox a session, of bubblewrap, seccomp and our own init, that outlives the server.

It fails closed: where a sandbox cannot be made whole, there is none. It must not follow a path that the agent made.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from hostler.sandbox import (
    cgroups,
    files,
    initlink,
    interpreter,
    launcher,
    machine,
    native,
    rootfs,
    snapshots,
    specs,
    stacking,
    storing,
)
from hostler.sandbox.contract import Check, Limits, Network, Sandbox, SandboxSpec, SandboxUnavailable, Snapshot
from hostler.sandbox.disks import Disks
from hostler.sandbox.initlink import InitLink, Op
from hostler.sandbox.layers import systembase
from hostler.sandbox.live import BubblewrapSandbox, State
from hostler.sandbox.rawnet import RawNetwork
from hostler.sandbox.rootfs import Bind, Layout

Egress = Callable[[socket.socket, str, Network], Coroutine[Any, Any, None]]

DEFAULTS = Limits(memory_bytes=4 * 1024**3, cpus=None, processes=1024, file_bytes=4 * 1024**3, disk_bytes=10 * 1024**3)
_GROUP_TRIES = 100
_ENDLESS = 1 << 62
_SLACK = 2  # times the disk limit: what was over it when its processes were ended can still be written down
_log = logging.getLogger(__name__)


class BubblewrapBackend:
    """The contract's `Backend`. `folder` holds a directory for each session and must belong to this server alone."""

    def __init__(
        self,
        folder: Path,
        *,
        egress: Egress | None = None,
        ripgrep: Path | None = None,
        ca_bundle: Path | None = None,
        bundle: Callable[[], Path | None] | None = None,
        limits: Limits = DEFAULTS,
        lonely_seconds: int = 3600,
        raw: RawNetwork | None = None,
    ) -> None:
        """`ca_bundle` or `bundle` say which certificates the inside trusts. `lonely_seconds`: how long the processes of
        a sandbox go on when no server comes back for them. `raw` gives an interface to those whose network is open;
        without it, no sandbox has one."""
        self._folder = folder.absolute()
        self._egress = egress
        self._ripgrep = ripgrep
        self._bundle = bundle or (lambda: rootfs.ca_bundle(ca_bundle))
        self._limits = limits
        self._lonely_seconds = lonely_seconds
        self._raw = raw
        self._live: dict[str, BubblewrapSandbox] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # each as long as somebody uses it
        self._made_host: launcher.Host | None = None
        self._groups: cgroups.Groups | None = None
        self._children: dict[int, int] = {}  # bwrap's process id -> a descriptor of it
        self._disk_task: asyncio.Task[None] | None = None

    # -- the contract --

    async def provision(self, spec: SandboxSpec) -> Sandbox:
        specs.check(spec)
        async with self._lock(spec.key):
            sandbox = await self._find(spec.key) or await self._start(spec)
            self._watch_disk()
        await sandbox.set_mounts(spec.mounts)
        return sandbox

    async def find(self, key: str) -> Sandbox | None:
        async with self._lock(key):
            return await self._find(key)

    async def hibernate(self, key: str) -> None:
        async with self._lock(key):
            await self._put_to_sleep(key)

    async def snapshot(self, key: str, target: Path, *, limit_bytes: int | None = None) -> Snapshot | None:
        async with self._lock(key):
            layout = self._layout(key)
            if not layout.files.is_dir():
                return None
            if (sandbox := await self._find(key)) is not None:
                await self._keep_shell_state(sandbox)
            limit = min(limit_bytes or _ENDLESS, _SLACK * (self._limits.disk_bytes or _ENDLESS))
            try:
                return await storing.stoppable(limit, lambda budget: snapshots.snapshot(layout, target, budget))
            except asyncio.CancelledError:
                snapshots.drop(target)  # it was done at that moment
                raise

    async def restore(self, key: str, source: Path, snapshot: Snapshot) -> None:
        async with self._lock(key):
            layout, uid = self._layout(key), launcher.sandbox_uid(key)
            await self._end(key, await self._find(key))
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            limit = _SLACK * (self._limits.disk_bytes or _ENDLESS)
            await storing.stoppable(limit, lambda budget: snapshots.restore(layout, source, snapshot, uid, budget))

    async def destroy(self, key: str) -> None:
        async with self._lock(key):
            sandbox = await self._find(key)
            layout = self._layout(key)
            await self._end(key, sandbox)
            await asyncio.to_thread(files.remove_tree, layout.folder)

    async def reap(self, keep: set[str]) -> None:
        if not self._folder.is_dir():
            return
        for name in sorted(os.listdir(self._folder)):
            if name.startswith(snapshots.HALF):
                await asyncio.to_thread(files.remove_tree, self._folder / name)
            if name in keep or not specs.KEY.fullmatch(name):
                continue
            async with self._lock(name):
                if name in self._live:
                    continue  # somebody has taken it up meanwhile
                try:
                    await self._put_to_sleep(name)
                except (SandboxUnavailable, OSError) as error:
                    _log.warning("a sandbox of an earlier server is left alone: %s", error)

    def probe(self) -> list[Check]:
        checks = machine.checks(self._folder, self._groups_here(), self._limits)
        return [*checks, self._raw.check()] if self._raw is not None else checks

    async def aclose(self, *, stop: bool) -> None:
        if self._disk_task is not None:
            self._disk_task.cancel()
            await asyncio.gather(self._disk_task, return_exceptions=True)
            self._disk_task = None
        if stop:
            await asyncio.gather(*(self.hibernate(key) for key in list(self._live)))
        for sandbox in list(self._live.values()):
            await sandbox.release()
        self._live.clear()
        for handle in self._children.values():
            asyncio.get_running_loop().remove_reader(handle)
            os.close(handle)
        self._children.clear()

    # -- finding, starting, ending --

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    def _layout(self, key: str) -> Layout:
        if not specs.KEY.fullmatch(key):
            raise ValueError(f"a sandbox cannot be named {key!r}")
        return Layout(self._folder / key)

    async def _find(self, key: str) -> BubblewrapSandbox | None:
        known = self._live.get(key)
        if known is not None and known.live:
            return known
        if known is not None:
            await self._end(key, known)
        layout = self._layout(key)
        link = await initlink.connect(layout.socket)
        if link is None:
            return None
        try:
            async with asyncio.timeout(10):
                await link.hello()
                state = await self._state_of(layout, link)
                if layout.fresh.exists():  # the server died between start and this
                    await self._give_shell_state(layout, link)
        except (TimeoutError, SandboxUnavailable, OSError, msgspec.MsgspecError):
            link.close()
            return None
        return await self._enter(key, BubblewrapSandbox(layout, link, state))

    async def _state_of(self, layout: Layout, link: InitLink) -> State:
        """What is written down of a live sandbox. One whose server died before it wrote anything is ended."""
        try:
            return msgspec.json.decode(layout.state.read_bytes(), type=State)
        except (OSError, msgspec.MsgspecError):
            (await link.ask(Op.SHUTDOWN)).close()  # raises once it is gone
            raise

    async def _enter(self, key: str, sandbox: BubblewrapSandbox) -> BubblewrapSandbox:
        if self._egress is not None:
            with contextlib.suppress(initlink.Refused):
                listener = await sandbox.link.listener()
                listener.setblocking(False)
                sandbox.listener = listener
                sandbox.egress = asyncio.create_task(
                    self._egress(listener, key, sandbox.state.network), name=f"egress of {key}"
                )
        self._live[key] = sandbox
        return sandbox

    async def _start(self, spec: SandboxSpec) -> BubblewrapSandbox:
        layout, uid = self._layout(spec.key), launcher.sandbox_uid(spec.key, system=spec.system)
        await self._end(spec.key, None)  # what is left of one that does not answer
        host = self._host()
        raw = self._raw if self._raw is not None and self._raw.serves(spec.network) else None
        try:
            host = self._prepare(layout, host, uid, spec, raw)
            await asyncio.to_thread(files.place_all, layout, spec.mounts, uid)
            await asyncio.to_thread(interpreter.link_layers, layout, spec.layers, uid)
            layout.fresh.touch()
            listener = initlink.listen(layout.socket)
        except OSError as error:
            raise SandboxUnavailable(f"cannot make the sandbox's directory {layout.folder}: {error}") from error
        proxied = not spec.network.closed and self._egress is not None
        limits = self._effective(spec.limits)
        with contextlib.ExitStack() as stack:
            stack.enter_context(listener)
            groups = self._join(spec.key, limits, stack)
            child = await launcher.start(
                host,
                layout,
                uid,
                self._config(spec, limits, proxied),
                listener.fileno(),
                groups,
                lambda init: _write_state(layout.state, State(init, uid, limits, spec.network)),
                spec.folders,
            )
            self._reap_when_done(child)
            side_door = raw.start(layout, uid, groups) if raw is not None else None
        if side_door is None:
            sandbox = await self._meet(layout)
        else:
            self._reap_when_done(side_door.child)
            with side_door:
                sandbox = await self._meet(layout)
                await side_door.ready()
        return await self._enter(spec.key, sandbox)

    async def _meet(self, layout: Layout) -> BubblewrapSandbox:
        state = msgspec.json.decode(layout.state.read_bytes(), type=State)
        link = await initlink.connect(layout.socket)
        try:
            if link is None:
                raise SandboxUnavailable("nobody listens")
            async with asyncio.timeout(15):
                await link.hello()
                await self._give_shell_state(layout, link)
        except (SandboxUnavailable, TimeoutError) as error:
            if link is not None:
                link.close()
            await asyncio.to_thread(launcher.end, state.init)
            raise SandboxUnavailable(f"the sandbox did not start: {launcher.explain(layout.log)}") from error
        return BubblewrapSandbox(layout, link, state)

    def _reap_when_done(self, child: int) -> None:
        """Collect bwrap's exit status whenever it comes, so that it does not stay a zombie."""
        loop, handle = asyncio.get_running_loop(), os.pidfd_open(child)
        self._children[child] = handle

        def done() -> None:
            loop.remove_reader(handle)
            os.close(self._children.pop(child))
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)

        loop.add_reader(handle, done)

    def _prepare(
        self, layout: Layout, host: launcher.Host, uid: int | None, spec: SandboxSpec, raw: RawNetwork | None
    ) -> launcher.Host:
        """Make the directory; return what this start needs of the host."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        layout.folder.mkdir(exist_ok=True, mode=0o700)
        base = systembase.base(self._folder / ".base", uid) if spec.system else None
        stack = stacking.stack(layout, spec, [*host.binds, *rootfs.shared_binds(spec)], base)
        etc = rootfs.name_service(raw.name_servers() if raw is not None else ()) | spec.etc
        rootfs.make_skeleton(layout, [*host.binds, *stack.binds], spec.folders, etc)
        rootfs.make_writable(layout, uid, spec.folders)
        if spec.system:
            systembase.prepare(layout, uid)
        return msgspec.structs.replace(
            host, binds=tuple(stack.binds), overlays=tuple(stack.overlays), system=spec.system
        )

    def _host(self) -> launcher.Host:
        """Find what every sandbox needs, once. Raises `SandboxUnavailable` saying what is missing."""
        if self._made_host is None:
            init = native.program("hostler-init")
            try:
                bundle = self._bundle()
            except OSError as error:
                raise SandboxUnavailable(f"the certificates for sandboxes cannot be written: {error}") from error
            binds = [*rootfs.system_binds(), Bind(init, "/opt/hostler/init")]
            binds += [Bind(path, target) for path, target in self._programs()]
            binds += [Bind(bundle.resolve(), rootfs.CA_BUNDLE)] if bundle else []
            binds += [python] if (python := rootfs.python_bind()) else []
            self._groups_here()
            self._made_host = launcher.Host(machine.bubblewrap(), init, tuple(binds))
        return self._made_host

    def _programs(self) -> list[tuple[Path, str]]:
        found = [(self._ripgrep, "/opt/hostler/rg")] if self._ripgrep else []
        with contextlib.suppress(SandboxUnavailable):
            found.append((native.program("hostler-tools"), "/opt/hostler/tools"))
        return found

    def _group(self, key: str) -> str:
        """The name of a sandbox's control groups: another data folder of this machine may have the same session."""
        return f"{key}-{hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:8]}"

    def _groups_here(self) -> cgroups.Groups | None:
        if self._groups is None:
            self._groups = cgroups.find()
        return self._groups

    def _effective(self, limits: Limits) -> Limits:
        names = Limits.__struct_fields__
        ours = {n: v if (v := getattr(limits, n)) is not None else getattr(self._limits, n) for n in names}
        return Limits(**ours)

    def _join(self, key: str, limits: Limits, stack: contextlib.ExitStack) -> list[int]:
        """Make the control groups and open them for the one process that joins."""
        if self._groups is None:
            return []
        fds = []
        for path in self._groups.create(self._group(key), limits):
            fds.append(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
            stack.callback(os.close, fds[-1])
        return fds

    def _config(self, spec: SandboxSpec, limits: Limits, proxied: bool) -> list[str]:
        lines = [f"env:{name}={value}" for name, value in self._environment(spec, proxied).items()]
        lines.append(f"lonely={self._lonely_seconds}")
        lines += ["proxy"] if proxied or (spec.gateway and self._egress is not None) else []
        lines += [f"processes={limits.processes}"] if limits.processes else []
        lines += [f"file={limits.file_bytes}"] if limits.file_bytes else []
        lines.append(f"files={launcher.descriptors()}")
        watched = self._groups is None or "memory" not in self._groups.folders
        lines += [f"memory={limits.memory_bytes}"] if limits.memory_bytes and watched else []
        return lines

    def _environment(self, spec: SandboxSpec, proxied: bool) -> dict[str, str]:
        return rootfs.environment(stacking.environment(spec) | spec.env, proxied=proxied)

    async def _put_to_sleep(self, key: str) -> None:
        sandbox = await self._find(key)
        if sandbox is not None:
            await self._keep_shell_state(sandbox)
        await self._end(key, sandbox)

    async def _end(self, key: str, sandbox: BubblewrapSandbox | None) -> None:
        """End the processes of a sandbox, known or left over; its files stay."""
        layout = self._layout(key)
        self._live.pop(key, None)
        if sandbox is not None:
            await sandbox.release()
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            state = msgspec.json.decode(layout.state.read_bytes(), type=State)
            await asyncio.to_thread(launcher.end, state.init)
            layout.state.unlink()
        with contextlib.suppress(OSError):
            layout.socket.unlink()
        if (groups := self._groups_here()) is not None:
            for _ in range(_GROUP_TRIES):
                if groups.remove(self._group(key)):
                    break
                await asyncio.sleep(0.002)

    # -- the shell's state, the disk --

    async def _keep_shell_state(self, sandbox: BubblewrapSandbox) -> None:
        try:
            async with asyncio.timeout(6):
                state = await sandbox.link.memory(Op.DUMP)
        except (initlink.Busy, initlink.Refused, SandboxUnavailable, TimeoutError):
            return  # at work or gone: the state of the last rest stands
        _write_whole(sandbox.layout.shell_state, state)

    async def _give_shell_state(self, layout: Layout, link: InitLink) -> None:
        with contextlib.suppress(FileNotFoundError):
            if state := layout.shell_state.read_bytes():
                (await link.ask(Op.RESTORE, payload=state)).close()
        layout.fresh.unlink(missing_ok=True)

    def _watch_disk(self) -> None:
        if self._disk_task is None:
            disks = Disks(self._folder, self._live.values)
            self._disk_task = asyncio.create_task(disks.watch(), name="disks of the sandboxes")


def _write_state(path: Path, state: State) -> None:
    _write_whole(path, msgspec.json.encode(state))


def _write_whole(path: Path, data: bytes) -> None:
    half = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    half.write_bytes(data)
    half.replace(path)
