"""Speaks with the init of one sandbox: requests and answers over its socket, on the event loop, without a thread.

`Link` is what any way to an init offers; `InitLink` is the way over its own socket, for an init on this machine.

Knows the wire of native/init.c and nothing of how the sandbox was made. It never retries and never starts anything.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
from abc import ABC, abstractmethod
from collections import deque
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from hostler.sandbox.contract import CommandResult, SandboxUnavailable, UnknownCall

VERSION = 2
MAX_PAYLOAD = 64 * 1024 * 1024
_REQUEST = struct.Struct("<IBBHII")
_ANSWER = struct.Struct("<IBBHiiQII")
ANSWER_BYTES = _ANSWER.size
_INLINE = 32 * 1024
_RECEIVE = 256 * 1024
_PAYLOAD_FD, _STDIN_FD, _AS_KEEPER = 1, 2, 4
_TIMED_OUT, _CANCELLED, _SHELL_ENDED, _BODY_FD, _NO_MEMORY = 1, 2, 4, 8, 16
_OK, _DUPLICATE, _UNKNOWN, _BUSY = 0, 1, 2, 3


class Op(IntEnum):
    """What the init can be asked for."""

    HELLO = 1
    EXEC = 2
    SHELL = 3
    RESTART = 4
    ATTACH = 5
    CANCEL = 6
    ACK = 7
    DUMP = 8
    RESTORE = 9
    LISTENER = 10
    SHUTDOWN = 11
    QUELL = 12
    HELD = 13
    CONFIGURE = 14


class Busy(Exception):
    """The init has no room for another call, or the shell is at work."""


class Refused(Exception):
    """The init could not do it."""


class Answer:
    """One message of the init; `fd` belongs to the receiver."""

    __slots__ = ("body", "err_len", "exit_code", "fd", "flags", "out_len", "output_bytes", "seq", "signal", "status")

    def __init__(self, message: bytes, fd: int) -> None:
        head = _ANSWER.unpack_from(message)
        self.seq, self.status, self.flags, _, self.exit_code, self.signal, *sizes = head
        self.output_bytes, self.out_len, self.err_len = sizes
        self.body = message[_ANSWER.size :]
        self.fd = fd

    @property
    def unknown(self) -> bool:
        """Whether the init knows no such call."""
        return bool(self.status == _UNKNOWN)

    def result(self) -> CommandResult:
        """Turn the end of a call into the contract's words."""
        if self.flags & _NO_MEMORY:
            raise SandboxUnavailable("the sandbox had no memory left to hand over a command's output")
        body = self.take() if self.flags & _BODY_FD else self.body
        return CommandResult(
            exit_code=self.exit_code if self.exit_code >= 0 else None,
            output=body[: self.out_len],
            errors=body[self.out_len : self.out_len + self.err_len],
            output_bytes=self.output_bytes,
            signal=self.signal or None,
            timed_out=bool(self.flags & _TIMED_OUT),
            cancelled=bool(self.flags & _CANCELLED),
            shell_ended=bool(self.flags & _SHELL_ENDED),
        )

    def take(self, size: int | None = None) -> bytes:
        """Read what came as a memory file, and close it."""
        wanted = self.out_len + self.err_len if size is None else size
        with open(self.fd, "rb") as file:
            self.fd = -1
            return file.read(wanted)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Request(NamedTuple):
    """What an init is asked for. `keeper`: a container's init runs the program as root, for the server itself."""

    seq: int
    op: Op
    call_id: bytes
    payload: bytes
    stdin: bytes
    timeout_ms: int
    keeper: bool

    def head(self, flags: int = 0) -> bytes:
        timeout = min(max(self.timeout_ms, 0), 0xFFFFFFFF)
        flags |= _AS_KEEPER if self.keeper else 0
        return _REQUEST.pack(self.seq, self.op, flags, len(self.call_id), timeout, len(self.payload))


class Link(ABC):
    """A connection to an init. Every request is a future under its sequence number."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._seq = 0
        self._why = "the sandbox has ended"
        self.closed: asyncio.Future[None] = self._loop.create_future()

    @abstractmethod
    def _send(self, request: Request) -> None:
        """Hand a request to the connection, without waiting."""

    @abstractmethod
    def _let_go(self) -> None:
        """Close what the connection is made of."""

    async def hello(self) -> None:
        """Make sure that an init of our version is at the other end."""
        answer = await self.ask(Op.HELLO)
        if answer.exit_code != VERSION:
            raise SandboxUnavailable(f"the sandbox speaks version {answer.exit_code} of its protocol, not {VERSION}")

    async def call(
        self,
        op: Op,
        call_id: str,
        payload: bytes = b"",
        *,
        stdin: bytes = b"",
        timeout_ms: int = 0,
        keeper: bool = False,
    ) -> CommandResult:
        """Run or attach to a call and wait for its end. Raises ValueError, `UnknownCall`, `SandboxUnavailable`."""
        answer = await self.ask(op, call_id, payload, stdin=stdin, timeout_ms=timeout_ms, keeper=keeper)
        try:
            if answer.status == _DUPLICATE:
                raise ValueError(f"call {call_id} was started before")
            if answer.status == _UNKNOWN:
                raise UnknownCall(call_id)
            if answer.status != _OK:
                raise SandboxUnavailable("the sandbox holds too many calls whose results nobody acknowledged")
            return answer.result()
        finally:
            answer.close()

    async def memory(self, op: Op) -> bytes:
        """Ask for something that comes as a memory file. Raises `Busy` or `Refused`."""
        answer = await self.ask(op)
        try:
            if answer.status != _OK:
                raise Busy(op.name) if answer.status == _BUSY else Refused(op.name)
            return answer.take(answer.exit_code) if answer.fd >= 0 else answer.body
        finally:
            answer.close()

    async def held_bytes(self) -> int:
        """The disk space, in whole MiB, of files without a name that processes inside have open."""
        answer = await self.ask(Op.HELD)
        answer.close()
        return max(int(answer.exit_code), 0) << 20

    async def ask(
        self,
        op: Op,
        call_id: str = "",
        payload: bytes = b"",
        *,
        stdin: bytes = b"",
        timeout_ms: int = 0,
        keeper: bool = False,
    ) -> Answer:
        """Send one request and wait for its answer. Cancelling drops the wait only."""
        if self.closed.done():
            raise SandboxUnavailable(self._why)
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a command of {len(payload)} bytes is too long (limit {MAX_PAYLOAD})")
        self._seq += 1
        seq = self._seq
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting[seq] = future
        try:
            name = call_id.encode("utf-8", "surrogatepass")
            self._send(Request(seq, op, name, payload, stdin, timeout_ms, keeper))
            return await future
        finally:
            self._forget(seq)

    def _forget(self, seq: int) -> None:
        """Nobody waits for that answer any more."""
        self._waiting.pop(seq, None)

    def _answered(self, message: bytes, fd: int) -> None:
        answer = Answer(message, fd)
        future = self._waiting.get(answer.seq)
        if future is None or future.done():
            answer.close()
        else:
            future.set_result(answer)

    def close(self, why: str = "") -> None:
        """Let go of the connection; who waits hears `why`. The sandbox and its calls go on."""
        if self.closed.done():
            return
        self._why = why or self._why
        self.closed.set_result(None)
        self._let_go()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(SandboxUnavailable(self._why))


class InitLink(Link):
    """The init's own socket: what is long goes as a memory file."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        self._unsent: deque[tuple[list[bytes], list[int]]] = deque()
        self._loop.add_reader(sock.fileno(), self._readable)

    async def listener(self) -> socket.socket:
        """Return the socket on which the sandbox's programs reach the egress proxy."""
        answer = await self.ask(Op.LISTENER)
        if answer.fd < 0:
            raise Refused(Op.LISTENER.name)
        return socket.socket(fileno=answer.fd)

    def _send(self, request: Request) -> None:
        flags, fds, inline = 0, [], request.payload
        if len(request.payload) > _INLINE:
            flags, inline = _PAYLOAD_FD, b""
            fds.append(_memory_file(request.payload))
        if request.stdin:
            flags |= _STDIN_FD
            fds.append(_memory_file(request.stdin))
        self._unsent.append(([request.head(flags) + request.call_id + inline], fds))
        self._flush()

    def _flush(self) -> None:
        while self._unsent:
            buffers, fds = self._unsent[0]
            try:
                socket.send_fds(self._sock, buffers, fds)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError:
                self.close()
                return
            self._unsent.popleft()
            _close_all(fds)
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            message, fds, _, _ = socket.recv_fds(self._sock, _RECEIVE, 1, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            message, fds = b"", []
        if len(message) < _ANSWER.size:
            _close_all(fds)
            self.close()
            return
        self._answered(message, fds[0] if fds else -1)

    def _let_go(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for _, fds in self._unsent:
            _close_all(fds)
        self._unsent.clear()


async def connect(path: Path) -> InitLink | None:
    """Connect to the init that listens at `path`; None when there is none (any more)."""
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        # Through the folder's descriptor: a socket's path may have 107 bytes at most, a data folder's may be longer.
        sock.connect(f"/proc/self/fd/{folder}/{path.name}")
    except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
        sock.close()
        return None
    finally:
        os.close(folder)
    return InitLink(sock)


def listen(path: Path) -> socket.socket:
    """Make the socket that an init will listen on."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        path.unlink(missing_ok=True)
        sock.bind(f"/proc/self/fd/{folder}/{path.name}")
        sock.listen(16)
    except OSError:
        sock.close()
        raise
    finally:
        os.close(folder)
    return sock


def _memory_file(data: bytes) -> int:
    """Sealed: a program inside gets it as its input, and could keep in it what no limit of memory sees."""
    fd = os.memfd_create("hostler", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return fd


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
