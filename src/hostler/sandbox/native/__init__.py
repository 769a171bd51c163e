"""Finds the static programs that go into every sandbox; in a source tree without them, builds them once.

The C sources beside this file are not Python's business beyond that.
"""

from __future__ import annotations

from pathlib import Path

from hostler.sandbox.contract import SandboxUnavailable
from hostler.sandbox.native import build


def program(name: str) -> Path:
    """Return the path of `hostler-init` or `hostler-tools`. Raises `SandboxUnavailable`, saying what to install."""
    path = build.BINARIES / name
    if build.in_source_tree() and build.stale(name):
        try:
            build.build()
        except (build.CannotBuild, OSError) as error:
            if not path.is_file():
                raise SandboxUnavailable(f"{name} is not built and cannot be built here: {error}") from error
    if not path.is_file():
        raise SandboxUnavailable(f"{name} is missing from this installation ({path}); install Hostler again")
    return path
