"""What the init of a container is told at its start (native/config.c): the agent's user, folders, environment, filter.

It holds no secret: the same is readable to the agent's programs. It starts nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from hostler.sandbox import rootfs, seccomp, stacking
from hostler.sandbox.contract import LAYERS, RIPGREP, TOOLS, UPLOADS, Limits, SandboxSpec

PROGRAMS = "/opt/hostler/programs"  # a read-only folder with the programs below
INIT = f"{PROGRAMS}/init"
INIT_FOLDER = "/opt/hostler/run"  # of its socket
RELAY = (INIT, "relay")
CHANNELS = (INIT, "channels")
BUNDLE = "ca-certificates.crt"
PACK = (INIT, "pack", str(rootfs.UID))
UNPACK = (INIT, "unpack", str(rootfs.UID))
_AT = "/opt/hostler/at/"  # where a folder lies while its place inside is not known; no spec can name it
_STICKY = ("/tmp", "/var/tmp")


def extra_name(folder: str) -> str:
    """The name of the volume, or part of one, that holds a folder beyond the usual ones."""
    if folder.startswith(_AT):
        return f"at-{folder.removeprefix(_AT)}"
    return f"at-{hashlib.sha256(folder.encode()).hexdigest()[:16]}"


def extra_folder(name: str) -> str:
    """A folder that has that name."""
    return _AT + name.removeprefix("at-")


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What does not depend on the session: what the engine itself limits, and which programs there are."""

    machine: str
    ripgrep: bool
    bundle: bool
    watch_memory: bool  # the engine can't limit it, so the init adds up
    count_processes: bool = False  # the engine can't, and the agent's user is nobody else's
    lonely_seconds: int


def config(spec: SandboxSpec, limits: Limits, conditions: Conditions, *, proxied: bool, proxy: bool) -> bytes:
    """The lines, each ended by NUL. `proxied`: the proxy variables are set; `proxy`: something listens inside."""
    env = rootfs.environment(stacking.environment(spec) | spec.env, proxied=proxied)
    lines = [f"env:{name}={value}" for name, value in env.items()]
    lines += [f"agent={rootfs.UID}", f"filter={seccomp.program(conditions.machine).hex()}"]
    lines += [f"{'shared' if path in _STICKY else 'own'}={path}" for path in rootfs.WRITABLE.values()]
    lines += [f"own={path}" for path in rootfs.outside(spec.folders)]
    lines.append(f"folder={UPLOADS}")
    lines += [f"link={path}={target}" for path, target in _links(spec, conditions)]
    lines.append(f"lonely={conditions.lonely_seconds}")
    lines += ["proxy"] if proxy else []
    lines += [f"file={limits.file_bytes}"] if limits.file_bytes else []
    lines += [f"processes={limits.processes}"] if limits.processes and conditions.count_processes else []
    lines += [f"memory={limits.memory_bytes}"] if limits.memory_bytes and conditions.watch_memory else []
    return "".join(f"{line}\0" for line in lines).encode("utf-8", "surrogatepass")


def _links(spec: SandboxSpec, conditions: Conditions) -> Sequence[tuple[str, str]]:
    links = [("/uploads", UPLOADS), (TOOLS, f"{PROGRAMS}/tools")]
    links += [(RIPGREP, f"{PROGRAMS}/rg")] if conditions.ripgrep else []
    links += [(rootfs.CA_BUNDLE, f"{PROGRAMS}/{BUNDLE}")] if conditions.bundle else []
    modules = [layer.key for layer in spec.layers if stacking.is_folder(layer.source, "lib", "node_modules")]
    links += [(stacking.NODE_MODULES, f"{LAYERS}/{key}/lib/node_modules") for key in modules[-1:]]
    return links
