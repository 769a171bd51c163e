"""Puts a process that runs a bundle's code where the server's files, keys and processes are not.

It guards what belongs to the server, by mount, process and user namespaces; it is no sandbox for agents: the network is
the machine's, and so are CPU and memory. Whoever may deploy decides what runs. It must not start anything by itself
but one trial.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec

import hostler
from hostler.errors import HostlerError
from hostler.sandbox.contract import SandboxUnavailable
from hostler.sandbox.machine import bubblewrap

HOME = "/tmp"
_NAMESPACES = (
    "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--disable-userns",
    "--cap-drop", "ALL", "--die-with-parent",
)  # fmt: skip
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = (
    "alternatives", "ca-certificates", "crypto-policies", "gai.conf", "group", "host.conf", "hosts", "ld.so.cache",
    "ld.so.conf", "ld.so.conf.d", "localtime", "nsswitch.conf", "passwd", "pki", "protocols", "resolv.conf", "services",
    "ssl", "timezone",
)  # fmt: skip
_WITHOUT = 'or set `isolation = "none"` in [runbooks]: bundles then see all that the server sees'


class NotConfined(HostlerError):
    """A bundle's code can't be kept apart from the server here."""


class Confinement(msgspec.Struct, frozen=True):
    """`folders` are those of the machine that bundles may read and write."""

    bwrap: Path
    folders: tuple[str, ...] = ()

    def around(self, command: Sequence[str], bundle: Path) -> list[str]:
        """The command line that runs `command` with this bundle in sight."""
        options = [*_NAMESPACES, "--ro-bind", "/usr", "/usr", *_system(), "--proc", "/proc", "--dev", "/dev"]
        options += ["--tmpfs", "/tmp", "--tmpfs", "/var/tmp"]
        for name in _ETC:
            options += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        for path in (*_programs(), str(bundle)):
            options += ["--ro-bind", path, path]
        for path in self.folders:
            options += ["--bind", path, path]
        return [str(self.bwrap), *options, "--chdir", HOME, "--setenv", "HOME", HOME, "--", *command]


class Confining:
    """Confines when it is first asked to: a server without runbooks needs none of it."""

    def __init__(self, isolation: str, folders: Sequence[str]) -> None:
        self._isolation = isolation
        self._folders = folders
        self._made: Confinement | None = None

    async def __call__(self, command: list[str], bundle: Path) -> list[str]:
        """Raises NotConfined."""
        if self._isolation == "none":
            return command
        if self._made is None:
            self._made = await asyncio.to_thread(confinement, self._folders)
        return self._made.around(command, bundle)


def confinement(folders: Sequence[str]) -> Confinement:
    """Raises NotConfined with what to do."""
    try:
        made = Confinement(bubblewrap(), tuple(folders))
    except SandboxUnavailable as problem:
        raise NotConfined(f"Runbooks can't be kept apart from the server: {problem}; {_WITHOUT}.") from problem
    missing = [folder for folder in folders if not os.path.isdir(folder)]
    if missing:
        raise NotConfined(f"[runbooks] folders: there is no folder {missing[0]}.")
    if (why := _trial(made.bwrap)) is not None:
        raise NotConfined(f"Runbooks can't be kept apart from the server: {why} (`hostler doctor`); {_WITHOUT}.")
    return made


@cache
def _trial(bwrap: Path) -> str | None:
    command = Confinement(bwrap).around(["/bin/sh", "-c", ":"], Path("/usr"))
    try:
        done = subprocess.run(command, env={}, stdin=subprocess.DEVNULL, capture_output=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    return None if done.returncode == 0 else done.stderr[-500:].decode(errors="replace").strip() or "it ended at once"


@cache
def _system() -> tuple[str, ...]:
    """The folders beside /usr, which on most systems are links into it."""
    options: list[str] = []
    for name in _SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            options += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            options += ["--ro-bind", str(path), str(path)]
    return tuple(options)


@cache
def _programs() -> tuple[str, ...]:
    """Where this Python, its packages and this package are, as far as that is not below /usr."""
    source = Path(hostler.__file__).parents[1]
    wanted = [Path(sys.prefix), Path(sys.base_prefix), source]
    found: list[Path] = []
    for path in sorted({each.absolute() for each in wanted}, key=lambda each: len(each.parts)):
        if not path.is_relative_to("/usr") and not any(path.is_relative_to(each) for each in found):
            found.append(path)
    return tuple(str(path) for path in found)
