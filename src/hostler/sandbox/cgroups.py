"""Limits memory, CPU and processes of a sandbox with control groups, version 2 or 1, where this user may make them.

Reads /proc and /sys/fs/cgroup only. It never changes a group that it did not make, and moves no process but its own.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from hostler.sandbox.contract import Limits

_PERIOD = 100_000  # microseconds, of the CPU limit
_CONTROLLERS = ("memory", "pids", "cpu")


class Groups(msgspec.Struct, frozen=True):
    """Where groups can be made: for each controller the folder that holds ours."""

    version: int
    folders: dict[str, Path]

    def create(self, name: str, limits: Limits) -> list[Path]:
        """Make the groups of one sandbox with its limits; return the files that a process joins them by."""
        joins = []
        for folder in dict.fromkeys(self.folders.values()):
            group = folder / name
            group.mkdir(parents=True, exist_ok=True)
            joins.append(group / "cgroup.procs")
        for controller, file, value in self._settings(limits):
            if controller in self.folders:
                with contextlib.suppress(FileNotFoundError):  # swap accounting may be off
                    (self.folders[controller] / name / file).write_text(value)
        return joins

    def remove(self, name: str) -> bool:
        """Delete the groups of an ended sandbox; say whether they are gone (the last process may take a moment)."""
        for folder in dict.fromkeys(self.folders.values()):
            try:
                (folder / name).rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True

    def _settings(self, limits: Limits) -> list[tuple[str, str, str]]:
        memory, cpus, processes = limits.memory_bytes, limits.cpus, limits.processes
        settings = []
        if memory is not None and self.version == 2:
            settings += [("memory", "memory.max", str(memory)), ("memory", "memory.swap.max", "0")]
        elif memory is not None:
            settings += [("memory", "memory.limit_in_bytes", str(memory))]
            settings += [("memory", "memory.memsw.limit_in_bytes", str(memory))]
        if processes is not None:
            settings.append(("pids", "pids.max", str(processes + 4)))  # bwrap, the init, and the raw network's two
        if cpus is not None and self.version == 2:
            settings.append(("cpu", "cpu.max", f"{int(cpus * _PERIOD)} {_PERIOD}"))
        elif cpus is not None:
            settings += [
                ("cpu", "cpu.cfs_period_us", str(_PERIOD)),
                ("cpu", "cpu.cfs_quota_us", str(int(cpus * _PERIOD))),
            ]
        return settings


def find(root: Path = Path("/sys/fs/cgroup")) -> Groups | None:
    """Return the controllers that this process may use, by trying to make a group in each; None when there are none."""
    own = _own_groups()
    if (root / "cgroup.controllers").is_file():
        return _find_v2(root, own.get("", "/"))
    folders = {}
    for name in _CONTROLLERS:
        mount = next((m for m in (root / name, root / "cpu,cpuacct") if m.is_dir() and name in m.name.split(",")), None)
        if mount is not None and name in own:
            folder = mount / own[name].lstrip("/") / "hostler"
            if _usable(folder, name):
                folders[name] = folder
    return Groups(1, folders) if folders else None


def _own_groups() -> dict[str, str]:
    groups: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        groups |= dict.fromkeys(names.split(","), path)
    return groups


def _find_v2(root: Path, path: str) -> Groups | None:
    """Version 2 allows no process beside groups with limits, so the server moves into a leaf of its own first."""
    own = root / path.lstrip("/")
    parent = own.parent if own.name == "hostler-server" else own
    try:
        leaf = parent / "hostler-server"
        leaf.mkdir(exist_ok=True)
        for pid in (parent / "cgroup.procs").read_text().split():
            if int(pid) != os.getpid():
                leaf.rmdir()
                return None  # others live here: not ours to rearrange
            (leaf / "cgroup.procs").write_text(pid)
        offered = (parent / "cgroup.controllers").read_text().split()
        names = [name for name in _CONTROLLERS if name in offered]
        (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))
        folder = parent / "hostler"
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))
    except OSError:
        return None
    return Groups(2, dict.fromkeys(names, folder)) if names else None


def _usable(folder: Path, controller: str) -> bool:
    probe = {"memory": "memory.limit_in_bytes", "pids": "pids.max", "cpu": "cpu.cfs_quota_us"}[controller]
    trial = folder / f"trial-{os.getpid()}"
    try:
        trial.mkdir(parents=True)
        return os.access(trial / probe, os.W_OK)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            trial.rmdir()
