"""Places input files and collects output files from the host's side, in folders where the agent may plant anything.

Every path is walked one name at a time, each opened without following a link, so nothing leads out of the folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec

from hostler.sandbox.contract import SKILLS, UPLOADS, Mount, OutputFile, SandboxUnavailable
from hostler.sandbox.rootfs import Layout

MAX_OUTPUTS = 10_000
MAX_LOOKED_AT = 100_000  # names among the outputs, of whatever kind
MAX_DEPTH = 64
_log = logging.getLogger(__name__)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FICLONE = 0x40049409
# EAGAIN: the agent holds a lease on the file.
_NOT_OURS = (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENXIO, errno.EACCES, errno.EAGAIN)


class Blocked(Exception):
    """The agent has put something else where an input, or a folder on the way to it, would be."""


def check_target(target: str) -> None:
    """Raise ValueError unless `target` is an absolute, normalised path of a file."""
    parts = target.split("/")
    if not target.startswith("/") or len(target.encode("utf-8", "surrogatepass")) > 4000 or "\0" in target:
        raise ValueError(f"a mount's target must be an absolute path, not {target!r}")
    if any(part in ("", ".", "..") or len(part.encode("utf-8", "surrogatepass")) > 255 for part in parts[1:]):
        raise ValueError(f"a mount's target must be normalised, not {target!r}")
    if parts[1] in ("proc", "dev", "sys", "usr", "bin", "sbin", "lib", "lib64", "lib32", "etc", "opt"):
        raise ValueError(f"a mount cannot go into /{parts[1]}, which belongs to the system: {target!r}")


def place_all(layout: Layout, mounts: list[Mount], uid: int | None) -> None:
    """Make the inputs these: place what can be placed; what the agent has put something in the way of stays out.

    An earlier input that is not among them, or has another source now, goes first, but not out of the agent's folders.
    Raises SandboxUnavailable.
    """
    try:
        _forget_others(layout, {mount.target: _origin(mount) for mount in mounts})
    except OSError as error:
        raise SandboxUnavailable(f"cannot take away an earlier input: {error.strerror}") from error
    for mount in mounts:
        try:
            place(layout, mount, uid)
        except Blocked as blocked:
            _log.warning("%s: %s", layout.folder.name, blocked)
        except OSError as error:
            raise SandboxUnavailable(f"cannot place the input {mount.target}: {error.strerror}") from error


def _forget_others(layout: Layout, wanted: dict[str, str]) -> None:
    """Take away what `wanted` does not name, and write down `wanted` before any of it is placed."""
    placed = _placed(layout)
    if placed == wanted:
        return
    for target in (target for target, source in placed.items() if wanted.get(target) != source):
        if layout.writable(target) is None:
            _take_away(layout.root, target)
    half = layout.inputs.with_suffix(".new")
    half.write_bytes(msgspec.json.encode(wanted))
    half.replace(layout.inputs)


def _origin(mount: Mount) -> str:
    return f"{mount.source} executable" if mount.executable else str(mount.source)


def _placed(layout: Layout) -> dict[str, str]:
    try:
        return msgspec.json.decode(layout.inputs.read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}


def _take_away(root: Path, target: str) -> None:
    """Remove an input from the skeleton, with the folders below those of inputs that this leaves empty."""
    path = root / target[1:]
    path.unlink(missing_ok=True)
    tops = [root / UPLOADS[1:], root / SKILLS[1:]]
    for folder in path.parents:
        if not any(folder != top and folder.is_relative_to(top) for top in tops):
            return
        try:
            folder.rmdir()
        except OSError:
            return


def place(layout: Layout, mount: Mount, uid: int | None) -> None:
    """Put one input where the sandbox sees it; a target that is there already is left as it is.

    Outside the agent's folders it lies in the skeleton, which is read-only inside. In them it is a plain file.
    Raises Blocked when the way there is not a way of plain folders.
    """
    check_target(mount.target)
    home = layout.writable(mount.target)
    folder, rest = home if home else (layout.root, mount.target[1:])
    parts = PurePosixPath(rest).parts
    try:
        with _open_folder(folder, parts[:-1], make=True, uid=uid if home else None) as parent:
            _put(mount, parent, parts[-1], uid if home else None, share=home is None and uid is None)
    except OSError as error:
        locked = home is not None and error.errno in (errno.EACCES, errno.EPERM)  # where agents are users like us
        if locked or error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Blocked(f"cannot place an input at {mount.target}: the way there is no plain folder") from error
        raise


def list_outputs(folder: Path) -> list[OutputFile]:
    """Regular files below `folder`, in order of path. Links, devices, pipes and what cannot be read are left out, and
    what comes after more names than anybody wants: the agent can make millions, which would all be in memory here."""
    found: list[OutputFile] = []
    with contextlib.suppress(FileNotFoundError, PermissionError), _open_folder(folder, ()) as top:
        _collect(top, "", 0, found, iter(range(MAX_LOOKED_AT)))
    return sorted(found, key=lambda file: file.path)


def open_output(folder: Path, path: str) -> BinaryIO:
    """Open one output for reading. Raises FileNotFoundError when it is not a regular file inside."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise FileNotFoundError(path)
    try:
        with _open_folder(folder, tuple(parts[:-1])) as parent:
            fd = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        if error.errno in _NOT_OURS:
            raise FileNotFoundError(path) from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(path)
    return os.fdopen(fd, "rb")


def remove_tree(folder: Path) -> None:
    """Delete a folder, also where the agent took away the right to look into its folders.

    Nothing may run in it any more. Without recursion: a tree may be deeper than Python's stack and than any path.
    """
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(folder, _FOLDER)
        try:
            levels = [_unlink_files(fd)]
            names: list[str] = []
            while levels:
                if levels[-1]:
                    names.append(levels[-1].pop())
                    fd = _move(fd, _open_to_delete(fd, names[-1]))
                    levels.append(_unlink_files(fd))
                elif levels.pop() == [] and names:
                    fd = _move(fd, os.open("..", _FOLDER, dir_fd=fd))
                    os.rmdir(names.pop(), dir_fd=fd)
        finally:
            os.close(fd)
        folder.rmdir()


def _move(old: int, new: int) -> int:
    os.close(old)
    return new


def _unlink_files(folder: int) -> list[str]:
    """Delete the plain entries of an open folder; return the names of the folders that are left in it."""
    left = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                left.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=folder)
    return left


def _open_to_delete(parent: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
        os.close(fd)
        return os.open(name, _FOLDER, dir_fd=parent)


@contextlib.contextmanager
def _open_folder(top: Path, parts: tuple[str, ...], *, make: bool = False, uid: int | None = None) -> Iterator[int]:
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            if make:
                _make_folder(fd, part, uid)
            below = os.open(part, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def _make_folder(parent: int, name: str, uid: int | None) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        return
    if uid is not None:
        os.chown(name, uid, uid, dir_fd=parent, follow_symlinks=False)


def _put(mount: Mount, parent: int, name: str, uid: int | None, *, share: bool) -> None:
    """Put a file in place at once: as another name of the source where that is safe, else as a copy."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise Blocked(f"cannot place an input at {name}: it is a folder")
        return
    if share and not mount.executable:
        with contextlib.suppress(OSError):
            os.link(mount.source, name, dst_dir_fd=parent, follow_symlinks=False)
            return
    half = f".hostler-{secrets.token_hex(8)}"
    fd = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        with open(mount.source, "rb") as file:
            _copy(file.fileno(), fd)
        os.fchmod(fd, 0o755 if mount.executable else 0o644)
        if uid is not None:
            os.fchown(fd, uid, uid)
        with contextlib.suppress(FileExistsError):
            os.link(half, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(half, dir_fd=parent)


def _copy(source: int, target: int) -> None:
    try:
        fcntl.ioctl(target, _FICLONE, source)  # shares the blocks, where the file system can
        return
    except OSError:
        pass
    while os.sendfile(target, source, None, 1 << 26):
        continue


def _collect(folder: int, prefix: str, depth: int, found: list[OutputFile], looks: Iterator[int]) -> None:
    with os.scandir(folder) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for _, entry in zip(looks, entries, strict=False)]
    for name, is_folder in names:
        if len(found) >= MAX_OUTPUTS:
            return
        if is_folder and depth < MAX_DEPTH:
            with contextlib.suppress(OSError):
                fd = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    _collect(fd, f"{prefix}{name}/", depth + 1, found, looks)
                finally:
                    os.close(fd)
            continue
        with contextlib.suppress(OSError):
            about = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(about.st_mode):
                found.append(OutputFile(path=prefix + name, size_bytes=about.st_size, mtime_ns=about.st_mtime_ns))
