"""Looks at what sandboxes keep on the disk, and ends what runs in one that keeps more than it may.

It only counts: it must not read a file, nor leave one changed. The kernel's quotas would need a privileged user.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from hostler.sandbox.contract import SandboxUnavailable
from hostler.sandbox.initlink import Op
from hostler.sandbox.live import BubblewrapSandbox

LOOK_SECONDS = 2.0
ENTRY_BYTES = 4096  # what a name costs at least: a disk can also be filled with empty files
MAX_DEPTH = 200
ENDLESS = 1 << 62
_RESERVE_BYTES, _RESERVE_SHARE = 256 * 1024 * 1024, 0.01
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = 0o500
_log = logging.getLogger(__name__)


class Disks:
    """The disk limits of all live sandboxes, and the last of the disk, which is the server's own."""

    def __init__(self, folder: Path, live: Callable[[], Iterable[BubblewrapSandbox]]) -> None:
        self._folder = folder
        self._live = live

    async def watch(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self.look), name="disk limits of the sandboxes")
            group.create_task(self._repeat(self.look_at_reserve), name="reserve of the disk")

    async def _repeat(self, look: Callable[[], Awaitable[None]]) -> None:
        loop, took = asyncio.get_running_loop(), 0.0
        while True:
            await asyncio.sleep(max(LOOK_SECONDS, 20 * took))  # at most a twentieth of a core
            begun = loop.time()
            try:
                await look()
            except Exception:
                _log.exception("cannot look at what the sandboxes keep on the disk")
            took = loop.time() - begun

    async def look(self) -> None:
        """End what runs in each sandbox that has too much."""
        for sandbox in [s for s in self._live() if s.live]:
            with contextlib.suppress(SandboxUnavailable):  # it ended meanwhile
                try:
                    await self._look_at(sandbox)
                except SandboxUnavailable:
                    raise
                except Exception:  # the limits of the others must hold on
                    _log.exception("cannot look at the files of a sandbox")

    async def _look_at(self, sandbox: BubblewrapSandbox) -> None:
        limit = sandbox.state.limits.disk_bytes
        if not limit:
            return
        used = await asyncio.to_thread(used_bytes, sandbox.layout.files, limit)
        used += await sandbox.link.held_bytes()
        if used > limit:
            found = f"at least {used}" if used < ENDLESS else "too deep a tree to count their"
            await _quell(sandbox, f"the sandbox's files have {found} bytes and may have {limit}")

    async def look_at_reserve(self) -> None:
        """When the disk is nearly full, end what runs in all: a file can be held in ways that nobody can count."""
        try:
            about = os.statvfs(self._folder)
        except OSError:
            return
        bytes_left, floor = about.f_bavail * about.f_frsize, about.f_blocks * about.f_frsize * _RESERVE_SHARE
        files_left, files_floor = about.f_favail, about.f_files * _RESERVE_SHARE / 10
        if bytes_left >= min(_RESERVE_BYTES, floor) and (not about.f_files or files_left >= files_floor):
            return
        _log.error("the disk of %s is nearly full: ending what runs in the sandboxes", self._folder)
        for sandbox in [s for s in self._live() if s.live]:
            with contextlib.suppress(SandboxUnavailable):
                await _quell(sandbox, "the disk of the server is nearly full")


async def _quell(sandbox: BubblewrapSandbox, why: str) -> None:
    (await sandbox.link.ask(Op.QUELL, payload=f"hostler: ended, {why}\n".encode())).close()


def used_bytes(folder: Path, enough: int) -> int:
    """What the names and blocks below `folder` cost, counted until it is more than `enough`.

    Every folder is opened from its parent without following a link, so that nothing outside is looked at; a folder
    that may not be looked into is made readable meanwhile. A tree that is too deep counts as endless.
    """
    try:
        top = os.open(folder, _FOLDER)
    except FileNotFoundError:
        return 0
    total, seen = 0, set[int]()
    levels = [_Level(top)]
    try:
        while levels and total <= enough:
            total += levels[-1].take_files(seen)
            below = levels[-1].next()
            if below is None:
                levels.pop().close()
            else:
                levels.append(below)
            if len(levels) > MAX_DEPTH:
                return ENDLESS
    finally:
        for level in reversed(levels):
            level.close()
    return total


class _Level:
    """An open folder and the folders in it that have yet to be looked into."""

    __slots__ = ("_folders", "_looked", "_mode", "fd")

    def __init__(self, fd: int, mode: int | None = None) -> None:
        """`mode` is what a folder had that was made readable, and gets back."""
        self.fd = fd
        self._mode = mode
        self._folders: list[str] = []
        self._looked = False

    def take_files(self, seen: set[int]) -> int:
        """The first time: the cost of all entries. A file with many names is counted once."""
        total = 0
        if self._looked:
            return total
        self._looked = True
        with contextlib.suppress(OSError), os.scandir(self.fd) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    about = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(about.st_mode):
                        self._folders.append(entry.name)
                    if about.st_nlink > 1 and not stat.S_ISDIR(about.st_mode):
                        if about.st_ino in seen:
                            continue
                        seen.add(about.st_ino)
                    total += max(about.st_blocks * 512, ENTRY_BYTES)
        return total

    def next(self) -> _Level | None:
        while self._folders:
            with contextlib.suppress(OSError):
                return _open_level(self.fd, self._folders.pop())
        return None

    def close(self) -> None:
        if self._mode is not None:
            with contextlib.suppress(OSError):
                if stat.S_IMODE(os.fstat(self.fd).st_mode) == self._mode | _LOOK:  # the agent has not changed it since
                    os.fchmod(self.fd, self._mode)
        os.close(self.fd)


def _open_level(parent: int, name: str) -> _Level:
    try:
        return _Level(os.open(name, _FOLDER, dir_fd=parent))
    except OSError as error:
        if error.errno != errno.EACCES:
            raise
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        own = f"/proc/self/fd/{handle}"
        os.chmod(own, mode | _LOOK)
        return _Level(os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), mode)
    finally:
        os.close(handle)
