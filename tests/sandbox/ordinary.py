"""Runs a program of this Python as a user without privileges, also where only root may reach Python or the code."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

USER = 60123
ROOT = Path(__file__).parents[2]


def run(program: str, *arguments: str, staging: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run `python -c program` to its end; as root, as an ordinary user. `staging` is a folder that goes afterwards."""
    command = [sys.executable, "-c", program, *arguments]
    if os.geteuid() != 0:
        return subprocess.run(command, capture_output=True, text=True, check=False, **more)
    steps = [*reachable(staging), f'exec setpriv --reuid {USER} --regid {USER} --clear-groups -- "$@"']
    command = ["unshare", "--mount", "sh", "-ec", "\n".join(steps), "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def reachable(staging: Path) -> list[str]:
    """Shell lines that lay what is needed out again, in a mount namespace of its own, where folders keep others out."""
    needed = [Path(path) for path in dict.fromkeys([sys.base_prefix, sys.prefix, str(ROOT)])]
    closed = list(dict.fromkeys(folder for path in needed if (folder := _closed(path)) is not None))
    hidden = [path for path in needed if any(folder in path.parents for folder in closed)]
    aside = {path: staging / f"aside{number}" for number, path in enumerate(hidden)}
    quoted = {path: (shlex.quote(str(path)), shlex.quote(str(aside[path]))) for path in hidden}
    lines = [f"mkdir {kept} && mount --bind {path} {kept}" for path, kept in quoted.values()]
    lines += [f"mount -t tmpfs -o mode=755 none {shlex.quote(str(folder))}" for folder in closed]
    return lines + [f"mkdir -p {path} && mount --bind {kept} {path}" for path, kept in quoted.values()]


def _closed(path: Path) -> Path | None:
    """The topmost folder above a path that others may not enter."""
    above = reversed(path.parents)
    return next((folder for folder in above if not folder.stat().st_mode & stat.S_IXOTH), None)
