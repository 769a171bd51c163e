"""Packs what an agent has written into a tar stream, from the host's side; `unpacking` is the other direction.

Each name is opened from its parent without following a link, and nothing but plain files is opened at all, so that no
link, pipe or device of the agent's making is followed. It must not know where the archive lies.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from hostler.sandbox.tarstream import FIFO, FOLDER, HARD_LINK, MAX_EXTENTS, SYMLINK, Member, Writer

MAX_DEPTH = 200
MAX_ENTRIES = 2_000_000
ENTRY_BYTES = 4096  # what a name counts at least, as in the disk limit
_CHUNK = 1 << 20
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
XATTRS = "user."  # the only ones that an agent can set, and that are set again
# It went, was exchanged, or is kept from being read while processes of the agent's still run.
_PASSING = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EAGAIN, errno.ESTALE)


class TooMuch(Exception):
    """The files are more than may be packed or unpacked; the message says in which way."""


class Stopped(Exception):
    """Whoever asked for it does not want it any more."""


class Budget:
    """How much may still be packed or unpacked."""

    def __init__(self, limit: int | None, stopped: Callable[[], bool] = lambda: False) -> None:
        self._left = limit
        self._entries = MAX_ENTRIES
        self._limit = limit
        self._stopped = stopped

    def entry(self, data_bytes: int) -> None:
        """Count one name with its data. Raises TooMuch."""
        self._entries -= 1
        if self._left is not None:
            self._left -= max(ENTRY_BYTES, data_bytes)
            if self._left < 0:
                raise TooMuch(f"its files are larger than {self._limit} bytes")
        if self._entries < 0:
            raise TooMuch(f"it has more than {MAX_ENTRIES} files")

    def look(self) -> None:
        if self._stopped():
            raise Stopped


class _Level:
    """An open folder, and the names in it that are still to be packed."""

    def __init__(self, fd: int, path: bytes, mode: int | None) -> None:
        """`mode` is what a folder had that was made readable, and gets back."""
        self.fd = fd
        self.path = path
        self.names = os.listdir(fd)
        self._mode = mode

    def close(self) -> None:
        if self._mode is not None:
            with contextlib.suppress(OSError):
                os.fchmod(self.fd, self._mode)
        os.close(self.fd)


def pack(top: Path, path: bytes, writer: Writer, budget: Budget) -> None:
    """Add a folder of the host and all below it to an archive, under `path`. What vanishes meanwhile is left out;
    sockets and devices are, too. Raises TooMuch, Stopped and OSError."""
    links: dict[tuple[int, int], bytes] = {}
    levels = [_open_level(None, os.fspath(top), path)]
    try:
        _add_folder(levels[0], writer, budget)
        while levels:
            budget.look()
            level = levels[-1]
            if not level.names:
                levels.pop().close()
                continue
            name = level.names.pop()
            try:
                below = _pack_one(level, name, writer, budget, links)
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                continue
            if below is not None:
                levels.append(below)
                _add_folder(below, writer, budget)
                if len(levels) > MAX_DEPTH:
                    raise TooMuch(f"its folders are deeper than {MAX_DEPTH}")
    finally:
        for level in reversed(levels):
            level.close()


def _add_folder(level: _Level, writer: Writer, budget: Budget) -> None:
    about = os.fstat(level.fd)
    mode = stat.S_IMODE(about.st_mode) if level._mode is None else level._mode
    budget.entry(0)
    writer.add(Member(path=level.path, kind=FOLDER, mode=mode, mtime_ns=about.st_mtime_ns, xattrs=_xattrs(level.fd)))


def _pack_one(
    level: _Level, name: str, writer: Writer, budget: Budget, links: dict[tuple[int, int], bytes]
) -> _Level | None:
    """Add one name; a folder is only opened, and returned."""
    about = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
    path = level.path + b"/" + os.fsencode(name)
    if stat.S_ISDIR(about.st_mode):
        return _open_level(level.fd, name, path)
    same = (about.st_dev, about.st_ino)
    member = Member(path=path, mode=stat.S_IMODE(about.st_mode), mtime_ns=about.st_mtime_ns)
    if about.st_nlink > 1 and same in links:
        member.kind, member.link = HARD_LINK, links[same]
    elif stat.S_ISLNK(about.st_mode):
        member.kind, member.link = SYMLINK, os.fsencode(os.readlink(name, dir_fd=level.fd))
    elif stat.S_ISFIFO(about.st_mode):
        member.kind = FIFO
    elif stat.S_ISREG(about.st_mode):
        _pack_file(level.fd, name, member, writer, budget)
        links[same] = path
        return None
    else:
        return None
    budget.entry(0)
    writer.add(member)
    if about.st_nlink > 1:
        links.setdefault(same, path)
    return None


def _pack_file(parent: int, name: str, member: Member, writer: Writer, budget: Budget) -> None:
    fd = _open_file(parent, name)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.ELOOP, "it was exchanged")
        member.size, member.xattrs = about.st_size, _xattrs(fd)
        if about.st_blocks * 512 < about.st_size:
            member.extents = _extents(fd, about.st_size)
        budget.entry(member.data_bytes)
        writer.add(member, _contents(fd, member, budget))
    finally:
        os.close(fd)


def _extents(fd: int, size: int) -> list[tuple[int, int]]:
    """Where the data of a sparse file is. Raises TooMuch."""
    found: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no more data
                break
            raise
        at = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        if begin < at:
            found.append((begin, at - begin))
        if len(found) > MAX_EXTENTS:
            raise TooMuch("one of its files is in too many pieces")
    return found


def _contents(fd: int, member: Member, budget: Budget) -> Iterator[bytes]:
    """The data of a file, exactly as much as its header says: what it has lost meanwhile is zeros."""
    for offset, length in member.data:
        end = offset + length
        while offset < end:
            budget.look()
            chunk = os.pread(fd, min(_CHUNK, end - offset), offset) or bytes(min(_CHUNK, end - offset))
            offset += len(chunk)
            yield chunk


def _xattrs(fd: int) -> dict[bytes, bytes]:
    try:
        names = [name for name in os.listxattr(fd) if name.startswith(XATTRS)]
        return {os.fsencode(name): os.getxattr(fd, name) for name in names if "=" not in name}
    except OSError:
        return {}


def _open_file(parent: int, name: str) -> int:
    """Open a file for reading, also one whose mode forbids it to its owner."""
    try:
        return os.open(name, _READ, dir_fd=parent)
    except PermissionError:
        with _readable(parent, name, 0o400) as (own, _):
            return os.open(own, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _open_level(parent: int | None, name: str, path: bytes) -> _Level:
    try:
        return _Level(os.open(name, FOLDER_FLAGS, dir_fd=parent), path, None)
    except PermissionError:
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        mode, own = stat.S_IMODE(os.fstat(handle).st_mode), f"/proc/self/fd/{handle}"
        os.chmod(own, mode | 0o700)
        return _Level(os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path, mode)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _readable(parent: int, name: str, bits: int) -> Iterator[tuple[str, int]]:
    """A plain file with these bits added to its mode meanwhile."""
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        about, own = os.fstat(handle), f"/proc/self/fd/{handle}"
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.ELOOP, "it was exchanged")
        os.chmod(own, stat.S_IMODE(about.st_mode) | bits)
        try:
            yield own, handle
        finally:
            os.chmod(own, stat.S_IMODE(about.st_mode))
    finally:
        os.close(handle)
