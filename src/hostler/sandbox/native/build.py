"""Builds the static programs that go into every sandbox, because a sandbox may share no library with its host.

Imports nothing of Hostler: the build hook loads this file before the package exists.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent
BINARIES = SOURCES.parent / "bin"
PROGRAMS = {
    "hostler-init": (
        "init.c",
        "state.c",
        "answers.c",
        "calls.c",
        "shell.c",
        "requests.c",
        "capture.c",
        "proctree.c",
        "launch.c",
        "config.c",
        "container.c",
        "relay.c",
        "channels.c",
        "files.c",
        "archive.c",
        "raw.c",
        "rawpacket.c",
        "rawtap.c",
        "rawtcp.c",
        "rawudp.c",
    ),
    "hostler-tools": ("tools.c",),
}
FLAGS = ("-static", "-O2", "-s", "-Wall")


class CannotBuild(Exception):
    """No C compiler here can make a static program."""


def system_compiler() -> list[str] | None:
    """Return the machine's compiler when it can link statically (many have no static libc)."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.c"
        probe.write_text('#include <stdio.h>\nint main(void) { return puts("") < 0; }\n')
        done = subprocess.run([compiler, *FLAGS, "-o", f"{folder}/probe", str(probe)], capture_output=True, check=False)
        return [compiler] if done.returncode == 0 else None


def zig_compiler() -> list[str] | None:
    """Return the C compiler of the PyPI package `ziglang`, when it is installed."""
    done = subprocess.run([sys.executable, "-m", "ziglang", "version"], capture_output=True, check=False)
    if done.returncode != 0:
        return None
    return [sys.executable, "-m", "ziglang", "cc", "-target", f"{platform.machine()}-linux-musl"]


def in_source_tree() -> bool:
    """Say whether this is a checkout; in an installed package the files' times mean nothing."""
    return (SOURCES.parents[3] / "hatch_build.py").is_file()


def present(name: str) -> list[Path]:
    """Return the sources of a program, or nothing when this tree does not have them all."""
    files = [SOURCES / source for source in PROGRAMS[name]]
    return files if all(file.is_file() for file in files) else []


def stale(name: str) -> bool:
    """Say whether a program has sources here that are newer than its binary."""
    binary = BINARIES / name
    sources = present(name)
    if not sources:
        return False
    headers = list(SOURCES.glob("*.h"))
    return not binary.is_file() or binary.stat().st_mtime < max(f.stat().st_mtime for f in [*sources, *headers])


def build() -> list[Path]:
    """Build what is stale into `bin/`, each file put in place at once; return the binaries that there are."""
    outdated = [name for name in PROGRAMS if stale(name)]
    if outdated:
        compiler = system_compiler() or zig_compiler()
        if compiler is None:
            raise CannotBuild(
                "The sandbox's programs need a C compiler that can link statically: install gcc with a static libc "
                "(Debian: apt install gcc libc6-dev), or the PyPI package ziglang, or a Hostler wheel that has them."
            )
        for name in outdated:
            _compile(compiler, name)
    return [BINARIES / name for name in PROGRAMS if (BINARIES / name).is_file()]


def _compile(compiler: list[str], name: str) -> None:
    BINARIES.mkdir(exist_ok=True)
    fd, made = tempfile.mkstemp(prefix=f".{name}.", dir=BINARIES)
    os.close(fd)
    try:
        argv = [*compiler, *FLAGS, "-o", made, *map(str, present(name))]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotBuild(f"{' '.join(argv)} failed:\n{done.stderr[-4000:]}")
        Path(made).chmod(0o755)
        Path(made).replace(BINARIES / name)
    finally:
        Path(made).unlink(missing_ok=True)
