"""Finds the programs that package managers need: those of the system, which every sandbox has, also in an apt layer.

It only looks at names and times of files: it must not run anything but the machine's own Python.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hostler.sandbox import interpreter
from hostler.sandbox.contract import Layer
from hostler.sandbox.interpreter import Interpreter
from hostler.sandbox.rootfs import SYSTEM_PATH

# Where well-known installers put a toolchain below /usr, beside the usual places.
_MORE = ("/usr/local/go/bin", "/usr/local/cargo/bin", "/usr/local/node/bin", "/usr/lib/go/bin")
PLACES = (*SYSTEM_PATH.split(":"), *_MORE)
_SYSTEM = "system"


def find(program: str, base: Layer | None = None) -> str | None:
    """Where a program is inside a sandbox that has this apt layer; None when it is not there."""
    for folder in PLACES:
        if base is not None and os.path.lexists(f"{base.source}/{_SYSTEM}{folder}/{program}"):
            return f"{folder}/{program}"
        path = Path(folder, program)
        if path.is_file() and os.access(path, os.X_OK) and str(path.resolve()).startswith(("/usr/", "/bin/")):
            return str(path)
    return None


def fingerprint(program: str) -> str:
    """Changes with the program: which file it is, and of when. Empty for one that is not the machine's."""
    path = Path(program).resolve()
    try:
        about = path.stat()
    except OSError:
        return ""
    return f"{path} {about.st_size} {about.st_mtime_ns}" if stat.S_ISREG(about.st_mode) else ""


def path_with(program: str) -> str:
    """PATH with the folder of a program, which may lie outside of the usual ones, in front."""
    folder = str(Path(program).parent)
    return SYSTEM_PATH if folder in SYSTEM_PATH.split(":") else f"{folder}:{SYSTEM_PATH}"


class MachinePrograms:
    """See `packages.Programs`: those of this machine, and of an apt layer over it."""

    of_machine = True
    identity = ""

    def __init__(self, base: Layer | None) -> None:
        self._base = base

    def find(self, name: str) -> str | None:
        return find(name, self._base)

    def fingerprint(self, program: str) -> str:
        return fingerprint(program)

    def python(self) -> Interpreter | None:
        return interpreter.find()

    def is_folder(self, path: str) -> bool:
        return Path(path).is_dir()

    def lacking(self, name: str, remedy: str) -> str:
        return f"there is no {name} for the sandbox: {remedy}"
