"""Runs a container engine for tests: its own daemon, in folders that go afterwards, with no network and no registry."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, socket

from engines import image

IMAGE = "hostler-sandbox"
_START_SECONDS = 60.0
_DOCKERD = ("--iptables=false", "--ip6tables=false", "--bridge=none")


class _Unix(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket(AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def available(kind: str) -> bool:
    """Whether this user can have such an engine of its own here."""
    programs = {"docker": ["dockerd", "containerd", "runc"], "podman": ["podman", "conmon", "runc"]}[kind]
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return os.geteuid() == 0 and all(shutil.which(program, path=path) for program in programs)


@contextlib.contextmanager
def running(kind: str, folder: Path) -> Iterator[str]:
    """Start it and give it the test image; yield its address."""
    folder.mkdir(parents=True)
    sock = folder / "engine.sock"
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            _command(kind, folder, sock),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd=folder,  # where podman's monitor notes that memory ran out
        )
    try:
        _until_it_answers(process, sock, log)
        _import_image(sock, folder)
        yield f"unix://{sock}"
        _remove_containers(sock)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()
        _clear(folder)


def _command(kind: str, folder: Path, sock: Path) -> list[str]:
    if kind == "docker":
        roots = ["--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"), "-p", str(folder / "pid")]
        return ["dockerd", *_DOCKERD, *roots, "-H", f"unix://{sock}"]
    # runc, because crun of some distributions refuses machines with both versions of control groups
    roots = ["--root", str(folder / "root"), "--runroot", str(folder / "run"), "--runtime", shutil.which("runc") or ""]
    return ["podman", *roots, "--cgroup-manager=cgroupfs", "system", "service", "--time=0", f"unix://{sock}"]


def _until_it_answers(process: subprocess.Popen[bytes], sock: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            if _ask(sock, "GET", "/_ping") == 200:
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the engine did not start:\n{log.read_text()[-3000:]}") from error
        time.sleep(0.05)


def _ask(sock: Path, method: str, path: str, body: Path | None = None) -> int:
    connection = _Unix(sock)
    try:
        if body is None:
            connection.request(method, path)
        else:
            with body.open("rb") as file:
                headers = {"Content-Type": "application/x-tar", "Content-Length": str(body.stat().st_size)}
                connection.request(method, path, file, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def _import_image(sock: Path, folder: Path) -> None:
    tar = folder / "image.tar"
    image.build(tar)
    query = urllib.parse.urlencode({"fromSrc": "-", "repo": IMAGE, "tag": "latest"})
    status = _ask(sock, "POST", f"/v1.40/images/create?{query}", tar)
    assert status == 200, f"the image was refused: {status}"
    tar.unlink()


def _remove_containers(sock: Path) -> None:
    connection = _Unix(sock)
    connection.request("GET", "/v1.40/containers/json?all=true")
    found = json.loads(connection.getresponse().read())
    connection.close()
    for container in found:
        _ask(sock, "DELETE", f"/v1.40/containers/{container['Id']}?force=true&v=true")


def _clear(folder: Path) -> None:
    """What a daemon leaves mounted keeps its folder from going, and what it started last may still mount something."""
    for _ in range(100):
        _end_what_works_in(folder)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in sorted((path for path in mounts if path.startswith(f"{folder}/")), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def _end_what_works_in(folder: Path) -> None:
    """podman's monitors go on for minutes after their containers; each names its folder in its arguments."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{folder}/".encode() in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)
