"""What a build says while it runs: written inside to a file, which every process of the host may read meanwhile.

Packages' own scripts can write to it, and can put anything in its place: it is opened without following a link, and
what is read is bounded text. It must not hold anything that a build needs.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from hostler.sandbox.contract import WORKSPACE, Exec
from hostler.sandbox.layers.packages import Progress

NAME = "build.log"
TAIL_CHARACTERS = 2000
_PATH = f"{WORKSPACE}/{NAME}"
_CHUNK = 64 * 1024
_LONGEST_LINE = 500
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\t -~\u00a0-\uffff]")


def logged(step: Exec) -> Exec:
    """The same command, which writes down what it says."""
    return msgspec.structs.replace(step, argv=["sh", "-c", f'exec "$@" >>{_PATH} 2>&1', "sh", *step.argv])


def writing(file: tuple[str, bytes]) -> Exec:
    """The command that puts a file into a build sandbox, for its owner alone."""
    path, content = file
    script = 'umask 077; mkdir -p "$(dirname "$1")" && exec cat > "$1"'
    return Exec(argv=["sh", "-c", script, "sh", path], stdin=content)


def read(path: Path, position: int, redact: Callable[[str], str]) -> Progress | None:
    """The whole lines from `position` on, at most a bounded part; None when there is no such file."""
    content = _content(path, position)
    if content is None:
        return None
    whole = content.rpartition(b"\n")[0]
    end = position + len(whole) + 1 if whole or content[:1] == b"\n" else position
    if not whole and len(content) == _CHUNK:
        whole, end = content, position + len(content)  # a line without an end
    lines = redact(whole.decode(errors="replace")).replace("\r", "\n").split("\n")
    clean = (_CONTROLS.sub("", line).rstrip()[:_LONGEST_LINE] for line in lines)
    return Progress([line for line in clean if line], end)


def tail(path: Path) -> str:
    """The end of what was said."""
    size = _size(path)
    content = _content(path, max(0, size - 16_000)) if size is not None else None
    return _CONTROLS.sub("", (content or b"").decode(errors="replace").replace("\n", "\t\t")).replace("\t\t", "\n")


def _open(path: Path) -> int | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def _size(path: Path) -> int | None:
    fd = _open(path)
    if fd is None:
        return None
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def _content(path: Path, position: int) -> bytes | None:
    fd = _open(path)
    if fd is None:
        return None
    try:
        return os.pread(fd, _CHUNK, position)
    finally:
        os.close(fd)
