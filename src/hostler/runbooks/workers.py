"""A worker's process as the server has it: started with one socket and nothing of the server's, asked, watched, ended.

It must not know what a task is about.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

from hostler.runbooks import messages as m

log = logging.getLogger(__name__)

PING_SECONDS = 5.0
LOG_SECONDS = 2.0  # for what it has still said; it may have closed the socket and gone on
MAX_ASKED = 2000
MAX_ASKED_BYTES = 4 * m.MAX_MESSAGE
LAST_LINES = 50
MAX_LINE = 2000
READ_BYTES = 64 * 1024
_PROCESS = "hostler.runbooks.worker.process"
# What of the server's environment a bundle may see; its configuration brings the rest.
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")

Confine = Callable[[list[str]], Awaitable[list[str]]]
Serve = Callable[[m.OfWorker], Awaitable[m.Reply | None]]


class Stalled(Exception):
    """The runbook's code has not let go for too long."""


class Gone(Exception):
    """The process has ended; what it was asked it does not answer any more."""


class Worker:
    def __init__(self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._process = process
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._begun = asyncio.Event()
        self._gone = False
        self._answers: dict[int, asyncio.Future[m.OfWorker]] = {}
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)

    @classmethod
    async def start(cls, environ: Mapping[str, str], module: str = _PROCESS, confine: Confine | None = None) -> Worker:
        """`module` is what the process runs, `confine` makes its command line another. Raises OSError, and what
        `confine` raises."""
        command = [sys.executable, "-m", module]
        if confine is not None:
            command = await confine(command)
        ours, theirs = socket.socketpair()
        with theirs:
            passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
            process = subprocess.Popen(  # noqa: ASYNC220 - it does not wait
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**passed, **environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=m.MAX_MESSAGE)
        return cls(process, reader, writer)

    async def run(self, begin: m.Begin, serve: Serve, *, stall_seconds: float) -> int:
        """Let it work, and answer what it asks, until it ends; its exit status. Cancelled, it is killed. Raises
        Stalled, BadMessage."""
        try:
            async with asyncio.TaskGroup() as group:
                logs = group.create_task(self._read_log())
                watch = group.create_task(self._watch(stall_seconds))
                await self._send(begin)
                self._begun.set()
                await self._receive(group, serve)
                watch.cancel()
                await asyncio.wait({logs}, timeout=LOG_SECONDS)
                logs.cancel()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            status = await self.end()
        return status

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    async def end(self) -> int:
        """Kill it with all that it has started, and bury it; its exit status."""
        self.kill()
        self._gone = True
        self._begun.set()  # nobody waits for that any more
        self._writer.close()
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(Gone())
        if self._process.stderr is not None:
            self._process.stderr.close()
        return await asyncio.shield(asyncio.to_thread(self._process.wait))

    def kill(self) -> None:
        """End it with all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _receive(self, group: asyncio.TaskGroup, serve: Serve) -> None:
        asked: dict[int, asyncio.Task[None]] = {}
        try:
            await self._take(group, serve, asked)
        finally:
            for task in asked.values():
                task.cancel()

    async def _take(self, group: asyncio.TaskGroup, serve: Serve, asked: dict[int, asyncio.Task[None]]) -> None:
        held: dict[int, int] = {}  # the sizes of what was asked and is not answered yet
        while (data := await m.read(self._reader)) is not None:
            message = m.decode_of_worker(data)
            if isinstance(message, m.Answer | m.Pong):
                waiting = self._answers.pop(message.id, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
            elif isinstance(message, m.Append):
                await self._reply(serve, message)  # in order: what comes after it may stand on it
            elif isinstance(message, m.Rest | m.Show):
                await serve(message)
            elif isinstance(message, m.Forget):
                if (task := asked.get(message.asked)) is not None:
                    await self._forget(serve, message, task)
            else:
                held[message.id] = len(data)
                if message.id in asked or len(held) > MAX_ASKED or sum(held.values()) > MAX_ASKED_BYTES:
                    raise m.BadMessage("more is asked at once than can be answered")
                task = asked[message.id] = group.create_task(self._reply(serve, message))
                task.add_done_callback(functools.partial(_let_go, asked, held, message.id))

    async def _forget(self, serve: Serve, message: m.Forget, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait({task})
        await serve(message)

    async def _reply(self, serve: Serve, message: m.OfWorker) -> None:
        reply = await serve(message)
        if reply is not None:
            await self._send(reply)

    async def _send(self, message: m.Message) -> None:
        if self._writer.is_closing():
            return
        with contextlib.suppress(ConnectionError):  # it has ended: reading finds out
            self._writer.write(m.framed(message))
            await self._writer.drain()

    async def send(self, message: m.Signal | m.Cancel) -> None:
        """Once it has begun."""
        await self._begun.wait()
        await self._send(message)

    async def ask(self, make: Callable[[int], m.Query | m.Ping], seconds: float) -> m.OfWorker:
        """Raises TimeoutError, Gone."""
        if self._gone:
            raise Gone
        number = next(self._ids)
        waiting: asyncio.Future[m.OfWorker] = asyncio.get_running_loop().create_future()
        self._answers[number] = waiting
        try:
            async with asyncio.timeout(seconds):
                await self._send(make(number))
                return await waiting
        finally:
            self._answers.pop(number, None)

    async def query(self, name: str, seconds: float) -> m.Answer:
        """Raises TimeoutError, Gone."""
        await self._begun.wait()
        answer = await self.ask(lambda number: m.Query(id=number, name=name), seconds)
        assert isinstance(answer, m.Answer)
        return answer

    async def _watch(self, stall_seconds: float) -> None:
        """A runbook whose code never lets go can't be cancelled, and answers nobody."""
        while True:
            await asyncio.sleep(min(PING_SECONDS, stall_seconds))
            try:
                await self.ask(lambda number: m.Ping(id=number), stall_seconds)
            except TimeoutError:
                raise Stalled(f"The runbook's code has kept the task busy for {stall_seconds:g} seconds.") from None

    async def _read_log(self) -> None:
        """Keep the last of what it says. By its number alone: a transport of uvloop would close that twice, and what
        another thread has opened in between would be gone."""
        assert self._process.stderr is not None
        number, loop, ended = self._process.stderr.fileno(), asyncio.get_running_loop(), asyncio.Event()
        os.set_blocking(number, False)
        part = b""

        def readable() -> None:
            nonlocal part
            with contextlib.suppress(BlockingIOError):
                if not (data := os.read(number, READ_BYTES)):
                    ended.set()
                    loop.remove_reader(number)
                *lines, part = (part + data).split(b"\n")
                last = lines[-LAST_LINES:]  # of what may be thousands
                self.last_lines += (line.decode(errors="replace").rstrip()[:MAX_LINE] for line in last)
                part = part[: 4 * MAX_LINE]  # bytes, of which a character has four at most

        loop.add_reader(number, readable)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(number)
            if part:
                self.last_lines.append(part.decode(errors="replace")[:MAX_LINE])


def _let_go(asked: dict[int, asyncio.Task[None]], held: dict[int, int], number: int, _: asyncio.Task[None]) -> None:
    asked.pop(number, None)
    held.pop(number, None)


def last_words(worker: Worker) -> str:
    return "\n".join(worker.last_lines)
