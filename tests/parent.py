"""The parent of preloaded processes: a program that imports modules, and then forks.

Run by `preloaded.py`, which names the modules, and says what to run. It must open nothing, start no thread and run no
code of theirs: what a child gets is modules, and everything else as a fresh interpreter has it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from typing import Any

REQUEST_BYTES = 1 << 20


class Parent:
    """Forks a child for each request, tells the requester its id and a handle, and, later, how it ended."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._ready = selectors.DefaultSelector()
        self._ready.register(requests, selectors.EVENT_READ)
        self._children: dict[int, tuple[int, socket.socket]] = {}  # by pidfd: the process id, whom to tell

    def serve(self) -> dict[str, Any] | None:
        """Return in each child with what it is to run, and with None in the parent when nobody can ask any more."""
        while True:
            for key, _ in self._ready.select():
                if key.fileobj is not self._requests:
                    self._ended(key.fd)
                elif (asked := self._next()) is None:
                    self._end()
                    return None
                elif (request := self._fork(*asked)) is not None:
                    return request

    def _next(self) -> tuple[dict[str, Any], list[int]] | None:
        content, handles, _, _ = socket.recv_fds(self._requests, REQUEST_BYTES, 4)
        return (json.loads(content), handles) if content else None

    def _fork(self, request: dict[str, Any], handles: list[int]) -> dict[str, Any] | None:
        assert len(os.listdir("/proc/self/task")) == 1, "a child of a process with threads is no fresh one"
        pid = os.fork()
        if not pid:
            self._let_go()
            _be_fresh(request, handles)
            return request
        teller = socket.socket(fileno=handles.pop())
        for handle in handles:
            os.close(handle)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = pid, teller
        self._ready.register(pidfd, selectors.EVENT_READ)
        socket.send_fds(teller, [str(pid).encode()], [pidfd])
        return None

    def _ended(self, pidfd: int) -> None:
        pid, teller = self._children.pop(pidfd)
        self._ready.unregister(pidfd)
        os.close(pidfd)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with teller, contextlib.suppress(OSError):  # whoever started it may have forgotten it
            teller.send(str(status).encode())

    def _let_go(self) -> None:
        """In a child: leave no object behind that would close a number which is another's by then."""
        self._ready.close()
        self._requests.close()
        for pidfd, (_, teller) in self._children.items():
            os.close(pidfd)
            teller.close()

    def _end(self) -> None:
        """The tests are over, or were killed: their servers end with them."""
        for pid, _ in self._children.values():
            os.kill(pid, signal.SIGKILL)
        while self._children:
            self._ended(next(iter(self._children)))


def _be_fresh(request: dict[str, Any], handles: list[int]) -> None:
    for number, handle in enumerate(handles[:3]):
        os.dup2(handle, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGINT, _at_interrupt)
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = request["argv"]
    sys.path[0] = os.getcwd() if request["module"] else os.path.dirname(request["argv"][0])


def _run(request: dict[str, Any]) -> None:
    """As the interpreter's `-m MODULE`, or `FILE`, does it."""
    if request["module"]:
        runpy.run_module(request["argv"][0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(request["argv"][0], run_name="__main__")


_at_interrupt = signal.getsignal(signal.SIGINT)


def main() -> None:
    # A Ctrl-C reaches the whole group. The tests that it ends are what ends this process, by the end of its requests.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that no child copies it all to look for garbage; a server does the same when it is ready
    request = Parent(socket.socket(fileno=int(sys.argv[1]))).serve()
    if request is not None:
        _run(request)


if __name__ == "__main__":
    main()
