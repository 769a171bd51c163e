"""Makes an agent's files of a tar stream, from the host's side, in new folders in which nothing runs.

An archive may come from anybody: each name is opened from its parent without following a link, and nothing that is
there already is opened or replaced. It must not know where the archive comes from.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from hostler.sandbox.packing import FOLDER_FLAGS, MAX_DEPTH, XATTRS, Budget
from hostler.sandbox.tarstream import FIFO, FOLDER, HARD_LINK, SYMLINK, Member

_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# What an archive asks for that no agent's files can be.
_IMPOSSIBLE = (
    errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EEXIST, errno.EINVAL, errno.ENAMETOOLONG, errno.EFBIG, errno.EISDIR,
)  # fmt: skip


class Misplaced(Exception):
    """An entry of the archive leads out of its folders, or contradicts another one."""


def plain(path: bytes) -> tuple[bytes, ...]:
    """The names of a path that neither climbs nor is too deep. Raises Misplaced."""
    parts = tuple(path.split(b"/"))
    if len(parts) > MAX_DEPTH + 8 or any(part in (b"", b".", b"..") for part in parts):
        raise Misplaced("the path of an entry is not plain")
    return parts


class Data(Protocol):
    """Where the data of entries comes from."""

    def chunks(self, member: Member) -> Iterator[tuple[int, bytes]]:
        """Of the current entry: pieces, each with its offset in the file."""
        ...


Locate = Callable[[tuple[bytes, ...]], tuple[Path, tuple[bytes, ...]]]


class Unpacker:
    """Makes the files of an archive below folders that were made for it, all of them owned by `uid`."""

    def __init__(self, locate: Locate, uid: int | None, budget: Budget) -> None:
        """`locate` gives the host's folder that holds an entry, and the rest of its path; it raises Misplaced."""
        self._locate = locate
        self._uid = uid
        self._budget = budget
        self._folders: list[Member] = []
        self._parent: tuple[tuple[Path, tuple[bytes, ...]], int] | None = None

    def unpack(self, data: Data, member: Member) -> None:
        """Make one entry. Raises Misplaced, TooMuch and OSError."""
        self._budget.look()
        self._budget.entry(member.data_bytes)
        top, rest = self._place(member.path)
        if member.kind == FOLDER:
            self._folders.append(member)
            if not rest:
                return
        elif not rest:
            raise Misplaced("a folder of the agent's is something else")
        try:
            self._make(data, member, self._open_parent(top, rest[:-1]), rest[-1])
        except OSError as error:
            if error.errno in _IMPOSSIBLE:
                raise Misplaced(f"an entry can't be made: {error.strerror}") from error
            raise

    def finish(self) -> None:
        """Give the folders their modes and times, the inner ones first. Raises OSError."""
        for member in reversed(self._folders):
            top, rest = self._place(member.path)
            self._close_parent()
            fd = self._open_parent(top, rest)
            self._dress(fd, member)
        self.close()

    def close(self) -> None:
        self._close_parent()

    def _place(self, path: bytes) -> tuple[Path, tuple[bytes, ...]]:
        return self._locate(plain(path))

    def _make(self, data: Data, member: Member, parent: int, raw: bytes) -> None:
        name = os.fsdecode(raw)
        if member.kind == FOLDER:
            os.mkdir(name, 0o700, dir_fd=parent)
            self._own(parent, name)
        elif member.kind == SYMLINK:
            os.symlink(os.fsdecode(member.link), name, dir_fd=parent)
            self._own(parent, name)
            os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)
        elif member.kind == FIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
            self._own(parent, name)
            os.chmod(name, member.mode, dir_fd=parent)  # it was made just now, and nothing else runs here
        elif member.kind == HARD_LINK:
            self._link(member, parent, name)
        else:
            self._make_file(data, member, parent, name)

    def _make_file(self, data: Data, member: Member, parent: int, name: str) -> None:
        fd = os.open(name, _MAKE, 0o600, dir_fd=parent)
        try:
            for offset, chunk in data.chunks(member):
                self._budget.look()
                _write_at(fd, chunk, offset)
            os.ftruncate(fd, member.size)
            self._dress(fd, member)
        finally:
            os.close(fd)

    def _link(self, member: Member, parent: int, name: str) -> None:
        """Another name of a file that was unpacked before; `parent` may be closed by finding it."""
        here = os.dup(parent)
        try:
            top, rest = self._place(member.link)
            if not rest:
                raise Misplaced("a link leads to a folder")
            there = self._open_parent(top, rest[:-1])
            if stat.S_ISDIR(os.stat(os.fsdecode(rest[-1]), dir_fd=there, follow_symlinks=False).st_mode):
                raise Misplaced("a link leads to a folder")
            os.link(os.fsdecode(rest[-1]), name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
        finally:
            os.close(here)

    def _own(self, parent: int, name: str) -> None:
        if self._uid is not None:
            os.chown(name, self._uid, self._uid, dir_fd=parent, follow_symlinks=False)

    def _dress(self, fd: int, member: Member) -> None:
        """Owner, attributes, mode and times, in the order in which none undoes another."""
        if self._uid is not None:
            os.fchown(fd, self._uid, self._uid)
        for key, value in member.xattrs.items():
            name = os.fsdecode(key)
            if not name.startswith(XATTRS):
                raise Misplaced("an entry has an attribute that no agent can set")
            with contextlib.suppress(OSError):  # a file system without them
                os.setxattr(fd, name, value)
        os.fchmod(fd, member.mode)
        os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))

    def _open_parent(self, top: Path, parts: Sequence[bytes]) -> int:
        """The folder of an entry, which stays open for the entries that follow."""
        wanted = (top, tuple(parts))
        if self._parent is not None and self._parent[0] == wanted:
            return self._parent[1]
        fd = os.open(top, FOLDER_FLAGS)
        try:
            for part in parts:
                below = os.open(part, FOLDER_FLAGS, dir_fd=fd)
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        self._close_parent()
        self._parent = wanted, fd
        return fd

    def _close_parent(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None


def _write_at(fd: int, chunk: bytes, offset: int) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
