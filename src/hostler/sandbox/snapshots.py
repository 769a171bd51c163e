"""Snapshots of sandboxes: one zstd-compressed tar of what an agent has written, and the state of its shell.

Its entries are named by where they are inside (`workspace/a`, `home/agent/.bashrc`, `mnt/session/outputs/x`, ...), so
that any backend can make one and take one in; folders beyond the usual ones lie under `at/`, and the shell's state is
the first entry, `.hostler/shell.state`. It must not know whose snapshot it is, or when one is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO, cast

import zstandard

from hostler.sandbox.contract import Snapshot, SnapshotDamaged
from hostler.sandbox.files import remove_tree
from hostler.sandbox.packing import Budget, pack
from hostler.sandbox.rootfs import WRITABLE, Layout
from hostler.sandbox.tarstream import FILE, BadTar, Member, Reader, Writer
from hostler.sandbox.unpacking import Misplaced, Unpacker, plain

LEVEL = 3
SHELL_STATE = b".hostler/shell.state"
MAX_SHELL_STATE = 64 * 1024 * 1024
MAX_WINDOW = 8 * 1024 * 1024  # what a reader sets aside for one archive
_EMPTY_FRAME = b"\x50\x2a\x4d\x18\0\0\0\0"  # zstd skips it where a frame may stand, and nowhere else
HALF = ".restore."  # what the name of a directory begins with that is being restored
_EXTRA = re.compile(rb"[0-9a-f]{16}")
_TOPS = {tuple(inside.encode().split(b"/"))[1:]: name for name, inside in WRITABLE.items()}
_PREFIXES = {name: b"/".join(parts) for parts, name in _TOPS.items()}


class Sink:
    """A file that gets its name once it is whole and on the disk; until then it has one that ends in `.part`."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
        self._file: BinaryIO = self._part.open("xb")
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self._size += len(data)
        return self._file.write(data)

    def keep(self) -> Snapshot:
        """Give the file its name. Raises OSError."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._target)
        folder = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return Snapshot(bytes=self._size, sha256=self._digest.hexdigest())

    def drop(self) -> None:
        """Leave nothing of it, unless it was kept."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def write(target: Path, fill: Callable[[Writer], None]) -> Snapshot:
    """Write a compressed tar; nothing of it stays when `fill` or the disk fails. Raises OSError, and what `fill`
    does."""
    sink = Sink(target)
    try:
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        with compressor.stream_writer(cast(IO[bytes], sink), closefd=False) as stream:
            writer = Writer(stream.write)
            fill(writer)
            writer.end()
        return sink.keep()
    finally:
        sink.drop()


def drop(target: Path) -> None:
    """Remove a file that nobody is to find."""
    target.unlink(missing_ok=True)


class Source:
    """A compressed tar that is read, and its digest with it. What is read is right only once `finish` has said so."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._ending = False
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        self._stream = decompressor.stream_reader(cast(IO[bytes], self), closefd=False)
        self.reader = Reader(self._stream.read)

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count)
        self._digest.update(data)
        if not data and self._ending:
            self._ending = False
            return _EMPTY_FRAME
        return data

    def finish(self) -> str:
        """Read what is left; return the digest of the whole file. Raises BadTar when anything follows the archive, and
        ZstdError when the end of it is missing: what then stands in its place does not fit."""
        self._ending = True
        if self._stream.read(1):
            raise BadTar("something stands behind the end")
        while self.read(1 << 20):
            continue
        return self._digest.hexdigest()


def prefix(name: str) -> bytes:
    """Where in an archive what a folder of the agent's holds is; the folder is named as in a `Layout`."""
    return _PREFIXES.get(name) or b"at/" + os.fsencode(name).removeprefix(b"at-")


def folder_of(parts: tuple[bytes, ...]) -> tuple[str, tuple[bytes, ...]]:
    """The name of the agent's folder that holds an entry, and the rest of its path. Raises Misplaced."""
    if parts[0] == b"at" and len(parts) > 1 and _EXTRA.fullmatch(parts[1]):
        return f"at-{parts[1].decode()}", parts[2:]
    for length in (1, 2, 3):
        if (name := _TOPS.get(parts[:length])) is not None:
            return name, parts[length:]
    raise Misplaced("an entry lies in none of the agent's folders")


def snapshot(layout: Layout, target: Path, budget: Budget) -> Snapshot:
    """Write down all that the agent has. Raises TooMuch, Stopped and OSError; then there is no new file."""

    def fill(writer: Writer) -> None:
        with contextlib.suppress(FileNotFoundError):
            state = layout.shell_state.read_bytes()
            if len(state) <= MAX_SHELL_STATE:
                writer.add(Member(path=SHELL_STATE, mode=0o600, size=len(state)), [state] if state else [])
        for name in sorted(os.listdir(layout.files)):
            pack(layout.files / name, prefix(name), writer, budget)

    return write(target, fill)


def restore(layout: Layout, source: Path, wanted: Snapshot, uid: int | None, budget: Budget) -> None:
    """Make a sandbox's directory from a snapshot, in place of what there is: all of it, or nothing is changed.

    Nothing may run in it. Raises SnapshotDamaged, TooMuch, Stopped and OSError.
    """
    made = Layout(layout.folder.with_name(HALF + layout.folder.name))
    remove_tree(made.folder)
    try:
        try:
            with source.open("rb") as file:
                _unpack(made, Source(file), wanted.sha256, uid, budget)
        except FileNotFoundError as error:
            raise SnapshotDamaged("its file is gone") from error
        except (BadTar, Misplaced, zstandard.ZstdError) as error:
            raise SnapshotDamaged(str(error)) from error
        remove_tree(layout.folder)
        made.folder.rename(layout.folder)
    finally:
        remove_tree(made.folder)


def check(source: Path, budget: Budget) -> None:
    """Look through a snapshot without making anything of it. Raises SnapshotDamaged, TooMuch and OSError; what can
    only be seen while files are made is found by `restore`."""
    try:
        with source.open("rb") as file:
            stream = Source(file)
            for member in stream.reader.members():
                budget.entry(member.data_bytes)
                if member.path != SHELL_STATE:
                    _placed(member.path)
            stream.finish()
    except (BadTar, Misplaced, zstandard.ZstdError) as error:
        raise SnapshotDamaged(str(error)) from error


def _placed(path: bytes) -> None:
    parts = plain(path)
    if not (parts[0] == b"at" and len(parts) > 1) and not any(parts[:length] in _TOPS for length in (1, 2, 3)):
        raise Misplaced("an entry lies in none of the agent's folders")


def _unpack(made: Layout, source: Source, sha256: str, uid: int | None, budget: Budget) -> None:
    made.files.mkdir(parents=True)
    made.folder.chmod(0o700)
    for name in WRITABLE:
        (made.files / name).mkdir(mode=0o700)
    unpacker = Unpacker(lambda parts: _located(made, parts), uid, budget)
    try:
        for member in source.reader.members():
            if member.path == SHELL_STATE:
                made.shell_state.write_bytes(shell_state(source.reader, member))
            else:
                unpacker.unpack(source.reader, member)
        unpacker.finish()
    finally:
        unpacker.close()
    if source.finish() != sha256:
        raise SnapshotDamaged("its contents are not what was written")


def _located(made: Layout, parts: tuple[bytes, ...]) -> tuple[Path, tuple[bytes, ...]]:
    """The folder of the agent's that holds an entry, and the rest of its path."""
    name, rest = folder_of(parts)
    if name not in WRITABLE:
        (made.files / name).mkdir(mode=0o700, exist_ok=True)
    return made.files / name, rest


def shell_state(reader: Reader, member: Member) -> bytes:
    """What the shell was. Raises Misplaced and BadTar."""
    if member.kind != FILE or member.extents is not None or member.size > MAX_SHELL_STATE:
        raise Misplaced("the shell's state is no plain file, or too large")
    return b"".join(chunk for _, chunk in reader.chunks(member))
