"""The files of a layer as the host sees them: what a build has left is looked at, made readable, and described.

A build may have planted anything, so no link is followed. Everything in the sandbox of the build must be dead before.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

MANIFEST = "layer.json"
_DEEPEST = 60
MOST_FILES = 200_000
_MOST_NAMES = 5000  # of what is installed
_LONGEST_FILE = 64 * 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Unfit(Exception):
    """What was built is not what sandboxes can share."""


class Size(msgspec.Struct, frozen=True):
    bytes: int
    files: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a layer holds. The time of its file is when the layer was last asked for."""

    manager: str
    lines: list[str]
    packages: list[str]  # as installed, "name-1.0"
    size: Size
    built_at: float = 0.0  # seconds since 1970


def read(folder: Path) -> Manifest | None:
    """What is written down of a layer, None when there is none."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError):
        return None


def last_used(folder: Path) -> float | None:
    try:
        return (folder / MANIFEST).stat().st_mtime
    except OSError:
        return None


def inspect(folder: Path, tops: frozenset[str], max_bytes: int) -> Size:
    """Check a finished build and make it readable by every sandbox's user. Raises Unfit, OSError."""
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise Unfit("the build has left something else than a folder of packages")
    for name in os.listdir(folder):
        if name not in tops or not stat.S_ISDIR((folder / name).lstat().st_mode):
            raise Unfit(f"the build has left {name!r}, which is none of the folders of packages")
    total = count = 0
    for about, depth in _walk(folder, 0):
        count += 1
        total += about.st_size if stat.S_ISREG(about.st_mode) else 0
        if total > max_bytes or count > MOST_FILES or depth > _DEEPEST:
            raise too_large(max_bytes)
    return Size(total, count)


def too_large(max_bytes: int) -> Unfit:
    return Unfit(f"they are larger than {max_bytes // 1024**2} MiB (`layer_mb`), or too many or too deep")


def _walk(path: Path, depth: int) -> Iterator[tuple[os.stat_result, int]]:
    """Everything from a folder on, itself first, each made readable and the server's own."""
    about = path.lstat()
    mode = about.st_mode
    if os.geteuid() == 0:
        os.chown(path, 0, 0, follow_symlinks=False)
    if stat.S_ISDIR(mode):
        os.chmod(path, 0o755)
    elif stat.S_ISREG(mode):
        os.chmod(path, 0o755 if mode & 0o111 else 0o644)
    elif not stat.S_ISLNK(mode) and not _is_whiteout(about):
        raise Unfit(f"{path.name!r} is neither a file nor a folder")
    yield about, depth
    if stat.S_ISDIR(mode) and depth <= _DEEPEST:
        for name in os.listdir(path):
            yield from _walk(path / name, depth + 1)


def _is_whiteout(about: os.stat_result) -> bool:
    """The device 0:0, which is none: so an overlay says that a file below is gone."""
    return stat.S_ISCHR(about.st_mode) and about.st_rdev == 0


def read_inside(folder: Path, path: str) -> bytes:
    """A regular file of a layer, reached without a link; nothing where there is none."""
    *above, name = path.split("/")
    try:
        fd = os.open(folder, _FOLDER)
        for part in above:
            fd = _inner(fd, part, _FOLDER)
        fd = _inner(fd, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with open(fd, "rb") as file:
        return file.read(_LONGEST_FILE) if stat.S_ISREG(os.fstat(fd).st_mode) else b""


def names_inside(folder: Path, path: str) -> list[str]:
    """What is in a folder of a layer, reached without a link; nothing where there is none."""
    fd = -1
    try:
        fd = os.open(folder, _FOLDER)
        for part in path.split("/"):
            fd = _inner(fd, part, _FOLDER)
        return os.listdir(fd)
    except OSError:
        return []
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


def _inner(fd: int, name: str, flags: int) -> int:
    try:
        return os.open(name, flags, dir_fd=fd)
    finally:
        os.close(fd)


def write(folder: Path, manager: str, lines: tuple[str, ...], installed: list[str], size: Size) -> None:
    """Describe a layer. On the return, all of it is on the disk."""
    manifest = Manifest(
        manager=manager, lines=sorted(lines), packages=sorted(installed)[:_MOST_NAMES], size=size, built_at=time.time()
    )
    fd = os.open(folder / MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, msgspec.json.encode(manifest))
    finally:
        os.close(fd)
    os.sync()  # thousands of files: one call for all is far cheaper than one for each
