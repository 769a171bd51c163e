"""A small image for containers, made of this machine's own programs: no registry is asked for anything."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = [
    "awk", "basename", "bash", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "dirname", "du", "echo",
    "env", "expr", "fallocate", "false", "find", "grep", "head", "id", "ipcmk", "ipcs", "kill", "ln", "ls",
    "mkdir", "mkfifo", "mktemp", "mv", "nice", "nohup", "paste", "pgrep", "printf", "ps", "pwd", "readlink",
    "realpath", "rm", "rmdir", "sed", "seq", "setsid", "sh", "sleep", "sort", "split", "stat", "sum", "tail",
    "tee", "test", "timeout", "touch", "tr", "true", "truncate", "uname", "uniq", "wc", "which", "xargs", "yes",
]  # fmt: skip
_SKIPPED = re.compile(r"/(test|tests|__pycache__|idlelib|turtledemo|tkinter|ensurepip|config-[^/]*|dist-packages)(/|$)")
_FOLDERS = (
    "dev",
    "etc",
    "home",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "var/tmp",
)
_LINKS = {"bin": "usr/bin", "sbin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "usr/sbin": "bin"}

_TEXTS = {"etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n", "etc/group": b"root:x:0:\n"}


def build(path: Path) -> None:
    """Write the image's root file system as a tar."""
    with tarfile.open(path, "w") as tar:
        for name in _FOLDERS:
            tar.addfile(_entry(name, tarfile.DIRTYPE, 0o1777 if name.endswith("tmp") else 0o755))
        for name, target in _LINKS.items():
            entry = _entry(name, tarfile.SYMTYPE, 0o777)
            entry.linkname = target
            tar.addfile(entry)
        tar.addfile(_entry("usr/lib64", tarfile.DIRTYPE, 0o755))
        for name, text in _TEXTS.items():
            entry = _entry(name, tarfile.REGTYPE, 0o644)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
        for target, source in _files().items():
            data = source.read_bytes()
            entry = _entry(target, tarfile.REGTYPE, 0o755 if os.access(source, os.X_OK) else 0o644)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry


def _files() -> dict[str, Path]:
    """Where each file goes -> where it is here."""
    found: dict[str, Path] = {}
    for name in PROGRAMS:
        if (where := shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")) is not None:
            found[f"usr/bin/{name}"] = Path(where).resolve()
    found |= _python()
    needed = [*found.values()]
    for source in needed:
        if source.suffix in ("", ".so") or ".so." in source.name or os.access(source, os.X_OK):
            found |= {_merged(library): Path(library) for library in _libraries(source)}
    return found


def _python() -> dict[str, Path]:
    """The distribution's Python, else the one that runs the tests."""
    system = Path("/usr/bin/python3")
    prefix = Path("/usr") if system.exists() else Path(sys.base_prefix)
    program = (prefix / "bin" / "python3").resolve()
    version = re.search(r"3\.\d+", program.name)
    library = prefix / "lib" / f"python{version[0] if version else '3'}"
    found = {f"usr/bin/{name}": program for name in ("python3", program.name)}
    for source in _tree(library):
        found[f"usr/lib/{library.name}/{source.relative_to(library)}"] = source.resolve()
    pip = Path(str(importlib.util.find_spec("pip").origin)).parent  # type: ignore[union-attr]
    for source in _tree(pip):
        found[f"usr/lib/{library.name}/pip/{source.relative_to(pip)}"] = source.resolve()
    return found


def _tree(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        inside = f"/{path.relative_to(folder)}"
        if path.is_file() and not _SKIPPED.search(inside) and "site-packages" not in inside:
            yield path


def _libraries(program: Path) -> list[str]:
    with program.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return []
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    return re.findall(r"(/\S+) \(0x", done.stdout)


def _merged(library: str) -> str:
    """A library's place where /lib is a link to /usr/lib."""
    path = library.lstrip("/")
    return path if path.startswith("usr/") else f"usr/{path}"
