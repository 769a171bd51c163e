"""Gives sandboxes with an open network an interface: a process `hostler-init raw` for each, which carries its packets.

It fails closed: what cannot be set up leaves a sandbox without an interface, and with the proxy alone. It must not
decide which addresses may be reached: that is `addresses`' word, which it hands on.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

from hostler import addresses
from hostler.sandbox import launcher, native
from hostler.sandbox.contract import Check, Network, SandboxUnavailable
from hostler.sandbox.live import State
from hostler.sandbox.rootfs import Layout

log = logging.getLogger(__name__)

# As in native/raw.h: of a network that is kept for examples, so that nobody has them.
_NAME_SERVERS = ("192.0.2.53", "192.0.2.54", "192.0.2.55")
_RESOLV_CONF = Path("/etc/resolv.conf")
_READY_SECONDS = 5.0
_NAME = "sandbox: raw network"


class RawNetwork:
    """One for each backend. `off` says why sandboxes shall have no interface; empty when they may."""

    def __init__(self, *, off: str = "", tun: Path = Path("/dev/net/tun")) -> None:
        self._off = off
        self._tun = tun
        self._told = False

    def serves(self, network: Network) -> bool:
        """Whether a sandbox with that network shall have an interface."""
        if network.hosts is not None or self._off:
            return False
        if problem := self._problem():
            self._tell(problem)
        return not problem

    def check(self) -> Check:
        """The line of `hostler doctor`."""
        if self._off:
            return Check(name=_NAME, ok=True, detail=f"off: {self._off}", required=False)
        problem = self._problem()
        remedy = "let the server use it for TCP and UDP beside the proxy; see docs/sandbox.md" if problem else ""
        detail = problem or "TCP and UDP where the network is unrestricted"
        return Check(name=_NAME, ok=not problem, detail=detail, remedy=remedy, required=False)

    def name_servers(self) -> list[str]:
        """The name servers as the sandbox sees them: one for each of the machine's, at most three."""
        with contextlib.suppress(OSError):
            lines = _RESOLV_CONF.read_text(errors="replace").splitlines()
            count = sum(line.split()[:1] == ["nameserver"] for line in lines)
            return list(_NAME_SERVERS[: max(1, count)])
        return [_NAME_SERVERS[0]]

    def start(self, layout: Layout, uid: int | None, groups: list[int]) -> SideDoor | None:
        """Begin to give the sandbox that was just started its interface."""
        read_ready, write_ready = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, write_ready)
            try:
                init = msgspec.json.decode(layout.state.read_bytes(), type=State).init
                handle = os.pidfd_open(init.pid)
                stack.callback(os.close, handle)
                if launcher.running(init.pid) != init:
                    raise ProcessLookupError(init.pid)
                argv = self._command_line(uid, groups, write_ready, init.pid, handle)
                child = launcher.spawn(argv, layout.raw_log, [write_ready, handle, *groups])
            except (OSError, SandboxUnavailable) as error:
                os.close(read_ready)
                self._tell(str(error))
                return None
        return SideDoor(child, read_ready, layout.raw_log, self._tell)

    def _command_line(self, uid: int | None, groups: list[int], ready: int, pid: int, handle: int) -> list[str]:
        words = [str(native.program("hostler-init")), "raw"]
        words += [word for fd in groups for word in ("--join", str(fd))]
        words += [] if uid is None else ["--drop", str(uid), str(uid)]
        words += [word for network in addresses.networks_not_public() for word in ("--deny", network)]
        return [*words, "--ready", str(ready), str(pid), str(handle)]

    def _problem(self) -> str:
        try:
            with open(self._tun, "rb+", buffering=0):
                return ""
        except OSError as error:
            return f"cannot open {self._tun}: {error.strerror}"

    def _tell(self, problem: str) -> None:
        if not self._told:
            log.warning("sandboxes have no raw network, only the proxy: %s", problem)
        self._told = True


class SideDoor:
    """The process that carries one sandbox's packets. It ends by itself, with the sandbox."""

    def __init__(self, child: int, ready: int, said: Path, tell: Callable[[str], None]) -> None:
        self.child = child
        self._ready = ready
        self._said = said
        self._tell = tell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._ready)

    async def ready(self) -> None:
        """Wait until the interface stands, or never will."""
        try:
            word = await launcher.read_word(self._ready, b"ready", _READY_SECONDS)
        except SandboxUnavailable:
            word = b""
        if word != b"ready":
            self._tell(launcher.explain(self._said))
