"""A simulated node: runs a pod's container as real processes, with namespaces, users and rights as a kubelet would ask.

It knows the fields of a pod that Hostler sets, and refuses others, so that none is set in vain.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_SHIM = Path(__file__).with_name("shim.py")
_FIRST_USER, _USERS = 300_000, 65_536
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_ETC = {"passwd": "root:x:0:0:root:/root:/bin/sh\n", "group": "root:x:0:\n", "hosts": "127.0.0.1 localhost\n"}
_KNOWN = {
    "automountServiceAccountToken", "containers", "dnsConfig", "dnsPolicy", "enableServiceLinks", "hostUsers",
    "hostname", "imagePullSecrets", "nodeSelector", "restartPolicy", "runtimeClassName", "securityContext",
    "terminationGracePeriodSeconds", "tolerations", "volumes",
}  # fmt: skip


def available() -> bool:
    """Whether this user may make such processes: root, outside of a confined container."""
    if os.geteuid() != 0:
        return False
    probe = "mount -t tmpfs tmpfs /mnt && mount -t proc proc /proc"
    argv = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--net", "sh", "-c", probe]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


class Container:
    """The processes of one pod."""

    def __init__(self, shim: asyncio.subprocess.Process, pid: int, rights: str) -> None:
        self.shim = shim
        self.pid = pid
        self._rights = rights

    async def exec(self, argv: list[str]) -> asyncio.subprocess.Process:
        """A program beside the first process, as the runtime's exec starts it."""
        pipe = asyncio.subprocess.PIPE
        enter = ["nsenter", "-t", str(self.pid), "-U", "-m", "-p", "-i", "-u", "-n", "--", "env", "-i", "PATH=/usr/bin"]
        limit = ["setpriv", "--bounding-set", self._rights, "--inh-caps=-all", "--no-new-privs", "--"]
        return await asyncio.create_subprocess_exec(*enter, *limit, *argv, stdin=pipe, stdout=pipe, stderr=pipe)

    def kill(self) -> None:
        """End all of its processes at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, 9)


class Node:
    """Where pods run. A claim is a folder that outlives them."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="node-"))
        self.folder.chmod(0o711)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def drop_claim(self, name: str) -> None:
        shutil.rmtree(self.folder / name, ignore_errors=True)

    async def run(self, pod: dict[str, Any]) -> Container:
        spec = pod["spec"]
        assert spec.keys() <= _KNOWN, spec.keys() - _KNOWN
        (container,) = spec["containers"]
        rights = "-all," + ",".join(f"+{name.lower()}" for name in container["securityContext"]["capabilities"]["add"])
        script = self._script(spec, container, rights)
        pipe = asyncio.subprocess.PIPE
        argv = [sys.executable, "-I", "-S", str(_SHIM), script]
        shim = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
        assert shim.stdin is not None
        assert shim.stdout is not None
        if await shim.stdout.readline() != b"users?\n":
            raise RuntimeError("no namespaces here")
        for kind in ("uid_map", "gid_map"):
            _write(f"/proc/{shim.pid}/{kind}", f"0 {_FIRST_USER} {_USERS}")
        shim.stdin.write(b".")
        pid = int(await shim.stdout.readline())
        if await shim.stdout.readline() != b"ready\n":
            raise RuntimeError("the pod's root cannot be laid out")
        return Container(shim, pid, rights)

    def _claim(self, name: str) -> Path:
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir()
            os.chown(folder, _FIRST_USER, _FIRST_USER)
        return folder

    def _script(self, spec: dict[str, Any], container: dict[str, Any], rights: str) -> str:
        """Lay out a root in memory, mount what the pod asks for, and become its program with its rights."""
        lines = ["set -e", "umask 022", "mount --make-rprivate /", "R=/mnt", "mount -t tmpfs -o mode=755 tmpfs $R"]
        lines += ["cd $R", "mkdir usr proc dev etc root run srv mnt home tmp var opt", "mkdir var/tmp"]
        lines += [f"[ -e /{name} ] && ln -s usr/{name} {name}" for name in ("bin", "sbin", "lib", "lib64")]
        lines += ["mount --rbind /usr usr && mount -o remount,bind,ro usr", "mount -t proc proc proc"]
        lines += ["[ -d /etc/alternatives ] && cp -a /etc/alternatives etc/"]
        lines += [f"touch dev/{name} && mount --bind /dev/{name} dev/{name}" for name in _DEVICES]
        lines += [f"printf %s {shlex.quote(text)} > etc/{name}" for name, text in _ETC.items()]
        lines += self._mounts(spec, container)
        lines += [f"mount --bind {path} {path} && mount -o remount,bind,ro {path}" for path in ("proc/sys", "proc/irq")]
        lines += [
            f"hostname {spec['hostname']}",
            "ip link set lo up",
            "mkdir old",
            "pivot_root . old",
            "umount -l /old",
        ]
        lines += ["rmdir /old", "cd /"]
        limits = [f"setpriv --bounding-set {rights} --inh-caps=-all --no-new-privs --"]
        program = " ".join(shlex.quote(word) for word in container["command"])
        return "\n".join(
            [
                *lines,
                f"echo ready; exec >/dev/null 2>&1 env -i PATH=/usr/bin KUBERNETES_PORT=x {' '.join(limits)} {program}",
            ]
        )

    def _mounts(self, spec: dict[str, Any], container: dict[str, Any]) -> list[str]:
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        lines = []
        for mount in container["volumeMounts"]:
            volume, inside = volumes[mount["name"]], mount["mountPath"].lstrip("/")
            lines.append(f"mkdir -p {inside}")
            if "emptyDir" in volume:
                lines.append(f"mount -t tmpfs -o mode=777 tmpfs {inside}")
            else:
                source = self._claim(volume["persistentVolumeClaim"]["claimName"]) / mount["subPath"]
                lines.append(f"mkdir -p -m 750 {source} && mount --bind {source} {inside}")
        return lines


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)
