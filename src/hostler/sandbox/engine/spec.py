"""Says what a session's container is made of, in the words of the Docker Engine API.

The container's root is ours alone and keeps the five rights that the init needs to become the agent, who has none; no
file of its root folder belongs to the agent. It starts nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hostler.sandbox import rootfs
from hostler.sandbox.container import setup
from hostler.sandbox.container.setup import INIT, INIT_FOLDER, PROGRAMS
from hostler.sandbox.contract import LAYERS, Limits, SandboxSpec

FOLDER_LABEL = "io.hostler.folder"
SESSION_LABEL = "io.hostler.session"
# The places of the agent's files. What is not the agent's in them (as /mnt/session/uploads) is root's.
VOLUMES = {"workspace": "/workspace", "home": "/home", "mnt": "/mnt", "tmp": "/tmp", "vartmp": "/var/tmp"}
_RIGHTS = ("CHOWN", "KILL", "SETGID", "SETPCAP", "SETUID")
_OURS = 3  # processes in a container that are not the agent's: the init and two relays
# Said, because podman would else ask for more than an engine that is confined itself may give. Processes are limited by
# the control group: this number is for a user of the whole machine.
_ULIMITS = {"nofile": 16384, "nproc": 32768}
# What an image has there is hidden. The last one holds the init's socket: nobody but root may enter it.
_TMPFS = {
    "/run": "rw,nosuid,nodev,noexec,mode=0755,size=64k",
    "/root": "rw,nosuid,nodev,noexec,mode=0755,size=64k",
    "/srv": "rw,nosuid,nodev,noexec,mode=0755,size=64k",
    INIT_FOLDER: "rw,nosuid,nodev,noexec,mode=0700,size=64k",
}
_SHM_BYTES = 256 * 1024 * 1024


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What all containers of a backend have in common."""

    install: str  # names the data folder
    image: str
    runtime: str
    programs: str  # the volume with our programs
    memory: bool  # which limits this engine can hold
    swap: bool
    processes: bool
    cpus: bool
    health: bool = False  # the image wants to be asked for its health, by a program that would run as root

    def name(self, key: str) -> str:
        return f"hostler-{self.install}-{key}"

    def labels(self, key: str) -> dict[str, str]:
        return {FOLDER_LABEL: self.install, SESSION_LABEL: key}

    def volumes(self, spec: SandboxSpec) -> dict[str, str]:
        """The session's volumes and where they are inside."""
        extra = {setup.extra_name(path): path for path in rootfs.outside(spec.folders)}
        return {f"{self.name(spec.key)}.{name}": path for name, path in (VOLUMES | extra).items()}


def container(made: Made, spec: SandboxSpec, limits: Limits) -> dict[str, Any]:
    """The body of a request that makes the session's container."""
    return {
        "Image": made.image,
        "Hostname": "sandbox",
        "User": "0:0",
        "Entrypoint": [INIT, "container"],
        "Cmd": [],
        "Env": [],
        "WorkingDir": "/",
        **({"Healthcheck": {"Test": ["NONE"]}} if made.health else {}),
        "StopTimeout": 1,
        "Labels": made.labels(spec.key),
        "HostConfig": _host(made, spec, limits),
    }


def _host(made: Made, spec: SandboxSpec, limits: Limits) -> dict[str, Any]:
    host: dict[str, Any] = {
        "NetworkMode": "none",
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "CapDrop": ["ALL"],
        "CapAdd": [*_RIGHTS],
        "SecurityOpt": ["no-new-privileges"],
        "Init": False,
        "Privileged": False,
        "PublishAllPorts": False,
        "RestartPolicy": {"Name": "no"},
        "ShmSize": _SHM_BYTES,
        "Tmpfs": _TMPFS,
        "Mounts": _mounts(made, spec),
        "Ulimits": [{"Name": name, "Soft": most, "Hard": most} for name, most in _ULIMITS.items()],
    }
    if made.runtime:
        host["Runtime"] = made.runtime
    if made.memory and limits.memory_bytes:
        host["Memory"] = limits.memory_bytes
        host |= {"MemorySwap": limits.memory_bytes} if made.swap else {}
    if made.processes and limits.processes:
        host["PidsLimit"] = limits.processes + _OURS
    if made.cpus and limits.cpus:
        host["NanoCpus"] = int(limits.cpus * 1e9)
    return host


def _mounts(made: Made, spec: SandboxSpec) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"Type": "volume", "Source": made.programs, "Target": PROGRAMS, "ReadOnly": True, **_NO_COPY}
    ]
    mounts += [
        {"Type": "volume", "Source": name, "Target": path, **_NO_COPY} for name, path in made.volumes(spec).items()
    ]
    shared = [(folder.source, folder.target) for folder in spec.shared]
    shared += [(layer.source, f"{LAYERS}/{layer.key}") for layer in spec.layers]
    return mounts + [
        {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": True} for source, target in shared
    ]


_NO_COPY = {"VolumeOptions": {"NoCopy": True}}


def helper(made: Made) -> dict[str, Any]:
    """A container that is never started: through it our programs get into their volume."""
    mount = {"Type": "volume", "Source": made.programs, "Target": PROGRAMS, **_NO_COPY}
    return {
        "Image": made.image,
        "Entrypoint": [INIT],
        "Labels": {FOLDER_LABEL: made.install},
        "HostConfig": {"NetworkMode": "none", "CapDrop": ["ALL"], "Mounts": [mount]},
    }
