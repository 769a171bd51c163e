"""Lays out the directory that a sandbox lives from: a read-only skeleton, and the folders the agent may write.

Only the host writes to the skeleton, so it holds no link of the agent's making. Nothing here starts a process.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from hostler.sandbox.contract import LAYERS, OUTPUTS, UPLOADS, WORKSPACE, SandboxSpec

HOME = "/home/agent"
UID = 1000  # of the agent, as seen inside
PROGRAMS = "/opt/hostler"
PYTHON = f"{PROGRAMS}/python"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROXY = "http://127.0.0.1:3128"

# folder of the agent's -> where it is inside
WRITABLE = {
    "workspace": WORKSPACE,
    "home": HOME,
    "tmp": "/tmp",
    "vartmp": "/var/tmp",
    "outputs": OUTPUTS,
    "user": "/mnt/user",  # where published examples let the agent copy its inputs to
}
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC_SHARED = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime")
_ETC = {
    "passwd": f"root:x:0:0:root:/root:/bin/sh\nagent:x:{UID}:{UID}:agent:{HOME}:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "group": f"root:x:0:\nagent:x:{UID}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "hostname": "sandbox\n",
    "protocols": "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\n",
    "services": "http 80/tcp\nhttps 443/tcp\nssh 22/tcp\ndomain 53/tcp\ndomain 53/udp\n",
}
_NSSWITCH = "passwd: files\ngroup: files\nhosts: {hosts}\nservices: files\nprotocols: files\n"
_LAUNCHERS = ("pip", "pip3")


def name_service(servers: Sequence[str]) -> dict[str, str]:
    """The files of /etc that say who resolves names; they may differ from one start of a sandbox to the next."""
    if not servers:
        text = "# No name server: names are resolved by the proxy outside.\n"
        return {"resolv.conf": text, "nsswitch.conf": _NSSWITCH.format(hosts="files")}
    text = "".join(f"nameserver {server}\n" for server in servers) + "options edns0\n"
    return {"resolv.conf": text, "nsswitch.conf": _NSSWITCH.format(hosts="files dns")}


class Bind(msgspec.Struct, frozen=True):
    """A file or folder of the host that appears inside."""

    source: Path
    target: str
    writable: bool = False


class Layout:
    """The paths of one session's directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"  # the skeleton, read-only inside
        self.files = folder / "files"  # one folder for each place the agent may write
        self.socket = folder / "init.sock"
        self.state = folder / "state.json"
        self.shell_state = folder / "shell.state"
        self.fresh = folder / "fresh"  # it stands while a started sandbox has not been given its shell state
        self.inputs = folder / "inputs.json"  # what is mounted: target -> the host's file
        self.log = folder / "launch.log"
        self.raw_log = folder / "raw.log"

    @property
    def outputs(self) -> Path:
        return self.files / "outputs"

    def extra(self, target: str) -> Path:
        """The folder that appears at `target`, which is outside of the usual ones."""
        return self.files / f"at-{hashlib.sha256(target.encode()).hexdigest()[:16]}"

    def writable(self, target: str) -> tuple[Path, str] | None:
        """Return the agent's folder that holds `target`, and the rest of the path below it."""
        for name, inside in WRITABLE.items():
            if target.startswith(inside + "/"):
                return self.files / name, target[len(inside) + 1 :]
        return None


def system_binds() -> list[Bind]:
    """The host's programs and libraries, and the few public files of /etc that they need."""
    binds = [Bind(Path("/usr"), "/usr")]
    binds += [Bind(Path(f"/{n}"), f"/{n}") for n in _SYSTEM[1:] if not _is_link(n) and Path(f"/{n}").is_dir()]
    binds += [Bind(Path(p).resolve(), p) for p in _ETC_SHARED if Path(p).exists()]
    return binds


def shared_binds(spec: SandboxSpec) -> list[Bind]:
    """What this sandbox shares with others: its folders and its layers."""
    folders = [Bind(folder.source, folder.target) for folder in spec.shared]
    return folders + [Bind(layer.source, f"{LAYERS}/{layer.key}") for layer in spec.layers]


def in_agents_folders(target: str) -> bool:
    """Whether a folder there would lie in one of the agent's, or hide one."""
    return any(f"{target}/".startswith(f"{own}/") or own.startswith(f"{target}/") for own in WRITABLE.values())


def python_bind() -> Bind | None:
    """The server's own Python, where the host's has no pip to give the agent."""
    if Path("/usr/bin/python3").exists() and Path("/usr/bin/pip3").exists():
        return None
    prefix = Path(sys.base_prefix)
    if prefix == Path("/usr") or not (prefix / "bin" / "python3").exists():
        return None
    return Bind(prefix, PYTHON)


def ca_bundle(given: Path | None) -> Path | None:
    """The certificates that the host trusts, as one file: public data, and what a company's own authority is in."""
    candidates = [
        given,
        Path(ssl.get_default_verify_paths().cafile or "/nonexistent"),
        Path(CA_BUNDLE),
        Path("/etc/pki/tls/certs/ca-bundle.crt"),
        Path("/etc/ssl/cert.pem"),
    ]
    return next((path for path in candidates if path is not None and path.is_file()), None)


def environment(extra: dict[str, str], *, proxied: bool) -> dict[str, str]:
    """The whole environment of the agent's programs: built from nothing, never from the server's own."""
    env = {
        "PATH": f"{HOME}/.local/bin:{PROGRAMS}/bin:{SYSTEM_PATH}",
        "HOME": HOME,
        "USER": "agent",
        "LOGNAME": "agent",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "NPM_CONFIG_PREFIX": f"{HOME}/.local",  # so that `npm install -g` works, and its programs are on PATH
        "GOBIN": f"{HOME}/.local/bin",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    certificates = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")
    env |= dict.fromkeys((*certificates, "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO"), CA_BUNDLE)
    if proxied:
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
        env |= dict.fromkeys(names, PROXY)
        env |= dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1")
        env["NODE_USE_ENV_PROXY"] = "1"
    return env | extra


def outside(folders: Sequence[str]) -> list[str]:
    """Those of the writable folders that need a mount of their own: the others lie in the agent's folders."""
    roots = WRITABLE.values()
    return [folder for folder in folders if not any(f"{folder}/".startswith(f"{root}/") for root in roots)]


def make_skeleton(
    layout: Layout, binds: list[Bind], folders: Sequence[str] = (), etc: Mapping[str, str] | None = None
) -> None:
    """Make the read-only root with a mount point for everything that is bound into it. Safe to repeat."""
    root = layout.root
    made = ("dev", "proc", "etc", "root", "run", "srv", "var", "opt/hostler/bin", "mnt/session/uploads")
    for name in (*made, *(inside.lstrip("/") for inside in (*WRITABLE.values(), *outside(folders)))):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in _SYSTEM:
        if _is_link(name):
            _link(root / name, os.readlink(f"/{name}"))
    _link(root / "uploads", UPLOADS)
    for name, text in _ETC.items():
        _write(root / "etc" / name, text)
    for name, text in (etc or {}).items():
        (root / "etc" / name).write_text(text)
        (root / "etc" / name).chmod(0o644)
    _link(root / "etc/mtab", "/proc/self/mounts")
    for bind in binds:
        _mount_point(root / bind.target.lstrip("/"), bind.source)
    _make_launchers(root, any(bind.target == PYTHON for bind in binds))


def _make_launchers(root: Path, own_python: bool) -> None:
    """`python` where only `python3` is; launchers, since our own Python's scripts name its path on the host."""
    folder = root / "opt/hostler/bin"
    if not own_python:
        if Path("/usr/bin/python3").exists() and not Path("/usr/bin/python").exists():
            _link(folder / "python", "/usr/bin/python3")
        return
    for name in ("python3", "python"):
        _link(folder / name, f"{PYTHON}/bin/python3")
    for name in _LAUNCHERS:
        _write(folder / name, '#!/bin/sh\nexec python3 -m pip "$@"\n', 0o755)


def make_writable(layout: Layout, uid: int | None, folders: Sequence[str] = ()) -> None:
    """Make the agent's folders; `uid` is the host's user that they belong to when it is not the server's own."""
    layout.files.mkdir(exist_ok=True)
    for folder in (*(layout.files / name for name in WRITABLE), *(layout.extra(f) for f in outside(folders))):
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        folder.chmod(0o1777 if folder.name in ("tmp", "vartmp") else 0o755)
        if uid is not None:
            os.chown(folder, uid, uid)


def _is_link(name: str) -> bool:
    return name != "usr" and Path(f"/{name}").is_symlink()


def _link(path: Path, to: str) -> None:
    if not path.is_symlink():
        path.symlink_to(to)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    if not path.exists():
        path.write_text(text)
        path.chmod(mode)


def _mount_point(path: Path, source: Path) -> None:
    if source.is_dir():
        path.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o644)
