"""Starts Python programs of ours as children of a process that has imported what they import already: `parent.py`.

A start of the server computes a third as long so. What it starts is a process of its own, with an environment,
descriptors and an end of its own. It must not be used by tests of a start itself, of memory, or of what other users see
of a process in /proc: the arguments and the environment that are seen there are the parent's.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

PARENT = Path(__file__).with_name("parent.py")
# Of the server, what a start on SQLite with a scripted model loads, as `test_preloaded` proves. Not the command line
# itself: it runs as `__main__`, anew in each child.
SERVER = (
    "hostler.applying.command",
    "hostler.commands.egress",
    "hostler.commands.environments",
    "hostler.commands.keys",
    "hostler.commands.layers",
    "hostler.commands.sessions",
    "hostler.models.script",
    "hostler.sandbox.bubblewrap",
    "hostler.sandbox.layers.building",
    "hostler.sandbox.layers.places",
    "hostler.serving",
    "hostler.store.sqlite",
    "uvicorn.lifespan.off",
    "uvloop",
)
# Of other commands, the libraries that most of them use: nothing of ours, which each must import itself.
COMMANDS = (
    "asyncio",
    "click",
    "concurrent.futures.thread",
    "cryptography.hazmat.primitives.ciphers.aead",
    "httpx2",
    "msgspec.json",
    "sqlalchemy.dialects.sqlite",
    "sqlite3",
    "uvloop",
    "yaml",
)
# What an interpreter, or a library, reads when it starts, and not again.
_READ_ONCE = ("PYTHON", "LD_", "LC_", "LANG", "TZ", "MALLOC_", "GLIBC_", "OPENSSL_", "UV_")
_lock = threading.Lock()
_parents: dict[tuple[object, ...], Parent] = {}


class Child:
    """A process that was forked for us: as `subprocess.Popen`, of which it has what tests use."""

    def __init__(self, argv: Sequence[str], told: socket.socket, stdout: IO[bytes]) -> None:
        self.args = argv
        self.stdout = stdout
        self.returncode: int | None = None
        self._told = told
        self._lock = threading.Lock()  # a timer of another thread may kill it
        content, (self._pidfd, *_), _, _ = socket.recv_fds(told, 64, 1)
        self.pid = int(content)

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal. Raises TimeoutExpired."""
        if self.returncode is None and not select.select([self._told], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
        with self._lock:
            if self.returncode is None:
                self.returncode = int(self._told.recv(64))
                self._told.close()
                os.close(self._pidfd)
        return self.returncode

    def send_signal(self, number: int) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError):  # it may have ended by itself just now
            if self.returncode is None:
                signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Parent:
    """One of `parent.py`, for as long as this process lives."""

    def __init__(self, modules: Sequence[str], environ: Mapping[str, str]) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(PARENT), str(theirs.fileno()), *modules],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self.close)

    def fork(self, request: dict[str, Any], handles: Sequence[int]) -> socket.socket:
        told, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._requests, [json.dumps(request).encode()], [*handles, theirs.fileno()])
        return told

    def close(self) -> None:
        self._requests.close()
        self._process.wait()


def start(
    argv: Sequence[str],
    *,
    environ: Mapping[str, str],
    stderr: IO[bytes],
    modules: Sequence[str] = SERVER,
    cwd: Path | None = None,
) -> Child:
    """Run `-m MODULE ARGUMENTS`, or `FILE ARGUMENTS`, with standard output in a pipe and no standard input."""
    module = argv[0] == "-m"
    request = {
        "argv": list(argv[1:] if module else argv),
        "module": module,
        "environ": dict(environ),
        "cwd": str(cwd or Path.cwd()),
        "umask": _umask(),
    }
    reader, writer = os.pipe()
    stdout = os.fdopen(reader, "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        told = _parent(modules, environ).fork(request, [nothing, writer, stderr.fileno()])
    finally:
        os.close(nothing)
        os.close(writer)
    return Child(argv, told, stdout)


def _parent(modules: Sequence[str], environ: Mapping[str, str]) -> Parent:
    """The one whose interpreter has started as one in this environment would."""
    read = {name: value for name, value in environ.items() if name.startswith(_READ_ONCE)}
    key = (*modules, *sorted(read.items()))
    with _lock:
        if key not in _parents:
            _parents[key] = Parent(modules, {"PATH": os.environ.get("PATH", os.defpath), **read})
        return _parents[key]


def _umask() -> int:
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("Umask")).split()[1], 8)
