"""Refuses a wrong sandbox spec before anything is made of it, whatever the backend."""

from __future__ import annotations

import re

from hostler.sandbox import files, rootfs
from hostler.sandbox.contract import SandboxSpec

KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_ETC = re.compile(r"[a-z]{1,32}")


def check(spec: SandboxSpec) -> None:
    """Raise ValueError, saying what is wrong."""
    if not KEY.fullmatch(spec.key):
        raise ValueError(f"a sandbox cannot be named {spec.key!r}")
    for target in (*(mount.target for mount in spec.mounts), *spec.folders):
        files.check_target(target)
    if any(not _ETC.fullmatch(name) or "\0" in text for name, text in spec.etc.items()):
        raise ValueError("a file of /etc is named by small letters and holds no NUL byte")
    for shared in spec.shared:
        files.check_target(shared.target)
        if rootfs.in_agents_folders(shared.target):
            raise ValueError(f"a shared folder cannot go among the agent's own: {shared.target!r}")
    for layer in spec.layers:
        if not KEY.fullmatch(layer.key):
            raise ValueError(f"a layer cannot be named {layer.key!r}")
    for name, value in spec.env.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"no environment variable can be named {name!r} or hold a NUL byte")
