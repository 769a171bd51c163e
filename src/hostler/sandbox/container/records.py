"""The agent's files as records, as native/archive.c carries them out of a container and into one, and as a snapshot.

What comes out is data of a stranger's: it is only ever written into an archive. What goes in was looked through before,
so that nothing of an archive that contradicts itself is ever made. It must not know what carries the bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import zstandard

from hostler.sandbox import snapshots
from hostler.sandbox.container import setup
from hostler.sandbox.contract import SandboxUnavailable, Snapshot, SnapshotDamaged
from hostler.sandbox.packing import XATTRS, Budget, TooMuch
from hostler.sandbox.rootfs import WRITABLE
from hostler.sandbox.snapshots import MAX_SHELL_STATE, SHELL_STATE, Source
from hostler.sandbox.tarstream import (
    FIFO,
    FILE,
    FOLDER,
    HARD_LINK,
    MAX_EXTENTS,
    MAX_PATH,
    SYMLINK,
    BadTar,
    Member,
    Reader,
    Writer,
)
from hostler.sandbox.unpacking import Misplaced, plain

_RECORD = struct.Struct("<BBHIQqIIIII")
_XATTR = struct.Struct("<HI")
_EXTENT = struct.Struct("<QQ")
_DRESS, _END, _FAILED, _TOO_MUCH = b"D", b"E", b"X", b"T"
_KINDS = (FILE, HARD_LINK, SYMLINK, FOLDER, FIFO)
_CHUNK = 1 << 18
_MAX_XATTRS = 512 * 1024
_MAX_NAME, _MAX_LINK = 255, 4095
_MAX_FOLDERS = 64  # beyond the usual ones; each may become a volume


class Pipe(Protocol):
    """Bytes from and to a program inside. All raise `SandboxUnavailable` and `Stopped`."""

    def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        ...

    def write(self, data: bytes) -> None: ...

    def answer(self) -> str:
        """What the program says at its end, in few words."""
        ...


class Unreadable(SandboxUnavailable):
    """Our program says that it can't read a file or folder."""


class Contents(msgspec.Struct, frozen=True):
    """What a snapshot that was looked through needs: folders beyond the usual ones, and the state of the shell."""

    folders: list[str]
    shell: bytes


# -- out of a container --


def write(pipe: Pipe, folders: Sequence[str], shell: bytes, target: Path, budget: Budget) -> Snapshot:
    """Make a snapshot of what `pack` says. Raises TooMuch, Stopped, OSError and SandboxUnavailable; then there is no
    new file. `folders` are those that it was given, in that order."""
    tops = [_archived(folder) for folder in folders]

    def fill(writer: Writer) -> None:
        if shell and len(shell) <= MAX_SHELL_STATE:
            writer.add(Member(path=SHELL_STATE, mode=0o600, size=len(shell)), [shell])
        while (member := take(pipe, tops)) is not None:
            budget.look()
            budget.entry(member.data_bytes)
            writer.add(member, (chunk for _, chunk in data(pipe, member, budget)))

    return snapshots.write(target, fill)


def _archived(folder: str) -> bytes:
    """Where in an archive the files of one of the agent's folders are."""
    name = next((name for name, inside in WRITABLE.items() if inside == folder), None)
    return snapshots.prefix(name or setup.extra_name(folder))


def take(pipe: Pipe, tops: Sequence[bytes]) -> Member | None:
    """The next record of `pack`, named by which of `tops` it lies in; none at the end. Raises TooMuch, Unreadable, and
    SandboxUnavailable for what our program never says."""
    kind_, sparse, top, mode, size, seconds, nanos, path_len, link_len, xattrs_len, extents = _RECORD.unpack(
        pipe.read(_RECORD.size)
    )
    kind = bytes([kind_])
    if max(path_len, link_len) > MAX_PATH or xattrs_len > _MAX_XATTRS or extents > MAX_EXTENTS or size >= 1 << 63:
        raise _nonsense()
    path, link = pipe.read(path_len), pipe.read(link_len)
    xattrs = _read_xattrs(pipe.read(xattrs_len))
    pieces = [*_EXTENT.iter_unpack(pipe.read(extents * _EXTENT.size))]
    if kind == _END:
        return None
    if kind == _TOO_MUCH:
        raise TooMuch(path[:200].decode(errors="replace"))
    if kind == _FAILED:
        raise Unreadable(f"the sandbox's files can't be read: {path[:200].decode(errors='replace')}")
    if kind not in _KINDS or top >= len(tops) or nanos >= 10**9 or not _are_pieces(pieces, size):
        raise _nonsense()
    member = Member(path=_below(tops[top], path), kind=kind, mode=mode & 0o7777, mtime_ns=seconds * 10**9 + nanos)
    member.xattrs = xattrs
    if kind == FILE:
        member.size, member.extents = size, pieces if sparse else None
    elif kind in (HARD_LINK, SYMLINK):
        member.link = _below(tops[top], link) if kind == HARD_LINK else link
    return member


def _below(top: bytes, path: bytes) -> bytes:
    try:
        return b"/".join((top, *plain(path))) if path else top
    except Misplaced:
        raise _nonsense() from None


def _are_pieces(pieces: Sequence[tuple[int, ...]], size: int) -> bool:
    at = 0
    for offset, length in pieces:
        if offset < at or offset + length > size:
            return False
        at = offset + length
    return True


def _read_xattrs(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        if at + _XATTR.size > len(data):
            raise _nonsense()
        name_len, value_len = _XATTR.unpack_from(data, at)
        at += _XATTR.size
        name, value = data[at : at + name_len], data[at + name_len : at + name_len + value_len]
        at += name_len + value_len
        if not name.startswith(XATTRS.encode()) or b"=" in name or b"\0" in name or at > len(data):
            raise _nonsense()
        found[name] = value
    return found


def data(pipe: Pipe, member: Member, budget: Budget) -> Iterator[tuple[int, bytes]]:
    """The data of a record that was just taken: pieces, each with its offset in the file."""
    for offset, left in member.data:
        while left:
            budget.look()
            chunk = pipe.read(min(left, _CHUNK))
            yield offset, chunk
            offset, left = offset + len(chunk), left - len(chunk)


def _nonsense() -> SandboxUnavailable:
    return SandboxUnavailable("what packs the sandbox's files does not make sense: something meddles with it")


# -- into a container --


def check(source: Path, wanted: Snapshot, budget: Budget) -> Contents:
    """Look through a whole snapshot, so that nothing but a disk or an engine can fail after it. Raises SnapshotDamaged,
    TooMuch, Stopped and OSError."""
    looked = _Looked()

    def look(reader: Reader) -> None:
        for member in reader.members():
            budget.look()
            budget.entry(member.data_bytes)
            looked.take(reader, member)
            for _ in reader.chunks(member) if member.path != SHELL_STATE else ():
                budget.look()

    _read(source, wanted, look)
    return Contents(sorted(looked.folders), looked.shell)


def send(pipe: Pipe, source: Path, wanted: Snapshot, budget: Budget) -> None:
    """Give `unpack` all of a snapshot that was looked through. Raises SnapshotDamaged, Stopped, OSError and
    SandboxUnavailable."""
    folders: list[Member] = []

    def pass_on(reader: Reader) -> None:
        for member in reader.members():
            budget.look()
            if member.path != SHELL_STATE:
                _pass_on(pipe, reader, member, folders)

    _read(source, wanted, pass_on)
    for member in reversed(folders):  # the inner ones first, since to make a file changes its folder's time
        pipe.write(_record(_DRESS, member, _inside(member.path)))
    pipe.write(_RECORD.pack(_END[0], *(0,) * 10))
    if (said := pipe.answer()) != "ok":
        raise SandboxUnavailable(f"the sandbox's files can't be made: {said or 'no answer'}")


def _read(source: Path, wanted: Snapshot, use: Callable[[Reader], None]) -> None:
    try:
        with source.open("rb") as file:
            stream = Source(file)
            use(stream.reader)
            if stream.finish() != wanted.sha256:
                raise SnapshotDamaged("its contents are not what was written")
    except FileNotFoundError as error:
        raise SnapshotDamaged("its file is gone") from error
    except (BadTar, Misplaced, zstandard.ZstdError) as error:
        raise SnapshotDamaged(str(error)) from error


class _Looked:
    """What an archive has said so far: of each path, whether it is a folder. Paths are kept as digests, to be small."""

    def __init__(self) -> None:
        self.folders: set[str] = set()
        self.shell = b""
        self._is_folder: dict[bytes, bool] = {}

    def take(self, reader: Reader, member: Member) -> None:
        """Raises Misplaced for what can't be made."""
        if member.path == SHELL_STATE:
            self.shell = snapshots.shell_state(reader, member)
            return
        name, rest = snapshots.folder_of(plain(member.path))
        if name not in WRITABLE:
            self.folders.add(setup.extra_folder(name))
            if len(self.folders) > _MAX_FOLDERS:
                raise Misplaced(f"it has more than {_MAX_FOLDERS} folders beyond the usual ones")
        self._check_look(member)
        if not rest:
            if member.kind != FOLDER:
                raise Misplaced("a folder of the agent's is something else")
            return
        if len(rest) > 1 and not self._is_folder.get(_digest(name, rest[:-1])):
            raise Misplaced("an entry lies in no folder")
        if _digest(name, rest) in self._is_folder:
            raise Misplaced("an entry is there twice")
        if member.kind == HARD_LINK:
            self._check_link(name, member.link)
        self._is_folder[_digest(name, rest)] = member.kind == FOLDER

    def _check_link(self, name: str, link: bytes) -> None:
        top, rest = snapshots.folder_of(plain(link))
        if top != name or not rest or self._is_folder.get(_digest(top, rest), True):
            raise Misplaced("a link leads to nothing that was before it in its folder")

    def _check_look(self, member: Member) -> None:
        if any(len(part) > _MAX_NAME for part in member.path.split(b"/")) or b"\0" in member.path:
            raise Misplaced("an entry has a name that no file can have")
        if member.kind == SYMLINK and not 0 < len(member.link) <= _MAX_LINK:
            raise Misplaced("a link leads to what is no path")
        if any(not name.startswith(XATTRS.encode()) or len(name) > _MAX_NAME for name in member.xattrs):
            raise Misplaced("an entry has an attribute that no agent can set")
        if member.size >= 1 << 63 or not -(1 << 63) < member.mtime_ns < 1 << 63:
            raise Misplaced("a number of an entry is larger than any")
        if sum(_XATTR.size + len(key) + len(value) for key, value in member.xattrs.items()) > _MAX_XATTRS:
            raise Misplaced("an entry has too many attributes")


def _digest(name: str, rest: tuple[bytes, ...]) -> bytes:
    return hashlib.blake2b(b"/".join((name.encode(), *rest)), digest_size=16).digest()


def _inside(path: bytes) -> bytes:
    """The absolute path that an entry has in the container that is filled. Raises Misplaced."""
    name, rest = snapshots.folder_of(plain(path))
    top = WRITABLE[name] if name in WRITABLE else setup.extra_folder(name)
    return b"/".join((top.encode(), *rest))


def _pass_on(pipe: Pipe, reader: Reader, member: Member, folders: list[Member]) -> None:
    if member.kind == FOLDER:
        folders.append(member)
        if not snapshots.folder_of(plain(member.path))[1]:
            return  # it is there
    pipe.write(_record(member.kind, member, _inside(member.path)))
    for _, chunk in reader.chunks(member):
        pipe.write(chunk)


def _record(kind: bytes, member: Member, path: bytes) -> bytes:
    link = _inside(member.link) if kind == HARD_LINK else member.link if kind == SYMLINK else b""
    pairs = member.xattrs.items()
    xattrs = b"".join(_XATTR.pack(len(name), len(value)) + name + value for name, value in pairs)
    extents = b"".join(_EXTENT.pack(*extent) for extent in member.extents or ())
    seconds, nanos = divmod(member.mtime_ns, 10**9)
    head = (kind[0], member.extents is not None, 0, member.mode, member.size, seconds, nanos)
    lengths = (len(path), len(link), len(xattrs), len(extents) // _EXTENT.size)
    return _RECORD.pack(*head, *lengths) + path + link + xattrs + extents
